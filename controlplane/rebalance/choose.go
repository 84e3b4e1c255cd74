package rebalance

import (
	"cmp"
	"fmt"
	"time"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/shardmap"
)

// scene is what a run decides on: what is left, what is under way, and how the fleet is.
type scene struct {
	fleet         *balance.Fleet // choose puts tenants under way back to where they come from
	policy        *balance.Policy
	left, running []catalog.RebalanceMove
	begun         []balance.Begun
	held          map[shardmap.TenantID]hold
	shards        conditions
	now           time.Time
}

// hold keeps one tenant's move from beginning for a while.
type hold struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	Why   string    `json:"why"`
}

// choice is what a run does now.
type choice struct {
	begin []catalog.RebalanceMove
	// wait says why nothing, or nothing more, begins.
	wait balance.Wait
	// stuck: nothing begins, nothing is under way, and time alone changes nothing.
	stuck bool
}

// choose says what may begin now. It keeps the plan's order among those that
// arrive at a shard, but a tenant that can't be moved now keeps nobody else. Nothing
// arrives at a strained shard; off it tenants go one at a time, since each that has left is a relief.
// Errors: balance.ErrInvalid, if the moves are not those of the fleet (see misplaced).
func (sc *scene) choose() (choice, error) {
	var open []catalog.RebalanceMove
	var passed balance.Wait // why the first of those that don't come into question doesn't
	pass := func(w balance.Wait) {
		if passed.Why == "" {
			passed = w
		}
	}
	kept := map[shardmap.ShardID]bool{}   // shards that an earlier move waits to arrive at
	leaves := map[shardmap.ShardID]bool{} // shards that somebody leaves
	for _, m := range sc.running {
		leaves[m.From] = true
	}
	for _, m := range sc.left {
		h, held := sc.held[m.Tenant]
		target, source := sc.shards[m.To], sc.shards[m.From]
		switch {
		case held && sc.now.Before(h.Until):
			pass(balance.Wait{Until: h.Until, Why: fmt.Sprintf("%s: %s", m.Tenant, h.Why)})
		case kept[m.To]:
		case target.strain != "":
			kept[m.To] = true
			pass(balance.Wait{Until: sc.now.Add(strainFor), Why: fmt.Sprintf("shard %s is strained: %s", m.To, target.strain)})
		case source.blind:
			pass(balance.Wait{Until: sc.now.Add(strainFor), Why: fmt.Sprintf("shard %s is strained: %s", m.From, source.strain)})
		case source.strain != "" && leaves[m.From]:
			pass(sc.oneAtATime(m.From))
		default:
			open = append(open, m)
		}
	}
	sc.putBack()
	var c choice
	for {
		moves, wait, err := balance.Next(sc.fleet, sc.policy, balance.Work{Left: planned(open), Running: planned(sc.running), Begun: sc.begun}, sc.now)
		if err != nil {
			return choice{}, err
		}
		if c.wait = wait; wait.Why == "" {
			c.wait = passed
		}
		next := make(map[shardmap.TenantID]bool, len(moves))
		for _, m := range moves {
			next[m.Tenant] = true
		}
		var one shardmap.ShardID
		if c.begin, open, one = sc.alone(open, next); one == "" {
			break
		}
		pass(sc.oneAtATime(one)) // others may begin in the place of those that don't
	}
	c.stuck = len(c.begin) == 0 && len(sc.running) == 0 && c.wait.Until.IsZero() && passed.Why == ""
	return c, nil
}

// alone is what begins of those that are open. Of those off a strained shard it is the first that
// may, so that one that can't begin keeps nobody there, and the others are not left open;
// one is the first shard where that is so, "" if there is none.
func (sc *scene) alone(open []catalog.RebalanceMove, next map[shardmap.TenantID]bool) (begin, left []catalog.RebalanceMove, one shardmap.ShardID) {
	first := map[shardmap.ShardID]shardmap.TenantID{}
	for _, m := range open {
		if _, has := first[m.From]; next[m.Tenant] && !has && sc.shards[m.From].strain != "" {
			first[m.From] = m.Tenant
		}
	}
	for _, m := range open {
		if t, has := first[m.From]; has && t != m.Tenant {
			one = cmp.Or(one, m.From)
			continue
		}
		left = append(left, m)
		if next[m.Tenant] {
			begin = append(begin, m)
		}
	}
	return begin, left, one
}

func (sc *scene) oneAtATime(id shardmap.ShardID) balance.Wait {
	return balance.Wait{Until: sc.now.Add(strainFor), Why: fmt.Sprintf("tenants leave shard %s one at a time while it is strained: %s", id, sc.shards[id].strain)}
}

// putBack has tenants under way live where they come from, also those that have
// arrived and are being cleaned up after: they take room at both ends until that is done.
func (sc *scene) putBack() {
	from := make(map[shardmap.TenantID]shardmap.ShardID, len(sc.running))
	for _, m := range sc.running {
		from[m.Tenant] = m.From
	}
	for i := range sc.fleet.Tenants {
		if s, moves := from[sc.fleet.Tenants[i].ID]; moves {
			sc.fleet.Tenants[i].Shard = s
		}
	}
}

// misplaced tells why the moves are not ones of this fleet any more; "" if they are.
func misplaced(f *balance.Fleet, moves []catalog.RebalanceMove) string {
	if len(moves) == 0 {
		return ""
	}
	shards := make(map[shardmap.ShardID]balance.State, len(f.Shards))
	for i := range f.Shards {
		shards[f.Shards[i].ID] = f.Shards[i].State
	}
	home := make(map[shardmap.TenantID]shardmap.ShardID, len(moves))
	for _, m := range moves {
		home[m.Tenant] = ""
	}
	for i := range f.Tenants {
		if _, moves := home[f.Tenants[i].ID]; moves {
			home[f.Tenants[i].ID] = f.Tenants[i].Shard
		}
	}
	for _, m := range moves {
		switch {
		case home[m.Tenant] == "":
			return fmt.Sprintf("tenant %s is deleted", m.Tenant)
		case home[m.Tenant] != m.From:
			return fmt.Sprintf("tenant %s is on %s, not on %s", m.Tenant, home[m.Tenant], m.From)
		case shards[m.To] != balance.Active:
			return fmt.Sprintf("shard %s takes no tenants", m.To)
		}
	}
	return ""
}

// planned are moves as the planner has them.
func planned(moves []catalog.RebalanceMove) []balance.Move {
	all := make([]balance.Move, len(moves))
	for i, m := range moves {
		all[i] = balance.Move{Tenant: m.Tenant, From: m.From, To: m.To, Bytes: m.Bytes, Reason: balance.Reason{Kind: balance.Kind(m.Kind), Detail: m.Why}}
	}
	return all
}

// kept are moves as the catalog has them.
func kept(moves []balance.Move) []catalog.RebalanceMove {
	all := make([]catalog.RebalanceMove, len(moves))
	for i, m := range moves {
		all[i] = catalog.RebalanceMove{Tenant: m.Tenant, From: m.From, To: m.To, Bytes: m.Bytes, Kind: string(m.Reason.Kind), Why: m.Reason.Detail}
	}
	return all
}
