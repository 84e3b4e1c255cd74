package simulate_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/balance/simulate"
)

// Whatever happens to a fleet, the plan brings it back within the tolerance, and
// the bytes it moves are near what has to move at least, and never below it.
func TestCases(t *testing.T) {
	p := balance.DefaultPolicy()
	even, err := simulate.Fleet{Seed: 2, Shards: 10, Tenants: 2000}.Make()
	require.NoError(t, err)
	for _, c := range simulate.Cases {
		f, sc := c.Happen(even, 2)
		assumed, err := sc.Apply(f)
		require.NoError(t, err)
		before, err := balance.Stand(assumed, &p)
		require.NoError(t, err)
		plan, err := balance.Make(f, &p, balance.Ask{Scenario: sc})
		require.NoError(t, err)
		o, err := simulate.Judge(assumed, &p, plan)
		require.NoError(t, err)
		require.LessOrEqual(t, o.Worst, 1.06, c.Name)
		require.Greater(t, o.Bytes, before.LeastBytes*0.999, c.Name)
		if c.Name != "hot" { // few bytes: those that have to step aside for the hot ones are most of them
			require.Less(t, o.Bytes, before.LeastBytes*1.15, c.Name)
		}
		for _, r := range simulate.Rivals {
			rival, err := r.Play(assumed, &p)
			require.NoError(t, err)
			require.Greater(t, rival.Worst, o.Worst-0.01, "%s: %s", c.Name, r.Name)
		}
	}
}

func TestMade(t *testing.T) {
	for _, g := range []simulate.Fleet{
		{Seed: 3, Shards: 1, Tenants: 1}, {Seed: 3, Shards: 15, Tenants: 300, Mixed: true},
		{Seed: 3, Shards: 15, Tenants: 300, Mixed: true, Spread: simulate.Hashed}, {Seed: 3, Shards: 4, Tenants: 50, Spread: simulate.OneFar},
	} {
		f, err := g.Make()
		require.NoError(t, err)
		require.NoError(t, f.Validate())
		again, err := g.Make()
		require.NoError(t, err)
		require.Equal(t, f, again, "the same seed")
	}
	for _, g := range []simulate.Fleet{{Shards: 0, Tenants: 1}, {Shards: 1}, {Shards: 1, Tenants: 1, Spread: "odd"}, {Shards: 14, Tenants: 1, Mixed: true}} {
		_, err := g.Make()
		require.ErrorIs(t, err, balance.ErrInvalid)
	}
}
