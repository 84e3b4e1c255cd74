package rebalance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// A run is an operation of one step that is taken up again and again: it ends
// what has ended, begins what may begin, and rests. Its moves are operations of
// their own, each begun in the transaction that also records it with the run and
// checks the run's lease: whatever dies and whenever, none is begun twice, and
// none is forgotten. There is at most one run in the fleet.

// KindRun is the kind of operation that a run is.
const KindRun = "rebalance"

// Goal is what a run is for.
type Goal struct {
	// Plan is the stored plan that is carried out; empty: the run plans by itself.
	Plan string `json:"plan,omitempty"`
	// Drain are shards that were to be emptied when the run began.
	Drain []shardmap.ShardID `json:"drain,omitempty"`
	// Trigger is why auto mode began the run; empty: a person did.
	Trigger string `json:"trigger,omitempty"`
	// Must has only those tenants moved who may not stay where they are, and
	// nobody for the sake of balance.
	Must bool `json:"must,omitempty"`
}

// RunDoc is a run's document. Its moves are in the catalog.
type RunDoc struct {
	Goal
	// Ground names the shards and the policy that the moves left were planned for; empty: plan.
	Ground string `json:"ground,omitempty"`
	Plans  int    `json:"plans,omitempty"` // how often the run has planned
	// Replanned says why it planned last, other than at its beginning.
	Replanned string                     `json:"replanned,omitempty"`
	Refused   []balance.Refusal          `json:"refused,omitempty"` // by the plan that was made last, the first of them
	Held      map[shardmap.TenantID]hold `json:"held,omitempty"`
	// Ending: it has failed, and empties no shard that somebody asks for now.
	Ending bool `json:"ending,omitempty"`
	// Coming is since when nothing is left to do but to wait for tenants on their way to shards that are emptied.
	Coming time.Time `json:"coming,omitzero"`
	// Under is how many moves were under way at the last look: of those that ended
	// since, a worker that died may have recorded some and looked no more.
	Under int `json:"under,omitempty"`
	// LookAt is when the fleet is to be looked at again though nothing happened.
	LookAt time.Time `json:"look_at,omitzero"`
	// Wait is what keeps the next move from beginning; Timed: that ends at a time, and not with a move under way.
	Wait  string `json:"wait,omitempty"`
	Timed bool   `json:"timed,omitempty"`
}

type run = operation.Run[RunDoc]

func (s *Service) runKind() operation.Kind[RunDoc] {
	return operation.Kind[RunDoc]{Name: KindRun, Steps: []operation.Step[RunDoc]{
		{Name: "moves", Title: "moving tenants", Do: s.persistent(s.advance), Undo: s.persistent(s.windDown), Timeout: 15 * time.Minute},
	}}
}

const (
	// lookEvery bounds how long a run goes without looking at the fleet, while it waits for something.
	lookEvery = 30 * time.Second
	// strainFor is how long a shard that is strained is left alone before it is looked at again.
	strainFor = 5 * time.Second
	// comingFor is how long to wait before it is looked again who is on the way to a shard that is emptied.
	comingFor = 5 * time.Second
	// retryAfter is the pause after a look that came to nothing, as with the catalog away.
	retryAfter = 3 * time.Second
	// window bounds the moves left that are thought of at one time.
	window = 2000
)

// persistent makes a step of a look that says by its verdict how it goes on. After
// an error it looks again: a run has to be there until it is over, or somebody ends it.
func (s *Service) persistent(look func(context.Context, *run) (verdict, err error)) func(context.Context, *run) error {
	return func(ctx context.Context, r *run) error {
		verdict, err := look(ctx, r)
		if err == nil || ctx.Err() != nil || errors.Is(err, operation.ErrLeaseLost) {
			return errors.Join(verdict, err)
		}
		s.log.WarnContext(ctx, "rebalance: a look came to nothing", "operation", r.Op.ID, "error", err)
		return operation.Wait(retryAfter/2+rand.N(retryAfter), "another try: "+err.Error()) //nolint:gosec // jitter
	}
}

// advance is one look: it ends what has ended, and begins what may begin.
func (s *Service) advance(ctx context.Context, r *run) (verdict, err error) {
	now := s.now()
	r.Data.Ending = false
	running, news, err := s.settle(ctx, r, now)
	if err != nil {
		return nil, err
	}
	state, err := s.store.RebalanceState(ctx)
	if err != nil {
		return nil, err
	}
	if state.PausedAt != nil {
		r.Data.Wait, r.Data.Timed, r.Data.LookAt = pausedBy(state), true, time.Time{}
		return s.rest(ctx, r, s.tickFor(running, now.Add(lookEvery), now))
	}
	ground, err := s.store.RebalanceGround(ctx)
	if err != nil {
		return nil, err
	}
	if !news && len(running) == r.Data.Under && ground == r.Data.Ground && now.Before(r.Data.LookAt) {
		return s.rest(ctx, r, s.tickFor(running, r.Data.LookAt, now))
	}
	began := time.Now()
	over, err := s.look(ctx, r, running, now)
	if err != nil {
		return nil, err
	}
	if over {
		return s.finish(ctx, r)
	}
	s.count.second.Observe(time.Since(began).Seconds())
	// A fleet that takes long to read is not read all the time.
	if took := time.Since(began); took > time.Second && r.Data.LookAt.Before(now.Add(4*took)) {
		r.Data.LookAt = now.Add(4 * took)
	}
	if running, err = s.store.RebalanceMoves(ctx, r.Op.ID, 0, catalog.MoveRunning); err != nil {
		return nil, err
	}
	r.Data.Under = len(running)
	return s.rest(ctx, r, s.tickFor(running, r.Data.LookAt, now))
}

// tickFor is how long to rest: until the next look, but not long while moves are under way, which may end.
func (s *Service) tickFor(running []catalog.RebalanceMove, lookAt, now time.Time) time.Duration {
	if len(running) > 0 {
		return s.tick
	}
	return min(max(lookAt.Sub(now), s.tick), lookEvery)
}

func pausedBy(state catalog.RebalanceState) string {
	why := "somebody to resume it: paused by " + state.PausedBy
	if state.PausedReason != "" {
		why += " (" + state.PausedReason + ")"
	}
	return why
}

// look reads the fleet, plans anew if the moves left are not for it, and begins
// what may begin. over: there is nothing left to do.
func (s *Service) look(ctx context.Context, r *run, running []catalog.RebalanceMove, now time.Time) (over bool, err error) {
	done, err := s.begin(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	ground, err := s.store.RebalanceGround(ctx) // before the fleet: what changes in between is seen next time
	if err != nil {
		return false, err
	}
	at, err := s.Snapshot(ctx)
	if err != nil {
		return false, err
	}
	shards, err := s.conditions(ctx)
	if err != nil {
		return false, err
	}
	left, err := s.store.RebalanceMoves(ctx, r.Op.ID, window, catalog.MoveLeft)
	if err != nil {
		return false, err
	}
	var why string
	switch {
	case r.Data.Ground == "":
		why = "a move could not begin as it was planned"
	case ground != r.Data.Ground:
		why = "shards or policy changed"
	default:
		if why = misplaced(at.Fleet, left); why == "" {
			why = shards.keeps(at.Fleet, left)
		}
	}
	if why == "" && len(left) == 0 && len(running) == 0 && (r.Data.Must || drains(at.Fleet)) {
		why = "it looks whether anybody came meanwhile"
	}
	if why != "" {
		if left, err = s.replan(ctx, r, at, shards, running, ground, why, now); err != nil {
			return false, err
		}
	}
	for again := why == ""; ; again = false {
		if len(left) == 0 && len(running) == 0 {
			coming, err := s.awaits(ctx, r, now)
			return !coming, err
		}
		r.Data.Coming = time.Time{}
		sc := scene{fleet: at.Fleet, policy: &at.Policy, left: left, running: running, held: r.Data.Held, shards: shards, now: now}
		if sc.begun, err = s.begunWithin(ctx, now); err != nil {
			return false, err
		}
		c, err := sc.choose()
		if err != nil {
			return false, err
		}
		if !c.stuck {
			return false, s.carryOut(ctx, r, c, now)
		}
		// What failed may have been to make room for what is left.
		if !again {
			r.Data.LookAt = time.Time{} // whether there are more, beyond the window
			return false, s.giveUp(ctx, r, left, c.wait.Why, now)
		}
		if left, err = s.replan(ctx, r, at, shards, running, ground, "nothing that is left can begin: "+c.wait.Why, now); err != nil {
			return false, err
		}
	}
}

// drains tells whether a shard is being emptied.
func drains(f *balance.Fleet) bool {
	return slices.ContainsFunc(f.Shards, func(on balance.Shard) bool { return on.State == balance.Draining })
}

// awaits tells whether tenants may be on their way to a shard that is emptied: they were sent
// there before it was. It waits for them as long as for a tenant that can't be moved now.
func (s *Service) awaits(ctx context.Context, r *run, now time.Time) (bool, error) {
	why, err := s.store.ComingToDraining(ctx)
	if err != nil || why == "" {
		return false, err
	}
	if r.Data.Coming.IsZero() {
		r.Data.Coming = now
	}
	if !now.Before(r.Data.Coming.Add(patience)) {
		return false, nil
	}
	r.Data.Wait, r.Data.Timed, r.Data.LookAt = why, false, now.Add(comingFor)
	return true, nil
}

// carryOut begins the moves that were chosen, and says when to look again.
func (s *Service) carryOut(ctx context.Context, r *run, c choice, now time.Time) error {
	r.Data.Wait, r.Data.LookAt = c.wait.Why, now.Add(lookEvery)
	if r.Data.Timed = !c.wait.Until.IsZero(); r.Data.Timed {
		r.Data.Wait = fmt.Sprintf("%s (until %s)", c.wait.Why, c.wait.Until.UTC().Format(time.RFC3339))
		if c.wait.Until.Before(r.Data.LookAt) {
			r.Data.LookAt = c.wait.Until
		}
	}
	for _, m := range c.begin {
		begun, err := s.beginMove(ctx, r, m, now)
		if err != nil {
			return err
		}
		if !begun { // somebody else may begin in its place
			r.Data.LookAt = time.Time{}
		}
	}
	return nil
}

// begunWithin reads the moves of all runs that count for the bytes of this hour.
func (s *Service) begunWithin(ctx context.Context, now time.Time) ([]balance.Begun, error) {
	at, bytes, err := s.store.RebalanceMovesBegun(ctx, now.Add(-time.Hour))
	if err != nil {
		return nil, err
	}
	begun := make([]balance.Begun, len(at))
	for i := range at {
		begun[i] = balance.Begun{At: at[i], Bytes: bytes[i]}
	}
	return begun, nil
}
