package balance

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// Plan is an ordered list of moves. Carried out in its order it breaks no hard
// constraint and overfills no shard at any point, so that it may be stopped anywhere.
type Plan struct {
	// Digest is that of the fleet the plan was made for, see [Fleet.Digest].
	Digest string `json:"digest"`
	// Scenario was asked for; empty: the fleet as it is.
	Scenario string        `json:"scenario,omitempty"`
	Moves    []Move        `json:"moves"`
	Bytes    float64       `json:"bytes"`
	Shards   []ShardChange `json:"shards"`
	// Refused are demands that cannot be met. Only a plan that was asked to be partial has any.
	Refused []Refusal `json:"refused,omitempty"`
}

// Move is one tenant's way to another shard.
type Move struct {
	Tenant shardmap.TenantID `json:"tenant"`
	From   shardmap.ShardID  `json:"from"`
	To     shardmap.ShardID  `json:"to"`
	Bytes  float64           `json:"bytes"`
	Reason Reason            `json:"reason"`
}

// Reason says why a tenant moves, and why there.
type Reason struct {
	Kind   Kind   `json:"kind"`
	Detail string `json:"detail"`
}

// ShardChange is what a plan does to a shard.
type ShardChange struct {
	ID       shardmap.ShardID `json:"id"`
	State    State            `json:"state"`
	Capacity Vector           `json:"capacity"`
	Before   ShardLoad        `json:"before"`
	After    ShardLoad        `json:"after"`
}

// ShardLoad is what a shard carries at one time.
type ShardLoad struct {
	Load    Vector `json:"load"`
	Tenants int    `json:"tenants"`
	// Share is how many times its even share the shard carries, in the dimension
	// where that is most; 0 for a shard that is not balanced.
	Share float64 `json:"share"`
	In    string  `json:"in,omitempty"`
}

// Ask is what a plan is wanted for.
type Ask struct {
	Now      time.Time
	Scenario Scenario
	// Partial plans what can be done where something cannot.
	Partial bool
}

// rounds bounds how often the planner starts over from where its plan leads. The
// second round nearly always finds nothing left to do.
const rounds = 16

// Make plans the fleet's moves. Errors: ErrInvalid; *InfeasibleError where a
// tenant has to move that cannot, unless a partial plan will do.
func Make(f *Fleet, p *Policy, ask Ask) (*Plan, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	assumed, err := ask.Scenario.Apply(f)
	if err != nil {
		return nil, err
	}
	st, err := newState(assumed, p, ask.Now)
	if err != nil {
		return nil, err
	}
	plan := &Plan{Digest: f.Digest(), Scenario: ask.Scenario.String(), Moves: []Move{}, Shards: make([]ShardChange, len(st.shards))}
	for s := range st.shards {
		sh := &st.shards[s]
		plan.Shards[s] = ShardChange{ID: sh.ID, State: sh.State, Capacity: sh.Capacity, Before: ShardLoad{Load: sh.load, Tenants: len(sh.members)}}
	}
	for range rounds {
		steps := st.round()
		if len(steps) == 0 {
			st.refuseRest()
			break
		}
		for _, s := range steps {
			plan.add(st, s)
			st.home[s.tenant], st.fixed[s.tenant] = s.to, true
		}
		st.tidy()
	}
	if len(st.refused) > 0 && !ask.Partial {
		return nil, &InfeasibleError{st.refused}
	}
	plan.Refused = st.refused
	for s := range st.shards {
		c, sh := &plan.Shards[s], &st.shards[s]
		c.After = sh.view(sh.load, len(sh.members))
		c.Before = sh.view(c.Before.Load, c.Before.Tenants)
	}
	return plan, nil
}

// round plans once from where the tenants are, and carries it out.
func (st *state) round() []step {
	st.refused = nil
	clear(st.why)
	musts := st.takeOff()
	st.makePools()
	st.setLevels()
	st.setDown(musts)
	// A fleet near its target is left alone, unless there is work on it anyway.
	if len(musts) > 0 || st.outOfBalance() {
		for range passes {
			st.relieve()
			if !st.undo() {
				break
			}
		}
	}
	return st.sequence()
}

func (p *Plan) add(st *state, s step) {
	t := &st.tenants[s.tenant]
	p.Bytes += t.Usage[Bytes]
	p.Moves = append(p.Moves, Move{
		Tenant: t.ID, From: st.shards[s.from].ID, To: st.shards[s.to].ID, Bytes: t.Usage[Bytes],
		Reason: Reason{s.why.kind, st.tell(s)},
	})
}

// tell says why this move, in a sentence for people.
func (st *state) tell(s step) string {
	from, to := st.shards[s.from].ID, st.shards[s.to].ID
	why := s.why.detail
	switch s.why.kind {
	case ForBalance:
		why = fmt.Sprintf("%s carries %.2f × its even share of %s", from, s.why.share, s.why.in)
	case ForSwap:
		why = fmt.Sprintf("it changes places with %s, since no single move helps", s.why.detail)
	case ForLimit:
		why = fmt.Sprintf("%s is filled beyond its headroom", from)
	}
	return fmt.Sprintf("%s; %s goes from %.2f to %.2f × its even share", why, to, s.before, s.after)
}

func (sh *shard) view(load Vector, tenants int) ShardLoad {
	v := ShardLoad{Load: load, Tenants: tenants}
	now := sh.load
	sh.load = load
	share, in := sh.share()
	sh.load = now
	if share > 0 {
		v.Share, v.In = share, in.String()
	}
	return v
}

// MarshalJSON writes a value for each dimension, by its name.
func (v Vector) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Bytes       float64 `json:"bytes"`
		Connections float64 `json:"connections"`
		Load        float64 `json:"load"`
		WAL         float64 `json:"wal"`
		Databases   float64 `json:"databases"`
	}{v[Bytes], v[Connections], v[Load], v[WAL], v[Databases]})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (v *Vector) UnmarshalJSON(text []byte) error {
	var named struct{ Bytes, Connections, Load, WAL, Databases float64 }
	if err := json.Unmarshal(text, &named); err != nil {
		return err
	}
	*v = Vector{Bytes: named.Bytes, Connections: named.Connections, Load: named.Load, WAL: named.WAL, Databases: named.Databases}
	return nil
}
