package balance_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/shardmap"
)

// two shards in two regions, each with room for 80 bytes of its 100.
func two() *balance.Fleet {
	return &balance.Fleet{Shards: []balance.Shard{
		{ID: "s1", State: balance.Active, Region: "eu", Class: "small", Capacity: balance.Vector{balance.Bytes: 100}},
		{ID: "s2", State: balance.Active, Region: "us", Class: "large", Labels: map[string]string{"old": "yes"}, Capacity: balance.Vector{balance.Bytes: 100}},
	}}
}

func tenant(id string, on shardmap.ShardID, bytes float64, n balance.Needs) balance.Tenant {
	return balance.Tenant{ID: shardmap.TenantID(id), Shard: on, Usage: balance.Vector{balance.Bytes: bytes}, Needs: &n}
}

// Each demand has one thing that speaks against it, and is refused with that.
func TestInfeasibleDemandsAreRefusedWithTheirConstraint(t *testing.T) {
	drained := balance.Scenario{Drain: []shardmap.ShardID{"s1"}}
	for _, c := range []struct {
		constraint balance.Constraint
		scenario   balance.Scenario
		tenants    []balance.Tenant
		change     func(f *balance.Fleet)
	}{
		{constraint: balance.ByState, scenario: drained, tenants: []balance.Tenant{tenant("a", "s1", 1, balance.Needs{})},
			change: func(f *balance.Fleet) { f.Shards[1].State = balance.Cordoned }},
		{constraint: balance.ByRegion, scenario: drained, tenants: []balance.Tenant{tenant("a", "s1", 1, balance.Needs{Region: "eu"})}},
		{constraint: balance.ByClass, scenario: drained, tenants: []balance.Tenant{tenant("a", "s1", 1, balance.Needs{Class: "small"})}},
		{constraint: balance.ByLabel, scenario: drained, tenants: []balance.Tenant{tenant("a", "s1", 1, balance.Needs{Forbid: map[string]string{"old": "yes"}})}},
		{constraint: balance.ByLabel, tenants: []balance.Tenant{tenant("a", "s1", 1, balance.Needs{Require: map[string]string{"disk": "nvme"}})}},
		{constraint: balance.ByApart, scenario: drained, tenants: []balance.Tenant{
			tenant("a", "s1", 1, balance.Needs{Apart: "g"}), tenant("b", "s2", 1, balance.Needs{Apart: "g"})}},
		{constraint: balance.ByExclusive, scenario: drained, tenants: []balance.Tenant{
			tenant("a", "s1", 1, balance.Needs{}), tenant("b", "s2", 1, balance.Needs{Exclusive: true})}},
		{constraint: balance.ByExclusive, scenario: drained, tenants: []balance.Tenant{
			tenant("a", "s1", 1, balance.Needs{Exclusive: true}), tenant("b", "s2", 1, balance.Needs{})}},
		{constraint: balance.ByPinned, scenario: drained, tenants: []balance.Tenant{tenant("a", "s1", 1, balance.Needs{Pinned: true})}},
		{constraint: balance.ByPinned, tenants: []balance.Tenant{tenant("a", "s1", 1, balance.Needs{Pinned: true, Region: "us"})}},
		{constraint: balance.ByCapacity, scenario: drained, tenants: []balance.Tenant{
			tenant("a", "s1", 41, balance.Needs{}), tenant("b", "s2", 40, balance.Needs{})}},
		{constraint: balance.BySpace, tenants: []balance.Tenant{ // they would have to change places
			tenant("a", "s1", 80, balance.Needs{Region: "us"}), tenant("b", "s2", 80, balance.Needs{Region: "eu"})}},
	} {
		t.Run(fmt.Sprintf("%s %s", c.constraint, c.scenario), func(t *testing.T) {
			f, p := two(), balance.DefaultPolicy()
			f.Tenants = c.tenants
			if c.change != nil {
				c.change(f)
			}
			plan, err := balance.Make(f, &p, balance.Ask{Now: now, Scenario: c.scenario})
			require.Nil(t, plan)
			var infeasible *balance.InfeasibleError
			require.ErrorAs(t, err, &infeasible)
			require.Equal(t, shardmap.TenantID("a"), infeasible.Refusals[0].Tenant)
			require.Equal(t, c.constraint, infeasible.Refusals[0].Constraint, err.Error())
		})
	}
}

func TestRoomIsMadeForWhoHasToMove(t *testing.T) {
	f, p := two(), balance.DefaultPolicy()
	// Only s2 may take a, which b has to leave first; s3 has room for b alone.
	f.Shards = append(f.Shards, balance.Shard{ID: "s3", State: balance.Active, Region: "eu", Capacity: balance.Vector{balance.Bytes: 50}})
	f.Tenants = []balance.Tenant{tenant("a", "s1", 60, balance.Needs{Region: "us"}), tenant("b", "s2", 40, balance.Needs{})}
	f.Shards[0].State = balance.Cordoned
	plan := must[*balance.Plan](t)(balance.Make(f, &p, balance.Ask{Now: now}))
	require.Len(t, plan.Moves, 2)
	require.Equal(t, balance.ForRoom, plan.Moves[0].Reason.Kind)
	require.Contains(t, plan.Moves[0].Reason.Detail, "makes room for a")
	require.Equal(t, balance.ForConstraint, plan.Moves[1].Reason.Kind)
	open(f, p).carry(t, plan)
}

// A tenant that a small shard cannot be even with, though it had nothing else,
// goes to a larger shard, and others make room for it there.
func TestASmallShardIsNotEmptiedAroundALargeTenant(t *testing.T) {
	f, p := &balance.Fleet{}, balance.DefaultPolicy()
	for s, size := range []float64{100e9, 300e9, 300e9} {
		id := shardmap.ShardID(fmt.Sprintf("s%d", s+1))
		f.Shards = append(f.Shards, balance.Shard{ID: id, State: balance.Active, Capacity: balance.Vector{balance.Bytes: size, balance.Databases: 10_000}})
		for i := range []int{10, 143, 143}[s] {
			f.Tenants = append(f.Tenants, tenant(fmt.Sprintf("%s-%d", id, i), id, 1e9, balance.Needs{}))
		}
	}
	f.Tenants = append(f.Tenants, tenant("large", "s1", 53e9, balance.Needs{}))
	plan := must[*balance.Plan](t)(balance.Make(f, &p, balance.Ask{Now: now}))
	open(f, p).carry(t, plan)
	after := must[*balance.Fleet](t)(plan.Carry(f, now))
	require.NotEqual(t, shardmap.ShardID("s1"), after.Tenants[len(after.Tenants)-1].Shard)
	require.LessOrEqual(t, must[balance.Standing](t)(balance.Stand(after, &p)).Worst, 1.05)
}

func TestAnExclusiveTenantMovesOrIsMovedAwayFromWhicheverIsLess(t *testing.T) {
	for _, c := range []struct {
		large string
		moves string
	}{{"a", "b"}, {"b", "a"}} {
		f, p := two(), balance.DefaultPolicy()
		f.Tenants = []balance.Tenant{tenant("a", "s1", 10, balance.Needs{Exclusive: true}), tenant("b", "s1", 10, balance.Needs{})}
		for i := range f.Tenants {
			if string(f.Tenants[i].ID) == c.large {
				f.Tenants[i].Usage[balance.Bytes] = 30
			}
		}
		plan := must[*balance.Plan](t)(balance.Make(f, &p, balance.Ask{Now: now}))
		require.Len(t, plan.Moves, 1)
		require.Equal(t, shardmap.TenantID(c.moves), plan.Moves[0].Tenant)
	}
}

func TestWhatMakesNoSenseIsRefused(t *testing.T) {
	p := balance.DefaultPolicy()
	for name, change := range map[string]func(f *balance.Fleet, p *balance.Policy, sc *balance.Scenario){
		"a doubled shard":      func(f *balance.Fleet, _ *balance.Policy, _ *balance.Scenario) { f.Shards[1].ID = "s1" },
		"a state":              func(f *balance.Fleet, _ *balance.Policy, _ *balance.Scenario) { f.Shards[1].State = "tired" },
		"a capacity":           func(f *balance.Fleet, _ *balance.Policy, _ *balance.Scenario) { f.Shards[1].Capacity[0] = -1 },
		"a tenant of no shard": func(f *balance.Fleet, _ *balance.Policy, _ *balance.Scenario) { f.Tenants[0].Shard = "s9" },
		"no headroom left":     func(_ *balance.Fleet, p *balance.Policy, _ *balance.Scenario) { p.Headroom = 1 },
		"no tolerance":         func(_ *balance.Fleet, p *balance.Policy, _ *balance.Scenario) { p.Tolerance = 0 },
		"quiet all day": func(_ *balance.Fleet, p *balance.Policy, _ *balance.Scenario) {
			p.Quiet = []balance.Window{{From: 0, To: 24 * 60}}
		},
		"quiet in two halves": func(_ *balance.Fleet, p *balance.Policy, _ *balance.Scenario) {
			p.Quiet = []balance.Window{{From: 600, To: 1320}, {From: 1320, To: 600}}
		},
		"a drained stranger": func(_ *balance.Fleet, _ *balance.Policy, sc *balance.Scenario) { sc.Drain = []shardmap.ShardID{"s9"} },
		"a drain of what's down": func(f *balance.Fleet, _ *balance.Policy, sc *balance.Scenario) {
			f.Shards[0].State, sc.Drain = balance.Down, []shardmap.ShardID{"s1"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, p, sc := two(), p, balance.Scenario{}
			f.Tenants = []balance.Tenant{tenant("a", "s1", 1, balance.Needs{})}
			change(f, &p, &sc)
			_, err := balance.Make(f, &p, balance.Ask{Now: now, Scenario: sc})
			require.ErrorIs(t, err, balance.ErrInvalid)
		})
	}
}

func TestWhoDoesNotMoveForBalance(t *testing.T) {
	p := balance.DefaultPolicy()
	f := &balance.Fleet{Shards: []balance.Shard{{ID: "s1", State: balance.Active}, {ID: "s2", State: balance.Active}}}
	for i := range 8 {
		f.Tenants = append(f.Tenants, tenant(fmt.Sprintf("t%d", i), "s1", 1e9, balance.Needs{}))
	}
	plan := must[*balance.Plan](t)(balance.Make(f, &p, balance.Ask{Now: now}))
	require.Len(t, plan.Moves, 4)
	for i := range f.Tenants[:6] {
		f.Tenants[i].Moved = now.Add(-p.Cooldown + time.Second)
	}
	plan = must[*balance.Plan](t)(balance.Make(f, &p, balance.Ask{Now: now}))
	require.Len(t, plan.Moves, 2, "six have not cooled down")
	plan = must[*balance.Plan](t)(balance.Make(f, &p, balance.Ask{Now: now.Add(time.Second)}))
	require.Len(t, plan.Moves, 4, "they have")
	f.Shards[0].State = balance.Draining
	require.Len(t, must[*balance.Plan](t)(balance.Make(f, &p, balance.Ask{Now: now})).Moves, 8, "a drain waits for nobody")
	f.Shards[0].State = balance.Cordoned
	require.Empty(t, must[*balance.Plan](t)(balance.Make(f, &p, balance.Ask{Now: now})).Moves, "a cordoned shard is left alone")
	f.Shards[0].State = balance.Down
	require.Empty(t, must[*balance.Plan](t)(balance.Make(f, &p, balance.Ask{Now: now})).Moves, "nothing comes off a shard that is down")
}

// A shard is left alone until it is over tolerance and margin, and then brought within the tolerance.
func TestHysteresis(t *testing.T) {
	p := balance.DefaultPolicy()
	for _, c := range []struct {
		more  int // tenants on s1 beside its 100
		moves int
	}{{8, 0}, {16, 0}, {18, 4}} { // 1.04, 1.074, 1.083 of the even share
		f := &balance.Fleet{Shards: []balance.Shard{{ID: "s1", State: balance.Active}, {ID: "s2", State: balance.Active}}}
		for i := range 200 + c.more {
			on := shardmap.ShardID("s1")
			if i >= 100+c.more {
				on = "s2"
			}
			f.Tenants = append(f.Tenants, tenant(fmt.Sprintf("t%d", i), on, 1e9, balance.Needs{}))
		}
		plan := must[*balance.Plan](t)(balance.Make(f, &p, balance.Ask{Now: now}))
		require.Len(t, plan.Moves, c.moves, "%d more", c.more)
	}
}
