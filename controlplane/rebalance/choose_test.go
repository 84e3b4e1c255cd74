package rebalance

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/shardmap"
)

var noon = time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)

// lined is a fleet with one tenant to move off s1 to each of the shards named, in that order.
func lined(policy balance.Policy, to ...shardmap.ShardID) *scene {
	sc := &scene{fleet: &balance.Fleet{Shards: []balance.Shard{{ID: "s1", State: balance.Active}}}, policy: &policy, now: noon,
		held: map[shardmap.TenantID]hold{}, shards: conditions{}}
	known := map[shardmap.ShardID]bool{"s1": true}
	for i, id := range to {
		if !known[id] {
			known[id] = true
			sc.fleet.Shards = append(sc.fleet.Shards, balance.Shard{ID: id, State: balance.Active})
		}
		t := shardmap.TenantID(fmt.Sprintf("t%d", i+1))
		sc.fleet.Tenants = append(sc.fleet.Tenants, balance.Tenant{ID: t, Shard: "s1", Usage: balance.Vector{balance.Bytes: 10}})
		sc.left = append(sc.left, catalog.RebalanceMove{N: i + 1, Tenant: t, From: "s1", To: id, Bytes: 10})
	}
	return sc
}

func begins(t *testing.T, sc *scene) (ids []shardmap.TenantID, c choice) {
	t.Helper()
	c, err := sc.choose()
	require.NoError(t, err)
	for _, m := range c.begin {
		ids = append(ids, m.Tenant)
	}
	return ids, c
}

func TestStrainedShardsAreLeftAlone(t *testing.T) {
	t.Parallel()
	p := balance.DefaultPolicy()
	p.MaxMoves, p.MaxMovesPerShard = 0, 0
	sc := lined(p, "s2", "s3", "s2", "s3")
	sc.shards["s2"] = condition{strain: "40 sessions are active on s2 (at most 8)"}
	ids, c := begins(t, sc)
	require.Equal(t, []shardmap.TenantID{"t2", "t4"}, ids)
	require.Equal(t, "shard s2 is strained: 40 sessions are active on s2 (at most 8)", c.wait.Why)
	require.Equal(t, noon.Add(strainFor), c.wait.Until)

	sc = lined(p, "s2", "s3")
	sc.shards["s1"] = condition{strain: "s1 could not be measured for 3m0s: no route", blind: true}
	ids, c = begins(t, sc)
	require.Empty(t, ids)
	require.Contains(t, c.wait.Why, "shard s1 is strained")
	require.False(t, c.stuck, "it passes")
}

// Who leaves a strained shard relieves it: one at a time may, and others elsewhere don't wait for them.
func TestStrainedShardsAreRelieved(t *testing.T) {
	t.Parallel()
	p := balance.DefaultPolicy()
	p.MaxMoves, p.MaxMovesPerShard = 0, 0
	sc := lined(p, "s2", "s3", "s2")
	sc.fleet.Tenants = append(sc.fleet.Tenants, balance.Tenant{ID: "other", Shard: "s3"})
	sc.left = append(sc.left, catalog.RebalanceMove{N: 4, Tenant: "other", From: "s3", To: "s2"})
	sc.shards["s1"] = condition{strain: "requests of tenants on s1 take 3s"}
	ids, c := begins(t, sc)
	require.Equal(t, []shardmap.TenantID{"t1", "other"}, ids)
	require.Equal(t, "tenants leave shard s1 one at a time while it is strained: requests of tenants on s1 take 3s", c.wait.Why)
	require.Equal(t, noon.Add(strainFor), c.wait.Until)
	sc.running, sc.left = sc.left[:1], sc.left[1:3]
	ids, c = begins(t, sc)
	require.Empty(t, ids)
	require.False(t, c.stuck)

	// One that can't begin keeps nobody else from leaving, nor the run from planning anew.
	sc = lined(p, "s2", "s3", "s3")
	sc.fleet.Shards[1].Capacity = balance.Vector{balance.Bytes: 5}
	sc.shards["s1"] = condition{strain: "requests of tenants on s1 take 3s"}
	ids, _ = begins(t, sc)
	require.Equal(t, []shardmap.TenantID{"t2"}, ids)
	sc.left = append(sc.left[:0:0], sc.left[0], catalog.RebalanceMove{N: 2, Tenant: "t2", From: "s1", To: "s2", Bytes: 10})
	ids, c = begins(t, sc)
	require.Empty(t, ids)
	require.True(t, c.stuck)
}

func TestHeldTenantsKeepNobodyElse(t *testing.T) {
	t.Parallel()
	p := balance.DefaultPolicy()
	p.MaxMovesPerShard = 0
	sc := lined(p, "s2", "s2", "s3")
	sc.held["t1"] = hold{Since: noon, Until: noon.Add(time.Minute), Why: "another operation has it"}
	ids, c := begins(t, sc)
	require.Equal(t, []shardmap.TenantID{"t2", "t3"}, ids)
	require.Equal(t, "t1: another operation has it", c.wait.Why)
	sc = lined(p, "s2")
	sc.held["t1"] = hold{Until: noon} // over
	ids, _ = begins(t, sc)
	require.Len(t, ids, 1)
}

func TestStuckIsWhatOnlyAnotherPlanCanMend(t *testing.T) {
	t.Parallel()
	p := balance.DefaultPolicy()
	sc := lined(p, "s2")
	sc.fleet.Shards[1].Capacity = balance.Vector{balance.Bytes: 5}
	_, c := begins(t, sc)
	require.True(t, c.stuck)
	require.Contains(t, c.wait.Why, "no room")
	// While a move is under way, its end may make room.
	sc.fleet.Tenants = append(sc.fleet.Tenants, balance.Tenant{ID: "gone", Shard: "s1"})
	sc.running = []catalog.RebalanceMove{{N: 9, Tenant: "gone", From: "s2", To: "s1"}}
	_, c = begins(t, sc)
	require.False(t, c.stuck)
}

// Whatever is held, strained and under way: what begins is not held, goes to no
// strained shard and off one alone, keeps to the bounds, and something begins if nothing stands against it.
func TestChoiceKeepsToWhatHoldsIt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		policy := balance.DefaultPolicy()
		policy.MaxMoves, policy.MaxMovesPerShard = rapid.IntRange(0, 4).Draw(rt, "moves"), rapid.IntRange(0, 2).Draw(rt, "each")
		shards := []shardmap.ShardID{"s2", "s3", "s4", "s5"}
		to := rapid.SliceOfN(rapid.SampledFrom(shards), 1, 12).Draw(rt, "to")
		sc := lined(policy, to...)
		under := rapid.IntRange(0, min(2, len(to)-1)).Draw(rt, "under way")
		sc.running, sc.left = sc.left[:under], sc.left[under:]
		for _, m := range sc.running { // some have arrived already
			if rapid.Bool().Draw(rt, "arrived") {
				sc.fleet.Tenants[m.N-1].Shard = m.To
			}
		}
		for _, m := range sc.left {
			if rapid.IntRange(0, 3).Draw(rt, "held") == 0 {
				sc.held[m.Tenant] = hold{Until: noon.Add(time.Hour), Why: "held"}
			}
		}
		for _, s := range append(shards, "s1") {
			if rapid.IntRange(0, 4).Draw(rt, "strained") == 0 {
				sc.shards[s] = condition{strain: "it is", blind: rapid.Bool().Draw(rt, "blind")}
			}
		}
		c, err := sc.choose()
		if err != nil {
			rt.Fatal(err)
		}
		at := map[shardmap.ShardID]int{}
		for _, m := range append(sc.running, c.begin...) {
			at[m.From]++
			at[m.To]++
		}
		last, left := 0, map[shardmap.ShardID]int{}
		for _, m := range sc.running {
			left[m.From]++
		}
		for _, m := range c.begin {
			if _, held := sc.held[m.Tenant]; held || sc.shards[m.From].blind || sc.shards[m.To].strain != "" {
				rt.Fatalf("%+v begins", m)
			}
			if left[m.From]++; left[m.From] > 1 && sc.shards[m.From].strain != "" {
				rt.Fatalf("%d leave %s, which is strained", left[m.From], m.From)
			}
			if m.N <= last {
				rt.Fatalf("out of order: %+v", c.begin)
			}
			last = m.N
			if policy.MaxMovesPerShard > 0 && (at[m.From] > max(policy.MaxMovesPerShard, under) || at[m.To] > max(policy.MaxMovesPerShard, under)) {
				rt.Fatalf("too many at a shard: %v", at)
			}
		}
		if n := len(sc.running) + len(c.begin); policy.MaxMoves > 0 && len(c.begin) > 0 && n > policy.MaxMoves {
			rt.Fatalf("%d moves at once", n)
		}
		if len(c.begin) < len(sc.left) && c.wait.Why == "" {
			rt.Fatal("it waits, and does not say for what")
		}
		if len(sc.held) == 0 && len(sc.shards) == 0 && len(sc.running) == 0 && len(c.begin) == 0 {
			rt.Fatal("nothing begins, and nothing stands against it")
		}
	})
}
