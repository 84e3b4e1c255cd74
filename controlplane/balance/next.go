package balance

import (
	"fmt"
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// Work is how far a plan is carried out.
type Work struct {
	Left    []Move  // not begun yet, in the plan's order
	Running []Move  // begun, and not over
	Begun   []Begun // all that were begun within the last hour, at least
}

// Begun is a move that was begun.
type Begun struct {
	At    time.Time
	Bytes float64
}

// Wait says why nothing, or nothing more, begins now.
type Wait struct {
	Until time.Time // zero: until a running move is over
	Why   string
}

// Next returns the moves that may begin now, by the policy and by what there is
// room for while they run: a tenant that moves takes room at both ends. Where
// not all of those left may, it also says what for they wait.
//
// f is the fleet as it is, where tenants under way are still at their old shard. It
// need not have every tenant: those of the moves, those of their anti-affinity groups,
// those with a shard to themselves and those on the shards that such a one goes to; of
// the others the shards' Other may hold the sum.
//
// Arrivals at each shard keep the plan's order, so that the first move left can
// always begin once those running are over: no order of ends can lock a plan up.
// Errors: ErrInvalid, when a move's tenant is not where the plan has it.
func Next(f *Fleet, p *Policy, w Work, now time.Time) (begin []Move, wait Wait, err error) {
	if len(w.Left) == 0 {
		return nil, Wait{}, nil
	}
	if until, quiet := p.QuietUntil(now); quiet {
		return nil, Wait{until, "quiet hours"}, nil
	}
	st, err := newState(f, p, now)
	if err != nil {
		return nil, Wait{}, err
	}
	g := &gate{st: st, shards: map[shardmap.ShardID]int32{}, tenants: make(map[shardmap.TenantID]int32, len(w.Left)+len(w.Running)),
		moving: map[int32]int{}, kept: map[int32]bool{}}
	g.spent, g.spentUntil = spent(w.Begun, now)
	for s := range st.shards {
		g.shards[st.shards[s].ID] = int32(s) //nolint:gosec // fleets have thousands of shards
	}
	for _, moves := range [][]Move{w.Left, w.Running} {
		for _, m := range moves {
			g.tenants[m.Tenant] = none
		}
	}
	for t := range st.tenants {
		if _, moves := g.tenants[st.tenants[t].ID]; moves {
			g.tenants[st.tenants[t].ID] = int32(t) //nolint:gosec // a fleet has fewer than 2^31 tenants
		}
	}
	for _, m := range w.Running {
		if err := g.find(m); err != nil {
			return nil, Wait{}, err
		}
		g.arrive()
	}
	for _, m := range w.Left {
		if held := g.full(); held != nil { // whatever else is left
			if wait.Why == "" {
				wait = *held
			}
			break
		}
		if err := g.find(m); err != nil {
			return nil, Wait{}, err
		}
		held := g.holds(m)
		if held == nil {
			g.arrive()
			g.spent += m.Bytes
			begin = append(begin, m)
			continue
		}
		g.kept[g.to] = true
		if wait.Why == "" {
			wait = *held
		}
	}
	return begin, wait, nil
}

// spent is what was begun within the hour before now, and when the first of it is an hour old.
func spent(begun []Begun, now time.Time) (bytes float64, until time.Time) {
	for _, b := range begun {
		if over := b.At.Add(time.Hour); over.After(now) {
			bytes += b.Bytes
			if until.IsZero() || over.Before(until) {
				until = over
			}
		}
	}
	return bytes, until
}

// gate lets moves begin, one after the other.
type gate struct {
	st         *state
	shards     map[shardmap.ShardID]int32
	tenants    map[shardmap.TenantID]int32
	moving     map[int32]int // moves that a shard takes part in
	running    int
	kept       map[int32]bool // shards that an earlier move waits to arrive at
	spent      float64        // bytes begun within the hour
	spentUntil time.Time      // when the first of them don't count any more

	t, from, to int32 // the move in question
}

// find sets the move in question.
func (g *gate) find(m Move) error {
	t, known := g.tenants[m.Tenant]
	from, has := g.shards[m.From]
	to, hasTo := g.shards[m.To]
	if !known || t == none || !has || !hasTo || g.st.home[t] != from {
		return fmt.Errorf("%w plan: tenant %s is not on %s, or there is no %s", ErrInvalid, m.Tenant, m.From, m.To)
	}
	g.t, g.from, g.to = t, from, to
	return nil
}

// arrive counts the tenant at its target too.
func (g *gate) arrive() {
	g.running++
	g.moving[g.from]++
	g.moving[g.to]++
	sh, k := &g.st.shards[g.to], g.st.kind(g.t)
	u := g.st.tenants[g.t].use()
	sh.load.add(&u)
	sh.members = append(sh.members, g.t)
	if k.group != 0 {
		g.st.apart[groupAt{k.group, g.to}]++
	}
	if k.Exclusive {
		sh.exclusives++
	}
}

// full says why no move at all begins; nil if one may.
func (g *gate) full() *Wait {
	if most := g.st.policy.MaxMoves; most == 0 || g.running < most {
		return nil
	}
	return &Wait{Why: fmt.Sprintf("%d moves are running, which is the most allowed", g.running)}
}

// holds says what keeps the move from beginning; nil if nothing.
func (g *gate) holds(m Move) *Wait {
	p, now := &g.st.policy, g.st.now
	t := &g.st.tenants[g.t]
	switch {
	case g.kept[g.to]:
		return &Wait{Why: fmt.Sprintf("an earlier move to %s waits", m.To)}
	case p.MaxMovesPerShard > 0 && g.moving[g.from] >= p.MaxMovesPerShard:
		return &Wait{Why: fmt.Sprintf("%s takes part in %d moves, which is the most allowed", m.From, g.moving[g.from])}
	case p.MaxMovesPerShard > 0 && g.moving[g.to] >= p.MaxMovesPerShard:
		return &Wait{Why: fmt.Sprintf("%s takes part in %d moves, which is the most allowed", m.To, g.moving[g.to])}
	case p.MaxBytesPerHour > 0 && g.spent > 0 && g.spent+m.Bytes > p.MaxBytesPerHour:
		// One that is larger than the bound goes in an hour of its own.
		until := g.spentUntil
		if until.IsZero() {
			until = now.Add(time.Hour)
		}
		return &Wait{until, fmt.Sprintf("%s were begun within the hour, of at most %s", figure(Bytes, g.spent), figure(Bytes, p.MaxBytesPerHour))}
	case t.Busy.At(now) && t.Busy != allHours:
		return &Wait{now.Truncate(time.Hour).Add(time.Hour), fmt.Sprintf("%s is busy at this hour", m.Tenant)}
	}
	if _, detail := g.st.obstacle(g.t, g.to); detail != "" {
		return &Wait{Why: detail}
	}
	return nil
}

// allHours is the Hours of a tenant that is always busy, which waits for nothing.
const allHours Hours = 1<<24 - 1
