package balance_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/shardmap"
)

// Moves end in any order, many fail, tenants grow and come meanwhile, and it is
// planned anew where a plan can't go on: whatever begins may arrive, wherever
// the others are or will be.
func TestNoOrderOfEndsAndFailuresBreaksAConstraint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, p := crowdedFleet(t), balance.DefaultPolicy()
		p.MaxMoves = rapid.IntRange(0, 4).Draw(t, "moves")
		p.MaxMovesPerShard = rapid.IntRange(0, 2).Draw(t, "per shard")
		var w balance.Work
		for range 30 {
			if len(w.Left) == 0 || rapid.IntRange(0, 3).Draw(t, "anew") == 0 {
				// Whoever plans knows nothing of what is under way.
				plan, err := balance.Make(f, &p, balance.Ask{Now: now, Partial: true})
				require.NoError(t, err)
				w.Left = slices.DeleteFunc(plan.Moves, func(m balance.Move) bool {
					return slices.ContainsFunc(w.Running, func(r balance.Move) bool { return r.Tenant == m.Tenant })
				})
			}
			begin, wait, err := balance.Next(f, &p, w, now)
			require.NoError(t, err)
			for _, m := range begin {
				mayArrive(t, f, p, w.Running, m)
				w.Left = slices.DeleteFunc(w.Left, func(o balance.Move) bool { return o == m })
				w.Running = append(w.Running, m)
			}
			if len(w.Running) == 0 {
				require.True(t, len(w.Left) == 0 || wait.Why != "")
				w.Left = nil // nothing to do, or the plan can't go on, since others failed
				continue
			}
			if rapid.Bool().Draw(t, "none ends") {
				continue
			}
			i := rapid.IntRange(0, len(w.Running)-1).Draw(t, "which ends")
			m := w.Running[i]
			w.Running = slices.Delete(w.Running, i, i+1)
			at := slices.IndexFunc(f.Tenants, func(x balance.Tenant) bool { return x.ID == m.Tenant })
			if rapid.IntRange(0, 2).Draw(t, "fails") > 0 {
				f.Tenants[at].Shard = m.To
			} else if rapid.Bool().Draw(t, "for good") {
				n := needs(&f.Tenants[at])
				n.Pinned = true
				f.Tenants[at].Needs = &n
				w.Left = slices.DeleteFunc(w.Left, func(o balance.Move) bool { return o.Tenant == m.Tenant })
			}
			if rapid.IntRange(0, 3).Draw(t, "grows") == 0 {
				f.Tenants[rapid.IntRange(0, len(f.Tenants)-1).Draw(t, "who")].Usage[balance.Bytes] += 10
			}
		}
	})
}

// crowdedFleet draws fleets in which many have to move, and are in each other's way.
func crowdedFleet(t *rapid.T) *balance.Fleet {
	f := &balance.Fleet{}
	for i := range rapid.IntRange(3, 6).Draw(t, "shards") {
		f.Shards = append(f.Shards, balance.Shard{
			ID: shardmap.ShardID(fmt.Sprintf("s%d", i+1)), State: balance.Active, Region: rapid.SampledFrom([]string{"eu", "us"}).Draw(t, "region"),
			Capacity: balance.Vector{balance.Bytes: rapid.SampledFrom([]float64{60, 100}).Draw(t, "bytes")},
		})
	}
	if rapid.Bool().Draw(t, "drains") {
		f.Shards[0].State = balance.Draining
	}
	for i := range rapid.IntRange(3, 16).Draw(t, "tenants") {
		n := balance.Needs{
			Region: rapid.SampledFrom([]string{"", "", "eu", "us"}).Draw(t, "region"), Apart: rapid.SampledFrom([]string{"", "", "a", "b"}).Draw(t, "apart"),
			Exclusive: rapid.IntRange(1, 10).Draw(t, "exclusive") == 10,
		}
		f.Tenants = append(f.Tenants, tenant(fmt.Sprintf("t%d", i+1), rapid.SampledFrom(f.Shards).Draw(t, "shard").ID, rapid.SampledFrom([]float64{3, 10, 20}).Draw(t, "bytes"), n))
	}
	return f
}

// mayArrive checks a move that begins against everybody who is at its target, is
// on the way there, or may turn back to it.
func mayArrive(t *rapid.T, f *balance.Fleet, p balance.Policy, running []balance.Move, m balance.Move) {
	with := &balance.Fleet{Shards: f.Shards, Tenants: slices.Clone(f.Tenants)}
	for _, r := range running {
		i := slices.IndexFunc(f.Tenants, func(x balance.Tenant) bool { return x.ID == r.Tenant })
		there := f.Tenants[i]
		there.ID, there.Shard = r.Tenant+"-arriving", r.To
		with.Tenants = append(with.Tenants, there)
	}
	b := open(with, p)
	to := b.shards[m.To]
	require.Equal(t, m.From, b.at[m.Tenant])
	require.False(t, needs(b.tenants[m.Tenant]).Pinned)
	require.Equal(t, balance.Active, to.State)
	b.at[m.Tenant] = m.To
	require.Empty(t, b.mayBeAt(b.tenants[m.Tenant], to), "%s to %s", m.Tenant, m.To)
	require.Equal(t, -1, b.overfull(to), "%s to %s", m.Tenant, m.To)
}

// What begins depends on the tenants that may be in somebody's way, and on the sum of the others.
func TestNextNeedsNoMoreThanSumsOfMostTenants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, p := someFleet(t), balance.DefaultPolicy()
		plan, err := balance.Make(f, &p, balance.Ask{Now: now, Partial: true})
		require.NoError(t, err)
		concerned, alone := map[shardmap.TenantID]bool{}, map[shardmap.ShardID]bool{}
		b := open(f, p)
		for _, m := range plan.Moves {
			concerned[m.Tenant] = true
			if needs(b.tenants[m.Tenant]).Exclusive {
				alone[m.To] = true
			}
		}
		part := &balance.Fleet{Shards: slices.Clone(f.Shards)}
		for _, x := range f.Tenants {
			if n := needs(&x); concerned[x.ID] || alone[x.Shard] || n.Exclusive || n.Apart != "" {
				part.Tenants = append(part.Tenants, x)
				continue
			}
			i := slices.IndexFunc(part.Shards, func(s balance.Shard) bool { return s.ID == x.Shard })
			for d, u := range x.Usage {
				part.Shards[i].Other[d] += u
			}
			part.Shards[i].Other[balance.Databases]++
		}
		at := now.Add(time.Hour)
		whole, waitWhole, err := balance.Next(f, &p, balance.Work{Left: plan.Moves}, at)
		require.NoError(t, err)
		some, waitSome, err := balance.Next(part, &p, balance.Work{Left: plan.Moves}, at)
		require.NoError(t, err)
		require.Equal(t, whole, some)
		require.Equal(t, waitWhole, waitSome)
	})
}
