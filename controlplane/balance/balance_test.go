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

func TestPlace(t *testing.T) {
	f, p := two(), balance.DefaultPolicy()
	f.Shards = append(f.Shards, balance.Shard{ID: "s3", State: balance.Draining})
	f.Shards[0].Other[balance.Bytes], f.Shards[1].Other[balance.Bytes] = 30, 20
	newcomer := tenant("new", "", 10, balance.Needs{})
	require.Equal(t, shardmap.ShardID("s2"), must[shardmap.ShardID](t)(balance.Place(f, &p, newcomer)))
	newcomer.Needs = &balance.Needs{Region: "eu"}
	require.Equal(t, shardmap.ShardID("s1"), must[shardmap.ShardID](t)(balance.Place(f, &p, newcomer)))
	newcomer.Usage[balance.Bytes] = 51
	_, err := balance.Place(f, &p, newcomer)
	var infeasible *balance.InfeasibleError
	require.ErrorAs(t, err, &infeasible)
	require.Equal(t, balance.ByCapacity, infeasible.Refusals[0].Constraint)
	require.ErrorContains(t, err, "s1 has no room: bytes would be 81 B of at most 80 B")
	_, err = balance.Place(&balance.Fleet{}, &p, newcomer)
	require.ErrorAs(t, err, &infeasible)

	f.Tenants = []balance.Tenant{tenant("old", "s1", 1, balance.Needs{})}
	newcomer = tenant("new", "", 1, balance.Needs{Exclusive: true})
	require.Equal(t, shardmap.ShardID("s2"), must[shardmap.ShardID](t)(balance.Place(f, &p, newcomer)), "the empty one")
}

// New tenants of which nothing is known yet don't all end on one shard.
func TestNewcomersAreSpread(t *testing.T) {
	p := balance.DefaultPolicy()
	f := &balance.Fleet{}
	for s := range 4 {
		f.Shards = append(f.Shards, balance.Shard{ID: shardmap.ShardID(fmt.Sprintf("s%d", s)), State: balance.Active, Capacity: balance.Vector{balance.Databases: 10000}})
	}
	counts := map[shardmap.ShardID]int{}
	for i := range 40 {
		newcomer := balance.Tenant{ID: shardmap.TenantID(fmt.Sprintf("t%d", i))}
		newcomer.Shard = must[shardmap.ShardID](t)(balance.Place(f, &p, newcomer))
		counts[newcomer.Shard]++
		f.Tenants = append(f.Tenants, newcomer)
	}
	for _, n := range counts {
		require.Equal(t, 10, n)
	}
}

func TestExplain(t *testing.T) {
	f, p := two(), balance.DefaultPolicy()
	f.Shards = append(f.Shards, balance.Shard{ID: "s3", State: balance.Active, Region: "eu"}, balance.Shard{ID: "s4", State: balance.Cordoned, Region: "eu"})
	f.Tenants = []balance.Tenant{
		tenant("acme", "s1", 20, balance.Needs{Region: "eu", Apart: "g"}), tenant("other", "s3", 10, balance.Needs{}), tenant("third", "s2", 10, balance.Needs{}),
	}
	f.Tenants[0].Moved = now.Add(-time.Hour)
	e := must[*balance.Explanation](t)(balance.Explain(f, &p, "acme", now))
	require.Equal(t, shardmap.ShardID("s1"), e.Shard)
	require.Len(t, e.Here, 2)
	require.Contains(t, e.Here[0], "it was moved at 2026-05-04T11:00:00Z")
	require.Contains(t, e.Here[1], "s1 carries")
	require.Equal(t, []shardmap.ShardID{"s3", "s2", "s4"}, []shardmap.ShardID{e.Elsewhere[0].Shard, e.Elsewhere[1].Shard, e.Elsewhere[2].Shard})
	require.Empty(t, e.Elsewhere[0].Constraint)
	require.Contains(t, e.Elsewhere[0].Detail, "it would go from")
	require.Equal(t, balance.ByRegion, e.Elsewhere[1].Constraint)
	require.Equal(t, "the tenant has to be in region eu, s2 is in us", e.Elsewhere[1].Detail)
	require.Equal(t, balance.ByState, e.Elsewhere[2].Constraint)
	_, err := balance.Explain(f, &p, "nobody", now)
	require.ErrorIs(t, err, balance.ErrUnknownTenant)
}

// Explain never calls a shard possible that a plan could not use, nor the other way round.
func TestExplainAndPlaceAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, p := someFleet(t), balance.DefaultPolicy()
		if len(f.Tenants) == 0 {
			return
		}
		i := rapid.IntRange(0, len(f.Tenants)-1).Draw(t, "i")
		who := f.Tenants[i]
		if needs(&who).Exclusive {
			return // its own place counts as taken in one and as free in the other
		}
		e, err := balance.Explain(f, &p, who.ID, now)
		require.NoError(t, err)
		b := open(f, p)
		for _, o := range e.Elsewhere {
			s := b.shards[o.Shard]
			b.at[who.ID] = o.Shard
			ok := s.State == balance.Active && b.mayBeAt(&who, s) == "" && b.overfull(s) < 0
			require.Equal(t, ok, o.Constraint == "", "%s: %s", o.Shard, o.Detail)
		}
	})
}

func TestDigest(t *testing.T) {
	f := two()
	f.Tenants = []balance.Tenant{tenant("a", "s1", 1, balance.Needs{Region: "eu"}), tenant("b", "s2", 1, balance.Needs{})}
	was := f.Digest()
	for name, change := range map[string]func(){
		"placement": func() { f.Tenants[0].Shard = "s2" },
		"needs":     func() { f.Tenants[1].Needs = &balance.Needs{Pinned: true} },
		"swapped":   func() { f.Tenants[0].Shard, f.Tenants[1].Shard = "s2", "s1" },
		"names":     func() { f.Tenants[0].ID = "c" },
		"one less":  func() { f.Tenants = f.Tenants[:1] },
		"state":     func() { f.Shards[1].State = balance.Draining },
		"capacity":  func() { f.Shards[1].Capacity[balance.Load] = 3 },
		"labels":    func() { f.Shards[1].Labels = nil },
	} {
		saved := balance.Fleet{Shards: slices.Clone(f.Shards), Tenants: slices.Clone(f.Tenants)}
		change()
		require.NotEqual(t, was, f.Digest(), name)
		*f = saved
	}
	f.Tenants[0].Usage[balance.Load] = 7
	f.Tenants[1].Needs = nil
	slices.Reverse(f.Shards)
	slices.Reverse(f.Tenants)
	require.Equal(t, was, f.Digest(), "neither use nor order matter")
}

func TestScenario(t *testing.T) {
	sc := must[balance.Scenario](t)(balance.ParseScenario("add-shard=3,drain=s1"))
	require.Equal(t, "add-shard=3,drain=s1", sc.String())
	f := two()
	f.Shards = append(f.Shards, balance.Shard{ID: "new-1", State: balance.Down})
	after := must[*balance.Fleet](t)(sc.Apply(f))
	require.Len(t, after.Shards, 6)
	require.Equal(t, balance.Draining, after.Shards[0].State)
	require.Equal(t, balance.Active, f.Shards[0].State)
	for i, id := range []shardmap.ShardID{"new-2", "new-3", "new-4"} {
		require.Equal(t, balance.Shard{ID: id, State: balance.Active, Region: "us", Class: "large", Labels: f.Shards[1].Labels, Capacity: f.Shards[1].Capacity}, after.Shards[3+i])
	}
	for _, bad := range []string{"add-shard=0", "add-shard=", "add-shard=-1", "drain=", "drain=S1", "split=s1", ","} {
		_, err := balance.ParseScenario(bad)
		require.ErrorIs(t, err, balance.ErrInvalid, bad)
	}
}

func FuzzScenario(f *testing.F) {
	f.Add("add-shard=3,drain=s1")
	f.Fuzz(func(t *testing.T, text string) {
		sc, err := balance.ParseScenario(text)
		if err != nil {
			require.ErrorIs(t, err, balance.ErrInvalid)
			return
		}
		again, err := balance.ParseScenario(sc.String())
		require.NoError(t, err)
		require.Equal(t, sc, again)
	})
}

func TestQuietHours(t *testing.T) {
	p := balance.DefaultPolicy()
	p.Quiet = []balance.Window{{From: 22 * 60, To: 6 * 60, Days: []time.Weekday{time.Friday}}, {From: 6 * 60, To: 7*60 + 30}, {From: 12 * 60, To: 24 * 60, Days: []time.Weekday{time.Sunday}}}
	require.NoError(t, p.Validate())
	at := func(day, hour, minute int) time.Time { return time.Date(2026, 5, day, hour, minute, 0, 0, time.UTC) } // the 8th is a Friday
	for _, c := range []struct{ now, until time.Time }{
		{now: at(8, 21, 59)},
		{at(8, 22, 0), at(9, 7, 30)},
		{at(9, 5, 59), at(9, 7, 30)},
		{now: at(9, 7, 30)},
		{now: at(9, 23, 0)},
		{at(10, 6, 0), at(10, 7, 30)},
		{at(10, 23, 59), at(11, 0, 0)},
		{now: at(11, 0, 0)},
	} {
		until, quiet := p.QuietUntil(c.now)
		require.Equal(t, !c.until.IsZero(), quiet, c.now)
		if quiet {
			require.Equal(t, c.until, until, c.now)
		}
		_, elsewhere := p.QuietUntil(c.now.In(time.FixedZone("", 5*3600)))
		require.Equal(t, quiet, elsewhere, "the zone does not matter")
	}
	require.Equal(t, "fri 22:00-06:00", p.Quiet[0].String())
	require.True(t, balance.Hours(1<<12).At(now))
	require.False(t, balance.Hours(1<<12).At(now.Add(time.Hour)))
}

func FuzzWindow(f *testing.F) {
	f.Add("22:00-06:00")
	f.Add("mon-fri,sun 08:00-18:00")
	f.Fuzz(func(t *testing.T, text string) {
		w, err := balance.ParseWindow(text)
		if err != nil {
			require.ErrorIs(t, err, balance.ErrInvalid)
			return
		}
		again, err := balance.ParseWindow(w.String())
		require.NoError(t, err)
		require.Equal(t, w, again)
	})
}

func TestParseWindow(t *testing.T) {
	w := must[balance.Window](t)(balance.ParseWindow("fri-mon,wed 22:00-24:00"))
	require.Equal(t, balance.Window{From: 22 * 60, To: 24 * 60, Days: []time.Weekday{5, 6, 0, 1, 3}}, w)
	for _, bad := range []string{"", "22-6", "24:00-06:00", "22:00-24:01", "22:60-23:00", "08:00-08:00", "mon", "mon 08:00", "foo 08:00-09:00", "mon- 08:00-09:00", "mon 08:00-09:00 x", "+8:00-09:00"} {
		_, err := balance.ParseWindow(bad)
		require.ErrorIs(t, err, balance.ErrInvalid, bad)
	}
}
