package balance_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/balance/simulate"
	"github.com/freehold-db/freehold/shardmap"
)

func TestNoPrefixOfAPlanBreaksAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, p := someFleet(t), balance.DefaultPolicy()
		plan, err := balance.Make(f, &p, balance.Ask{Now: now, Partial: true})
		require.NoError(t, err)
		b := open(f, p)
		b.carry(t, plan)
		b.settled(t, plan.Refused)
	})
}

func TestAPlanIsWholeOrRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, p := someFleet(t), balance.DefaultPolicy()
		partial, err := balance.Make(f, &p, balance.Ask{Now: now, Partial: true})
		require.NoError(t, err)
		plan, err := balance.Make(f, &p, balance.Ask{Now: now})
		if len(partial.Refused) == 0 {
			require.NoError(t, err)
			require.Equal(t, partial, plan)
			return
		}
		var infeasible *balance.InfeasibleError
		require.ErrorAs(t, err, &infeasible)
		require.Equal(t, partial.Refused, infeasible.Refusals)
		require.Nil(t, plan)
	})
}

func TestCarriedOutAndPlannedAgainThereIsNothingToDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, p := someFleet(t), balance.DefaultPolicy()
		plan, err := balance.Make(f, &p, balance.Ask{Now: now, Partial: true})
		require.NoError(t, err)
		after, err := plan.Carry(f, now)
		require.NoError(t, err)
		again, err := balance.Make(after, &p, balance.Ask{Now: now, Partial: true})
		require.NoError(t, err)
		require.Empty(t, again.Moves)
		require.Len(t, again.Refused, len(plan.Refused))
	})
}

func TestAPlanIsTheSameEachTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, p := someFleet(t), balance.DefaultPolicy()
		one, err := balance.Make(f, &p, balance.Ask{Now: now, Partial: true})
		require.NoError(t, err)
		two, err := balance.Make(f, &p, balance.Ask{Now: now, Partial: true})
		require.NoError(t, err)
		a, err := json.Marshal(one)
		require.NoError(t, err)
		b, err := json.Marshal(two)
		require.NoError(t, err)
		require.Equal(t, string(a), string(b))
	})
}

func TestADrainLeavesNothingBehind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Tenants are small and there is room enough: there always is a plan.
		f, p := &balance.Fleet{}, balance.DefaultPolicy()
		for i := range rapid.IntRange(2, 7).Draw(t, "shards") {
			f.Shards = append(f.Shards, balance.Shard{ID: shardmap.ShardID(fmt.Sprintf("s%d", i+1)), State: balance.Active, Capacity: balance.Vector{1000, 1000, 1000, 1000, 100}})
		}
		use := rapid.Float64Range(0, 40)
		for i := range rapid.IntRange(0, 10*(len(f.Shards)-1)).Draw(t, "tenants") {
			f.Tenants = append(f.Tenants, balance.Tenant{
				ID: shardmap.TenantID(fmt.Sprintf("t%d", i+1)), Shard: rapid.SampledFrom(f.Shards).Draw(t, "shard").ID,
				Usage: balance.Vector{use.Draw(t, "bytes"), use.Draw(t, "connections"), use.Draw(t, "load"), use.Draw(t, "wal")},
			})
		}
		ask := balance.Ask{Now: now, Scenario: balance.Scenario{Drain: []shardmap.ShardID{rapid.SampledFrom(f.Shards).Draw(t, "drained").ID}}}
		plan, err := balance.Make(f, &p, ask)
		require.NoError(t, err)
		assumed, err := ask.Scenario.Apply(f)
		require.NoError(t, err)
		b := open(assumed, p)
		b.carry(t, plan)
		b.settled(t, nil)
	})
}

func TestAFleetInBalanceIsLeftAlone(t *testing.T) {
	for seed := range uint64(2) {
		f := must[*balance.Fleet](t)(simulate.Fleet{Seed: seed, Shards: 10, Tenants: 1000}.Make())
		p := balance.DefaultPolicy()
		require.LessOrEqual(t, must[balance.Standing](t)(balance.Stand(f, &p)).Worst, 1.05)
		plan := must[*balance.Plan](t)(balance.Make(f, &p, balance.Ask{Now: now}))
		require.Empty(t, plan.Moves)
		require.Zero(t, plan.Bytes)
	}
}

// Not even tenants that were just moved are moved again, though nothing but
// balance speaks against it.
func TestNoThrashingWithoutACooldown(t *testing.T) {
	for seed := range uint64(2) {
		f := must[*balance.Fleet](t)(simulate.Fleet{Seed: seed, Shards: 12, Tenants: 600, Spread: simulate.Hashed}.Make())
		p := balance.DefaultPolicy()
		p.Cooldown = 0
		plan := must[*balance.Plan](t)(balance.Make(f, &p, balance.Ask{Now: now}))
		require.NotEmpty(t, plan.Moves)
		after := must[*balance.Fleet](t)(plan.Carry(f, now))
		require.LessOrEqual(t, must[balance.Standing](t)(balance.Stand(after, &p)).Worst, 1.08)
		require.Empty(t, must[*balance.Plan](t)(balance.Make(after, &p, balance.Ask{Now: now.Add(time.Hour)})).Moves)
	}
}
