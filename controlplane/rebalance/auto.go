package rebalance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/sleep"
)

// SetAuto has runs begin by themselves, or not. A run under way goes on either way.
func (s *Service) SetAuto(ctx context.Context, on bool, actor catalog.Actor) error {
	return s.locked(ctx, func(ctx context.Context, tx pgx.Tx, was catalog.RebalanceState) error {
		if was.Auto == on {
			return nil
		}
		if err := s.store.SetRebalanceAuto(ctx, tx, on, actor); err != nil {
			return err
		}
		return s.record(ctx, tx, actor, "rebalance.auto", "rebalance", "", map[string]bool{"on": on})
	})
}

// Run begins runs by itself while auto mode is on, until ctx ends; then it
// returns nil. Of several replicas one looks at a time.
func (s *Service) Run(ctx context.Context) error {
	every := s.autoEvery
	for ctx.Err() == nil {
		state, err := s.store.TakeRebalanceLook(ctx, every)
		if err == nil {
			began := time.Now()
			err = s.auto(ctx, state)
			every = max(s.autoEvery, 20*time.Since(began)) // a large fleet is not planned for all the time
		}
		if err != nil && !errors.Is(err, catalog.ErrNotFound) && ctx.Err() == nil {
			s.log.WarnContext(ctx, "rebalance: auto mode could not look", "error", err)
		}
		_ = sleep.For(ctx, s.autoEvery/4+rand.N(s.autoEvery/4+1)) //nolint:gosec // jitter; only its context ends it early
	}
	return nil
}

// autoActor is who begins runs in auto mode.
func autoActor(why string) catalog.Actor {
	return catalog.Actor{Name: "system", Role: "system", Reason: why}
}

// auto is one look: it begins a run if there is a reason to.
func (s *Service) auto(ctx context.Context, state catalog.RebalanceState) error {
	var m memory
	if err := json.Unmarshal(state.Memory, &m); err != nil {
		s.log.WarnContext(ctx, "rebalance: auto mode forgets what it saw", "error", err)
		m = memory{}
	}
	last, running, err := s.lastRun(ctx)
	if err != nil {
		return err
	}
	if running != "" {
		return s.note(ctx, m, "run "+running+" is under way", nil)
	}
	see, err := s.see(ctx, last)
	if err != nil {
		return err
	}
	d := m.decide(see)
	return s.note(ctx, m, d.says, &d)
}

// see reads the fleet and plans for it.
func (s *Service) see(ctx context.Context, last *ended) (sight, error) {
	done, err := s.begin(ctx)
	if err != nil {
		return sight{}, err
	}
	defer done()
	at, err := s.Snapshot(ctx)
	if err != nil {
		return sight{}, err
	}
	shards, err := s.conditions(ctx)
	if err != nil {
		return sight{}, err
	}
	now := s.now()
	resting, err := s.resting(ctx, now)
	if err != nil {
		return sight{}, err
	}
	fleet := expected(shards.without(at.Fleet), nil, keysOf(resting))
	plan, err := balance.Make(fleet, &at.Policy, balance.Ask{Now: now, Partial: true})
	return sight{now: now, fleet: at.Fleet, policy: &at.Policy, plan: plan, last: last, resting: resting}, err // a lost shard that is back was not added
}

// note keeps what a look found, and begins the run that it decided on.
func (s *Service) note(ctx context.Context, m memory, says string, d *decision) error {
	begins := d != nil && d.begin
	err := s.locked(ctx, func(ctx context.Context, tx pgx.Tx, state catalog.RebalanceState) error {
		if !state.Auto {
			return nil
		}
		if begins {
			op, err := s.start(ctx, tx, RunDoc{Goal: Goal{Trigger: d.says, Must: d.must}}, nil, autoActor(d.says), "")
			if err != nil {
				return err
			}
			says = "run " + op.ID + " was begun: " + says
			if err := s.record(ctx, tx, autoActor(d.says), "rebalance.begin", "operation/"+op.ID, "", map[string]string{"trigger": d.kind}); err != nil {
				return err
			}
		}
		text, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("memory of auto mode: %w", err)
		}
		return s.store.NoteRebalanceLook(ctx, tx, says, text)
	})
	if errors.Is(err, ErrRunning) { // somebody was quicker
		return nil
	}
	if err == nil && begins {
		s.count.autos.WithLabelValues(d.kind).Inc()
	}
	return err
}

// lastRun reads the run that ended last, and the ID of the one under way.
func (s *Service) lastRun(ctx context.Context) (last *ended, running string, err error) {
	ops, _, err := s.engine.List(ctx, operation.Filter{Kind: KindRun}, catalog.Page{Limit: 1})
	if err != nil || len(ops) == 0 {
		return nil, "", err
	}
	op := ops[0]
	if !op.State.Final() {
		return nil, op.ID, nil
	}
	last = &ended{id: op.ID, failed: op.State == operation.Failed, canceled: op.State == operation.Canceled}
	if op.FinishedAt != nil {
		last.at = *op.FinishedAt
	}
	return last, "", nil
}
