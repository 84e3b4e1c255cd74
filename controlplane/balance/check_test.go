package balance_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/shardmap"
)

// now is when the tests plan.
var now = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// someFleet draws fleets as odd as they may be: every state of a shard, every
// need, capacities that are too small, tenants where they must not be.
func someFleet(t *rapid.T) *balance.Fleet { return drawFleet(t, 6, 24) }

func drawFleet(t *rapid.T, shards, tenants int) *balance.Fleet {
	f := &balance.Fleet{}
	regions := rapid.SampledFrom([]string{"", "", "eu", "us"})
	classes := rapid.SampledFrom([]string{"", "", "", "large"})
	labels := rapid.SampledFrom([]map[string]string{nil, nil, {"disk": "nvme"}, {"disk": "hdd", "old": "yes"}})
	size := rapid.SampledFrom([]float64{0, 50, 100, 200, 400})
	for i := range rapid.IntRange(1, shards).Draw(t, "shards") {
		s := balance.Shard{
			ID:     shardmap.ShardID(fmt.Sprintf("s%d", i+1)),
			State:  rapid.SampledFrom([]balance.State{balance.Active, balance.Active, balance.Active, balance.Active, balance.Draining, balance.Cordoned, balance.Down}).Draw(t, "state"),
			Region: regions.Draw(t, "region"), Class: classes.Draw(t, "class"), Labels: labels.Draw(t, "labels"),
		}
		s.Capacity = balance.Vector{size.Draw(t, "bytes"), size.Draw(t, "connections"), size.Draw(t, "load"), 0, float64(rapid.SampledFrom([]int{0, 4, 10}).Draw(t, "databases"))}
		s.Other[balance.Bytes] = float64(rapid.SampledFrom([]int{0, 0, 5}).Draw(t, "other"))
		f.Shards = append(f.Shards, s)
	}
	use := rapid.SampledFrom([]float64{0, 1, 2, 5, 10, 20, 45})
	for i := range rapid.IntRange(0, tenants).Draw(t, "tenants") {
		tenant := balance.Tenant{
			ID:    shardmap.TenantID(fmt.Sprintf("t%d", i+1)),
			Shard: rapid.SampledFrom(f.Shards).Draw(t, "shard").ID,
			Usage: balance.Vector{use.Draw(t, "bytes"), use.Draw(t, "connections"), use.Draw(t, "load"), use.Draw(t, "wal")},
			Moved: rapid.SampledFrom([]time.Time{{}, {}, now.Add(-time.Hour), now.Add(-48 * time.Hour)}).Draw(t, "moved"),
		}
		if rapid.Bool().Draw(t, "needy") {
			one := func(label string, p int) bool { return rapid.IntRange(1, p).Draw(t, label) == p }
			tenant.Needs = &balance.Needs{
				Region: regions.Draw(t, "region"), Class: classes.Draw(t, "class"),
				Apart:  rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "apart"),
				Pinned: one("pinned", 6), Exclusive: one("exclusive", 10),
			}
			if one("require", 8) {
				tenant.Needs.Require = map[string]string{"disk": "nvme"}
			}
			if one("forbid", 6) {
				tenant.Needs.Forbid = map[string]string{"old": "yes"}
			}
		}
		f.Tenants = append(f.Tenants, tenant)
	}
	return f
}

// book keeps who is where, told nothing by the planner.
type book struct {
	shards  map[shardmap.ShardID]*balance.Shard
	tenants map[shardmap.TenantID]*balance.Tenant
	at      map[shardmap.TenantID]shardmap.ShardID
	policy  balance.Policy
}

func open(f *balance.Fleet, p balance.Policy) *book {
	b := &book{map[shardmap.ShardID]*balance.Shard{}, map[shardmap.TenantID]*balance.Tenant{}, map[shardmap.TenantID]shardmap.ShardID{}, p}
	for i := range f.Shards {
		b.shards[f.Shards[i].ID] = &f.Shards[i]
	}
	for i := range f.Tenants {
		t := &f.Tenants[i]
		b.tenants[t.ID], b.at[t.ID] = t, t.Shard
	}
	return b
}

func needs(t *balance.Tenant) balance.Needs {
	if t.Needs == nil {
		return balance.Needs{}
	}
	return *t.Needs
}

func suits(n balance.Needs, s *balance.Shard) bool {
	for k, v := range n.Require {
		if got, has := s.Labels[k]; !has || got != v {
			return false
		}
	}
	for k, v := range n.Forbid {
		if got, has := s.Labels[k]; has && got == v {
			return false
		}
	}
	return (n.Region == "" || n.Region == s.Region) && (n.Class == "" || n.Class == s.Class)
}

// mayBeAt tells what is wrong with the tenant on the shard, given where all others are; "" if nothing.
func (b *book) mayBeAt(t *balance.Tenant, s *balance.Shard) string {
	n := needs(t)
	if !suits(n, s) {
		return "the shard does not suit it"
	}
	for id, at := range b.at {
		if at != s.ID || id == t.ID {
			continue
		}
		o := needs(b.tenants[id])
		switch {
		case n.Exclusive || o.Exclusive:
			return "it is not alone: " + string(id)
		case n.Apart != "" && n.Apart == o.Apart:
			return "its group is there: " + string(id)
		}
	}
	return ""
}

// overfull tells in which dimension the shard is filled beyond its headroom; -1 if in none.
func (b *book) overfull(s *balance.Shard) int {
	load := s.Other
	for id, at := range b.at {
		if at == s.ID {
			u := b.tenants[id].Usage
			u[balance.Databases] = 1
			for d := range load {
				load[d] += u[d]
			}
		}
	}
	for d := range load {
		if s.Capacity[d] > 0 && load[d] > s.Capacity[d]*(1-b.policy.Headroom)*(1+1e-6) {
			return d
		}
	}
	return -1
}

// carry carries the plan out move by move, and fails the test at the first
// arrival that breaks something.
func (b *book) carry(t require.TestingT, plan *balance.Plan) {
	for i, m := range plan.Moves {
		tenant, to := b.tenants[m.Tenant], b.shards[m.To]
		at := fmt.Sprintf("move %d of %d, %s: %s to %s (%s: %s)", i+1, len(plan.Moves), m.Tenant, m.From, m.To, m.Reason.Kind, m.Reason.Detail)
		require.Equal(t, b.at[m.Tenant], m.From, at)
		require.NotEqual(t, m.From, m.To, at)
		require.Equal(t, balance.Active, to.State, at)
		require.NotEqual(t, balance.Down, b.shards[m.From].State, at)
		require.False(t, needs(tenant).Pinned, at)
		if m.Reason.Kind != balance.ForDrain && m.Reason.Kind != balance.ForConstraint {
			_, cooling := b.policy.Cooling(tenant, now)
			require.False(t, cooling, at)
		}
		b.at[m.Tenant] = m.To
		require.Empty(t, b.mayBeAt(tenant, to), at)
		require.Equal(t, -1, b.overfull(to), at)
		require.NotEmpty(t, m.Reason.Detail, at)
	}
}

// settled fails the test if a tenant is still where it must not be and is not among the refused.
func (b *book) settled(t require.TestingT, refused []balance.Refusal) {
	excused := map[shardmap.TenantID]bool{}
	for _, r := range refused {
		excused[r.Tenant] = true
	}
	for id, tenant := range b.tenants {
		s := b.shards[b.at[id]]
		if excused[id] || s.State == balance.Down {
			continue
		}
		require.NotEqual(t, balance.Draining, s.State, "%s is left on %s", id, s.ID)
		if !suits(needs(tenant), s) {
			require.Fail(t, "left where it must not be", "%s on %s", id, s.ID)
		}
		if broken := b.mayBeAt(tenant, s); broken != "" {
			// The other one may be who was refused.
			some := false
			for o, at := range b.at {
				some = some || at == s.ID && o != id && excused[o]
			}
			require.True(t, some, "%s on %s: %s", id, s.ID, broken)
		}
	}
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		require.NoError(t, err)
		return v
	}
}
