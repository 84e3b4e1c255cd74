package balance_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/shardmap"
)

// On tiny fleets every placement can be tried, and every way to it.

// reachable tells whether moves that break nothing lead to a placement in which
// everybody may be where he is.
func reachable(f *balance.Fleet, p balance.Policy) bool {
	b := open(f, p)
	key := func() (k string) {
		for i := range f.Tenants {
			k += string(b.at[f.Tenants[i].ID]) + " "
		}
		return k
	}
	settled := func() bool {
		for i := range f.Tenants {
			s := b.shards[b.at[f.Tenants[i].ID]]
			if s.State == balance.Draining || s.State != balance.Down && b.mayBeAt(&f.Tenants[i], s) != "" {
				return false
			}
		}
		return true
	}
	seen := map[string]bool{}
	var search func() bool
	search = func() bool {
		if seen[key()] {
			return false
		}
		seen[key()] = true
		if settled() {
			return true
		}
		for i := range f.Tenants {
			t := &f.Tenants[i]
			from := b.at[t.ID]
			if needs(t).Pinned || b.shards[from].State == balance.Down {
				continue
			}
			for j := range f.Shards {
				to := &f.Shards[j]
				if to.ID == from || to.State != balance.Active || b.mayBeAt(t, to) != "" {
					continue
				}
				b.at[t.ID] = to.ID
				if b.overfull(to) < 0 && search() {
					return true
				}
				b.at[t.ID] = from
			}
		}
		return false
	}
	return search()
}

// A plan is refused only where there is none, but for a few in a hundred: those
// that take several tenants stepping aside for each other.
func TestRefusalsAgainstEveryWayThereIs(t *testing.T) {
	for name, draw := range map[string]func(*rapid.T) *balance.Fleet{
		"odd":   func(t *rapid.T) *balance.Fleet { return drawFleet(t, 3, 5) },
		"tight": tightFleet,
	} {
		t.Run(name, func(t *testing.T) {
			tiny, p := rapid.Custom(draw), balance.DefaultPolicy()
			possible, missed := 0, 0
			for seed := range 400 {
				f := tiny.Example(seed)
				_, err := balance.Make(f, &p, balance.Ask{Now: now})
				if !reachable(f, p) {
					require.Error(t, err, "seed %d: planned what is impossible", seed)
					continue
				}
				possible++
				if err != nil {
					missed++
					t.Logf("seed %d: possible, and refused: %v", seed, err)
				}
			}
			t.Logf("%d of %d were possible, %d of those were refused", possible, 400, missed)
			require.Greater(t, possible, 100)
			require.Less(t, missed, possible/25)
		})
	}
}

// tightFleet draws fleets with a shard to be emptied and hardly any room for who was on it.
func tightFleet(t *rapid.T) *balance.Fleet {
	f := &balance.Fleet{}
	for i := range rapid.IntRange(3, 4).Draw(t, "shards") {
		f.Shards = append(f.Shards, balance.Shard{
			ID: shardmap.ShardID(fmt.Sprintf("s%d", i+1)), State: balance.Active, Region: rapid.SampledFrom([]string{"eu", "us"}).Draw(t, "region"),
			Capacity: balance.Vector{balance.Bytes: rapid.SampledFrom([]float64{50, 75}).Draw(t, "bytes")},
		})
	}
	f.Shards[0].State = balance.Draining
	for i := range rapid.IntRange(4, 7).Draw(t, "tenants") {
		n := balance.Needs{Region: rapid.SampledFrom([]string{"", "", "", "us"}).Draw(t, "region"), Apart: rapid.SampledFrom([]string{"", "", "a", "b"}).Draw(t, "apart")}
		f.Tenants = append(f.Tenants, tenant(fmt.Sprintf("t%d", i+1), rapid.SampledFrom(f.Shards).Draw(t, "shard").ID, rapid.SampledFrom([]float64{5, 10, 20, 30}).Draw(t, "bytes"), n))
	}
	return f
}

// What a plan leads to against the best of all placements.
func TestBalanceAgainstEveryPlacement(t *testing.T) {
	p := balance.DefaultPolicy()
	const fleets = 60
	sum, worst := 0.0, 0.0
	for seed := range uint64(fleets) {
		r := rand.New(rand.NewPCG(seed, 1))
		f := &balance.Fleet{Shards: []balance.Shard{{ID: "s1", State: balance.Active}, {ID: "s2", State: balance.Active}, {ID: "s3", State: balance.Active}}}
		for i := range 7 {
			u := balance.Vector{r.ExpFloat64(), r.ExpFloat64()}
			f.Tenants = append(f.Tenants, balance.Tenant{ID: shardmap.TenantID(fmt.Sprintf("t%d", i)), Shard: f.Shards[r.IntN(3)].ID, Usage: u})
		}
		stand := func(f *balance.Fleet) float64 { return must[balance.Standing](t)(balance.Stand(f, &p)).Worst }
		ours := stand(must[*balance.Fleet](t)(must[*balance.Plan](t)(balance.Make(f, &p, balance.Ask{Now: now})).Carry(f, now)))
		best := bestOf(f, &p)
		ratio := ours / max(best, 1.1+p.Margin) // within which nobody moves
		sum, worst = sum+ratio, max(worst, ratio)
	}
	t.Logf("worst shard over that of the best placement: %.3f on average, %.3f at most", sum/fleets, worst)
	require.Less(t, sum/fleets, 1.06)
	require.Less(t, worst, 1.5)
}

// bestOf tries every placement, and returns the worst shard over the bound of the best of them.
func bestOf(f *balance.Fleet, p *balance.Policy) float64 {
	best := 1e9
	try := &balance.Fleet{Shards: f.Shards, Tenants: append([]balance.Tenant(nil), f.Tenants...)}
	var place func(i int)
	place = func(i int) {
		if i == len(try.Tenants) {
			s, err := balance.Stand(try, p)
			if err == nil {
				best = min(best, s.Worst)
			}
			return
		}
		for s := range try.Shards {
			if i == 0 && s > 0 {
				return // the shards are all alike
			}
			try.Tenants[i].Shard = try.Shards[s].ID
			place(i + 1)
		}
	}
	place(0)
	return best
}
