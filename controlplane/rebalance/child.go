package rebalance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/placement"
	"github.com/freehold-db/freehold/internal/failpoint"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	// busyFor is how long a tenant is left alone that another operation has.
	busyFor = 5 * time.Second
	// soakFor is how long one is left alone that can still be taken back.
	soakFor = 30 * time.Second
	// patience is how long a run waits for a tenant that need not be moved.
	patience = 10 * time.Minute
	// tries bounds the moves of one tenant within a run, and retryIn is the time between them.
	tries   = 2
	retryIn = time.Minute
)

// beginMove begins a move, in the transaction that records it with the run. not
// begun: the tenant can't be moved now.
func (s *Service) beginMove(ctx context.Context, r *run, m catalog.RebalanceMove, now time.Time) (begun bool, err error) {
	if err := failpoint.Hit("rebalance/begin"); err != nil {
		return false, err
	}
	actor := catalog.Actor{Name: r.Op.Actor.Name, Role: r.Op.Actor.Role, Reason: fmt.Sprintf("rebalance %s: %s", r.Op.ID, m.Why)}
	err = r.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		// Needs and neighbours may be others since the fleet was read.
		if err := placement.MayMove(ctx, s.store, tx, m.Tenant, m.To); err != nil {
			return err
		}
		op, err := s.moves.MoveTx(ctx, tx, move.Request{Tenant: m.Tenant, To: m.To}, actor, fmt.Sprintf("rebalance/%s/%d", r.Op.ID, m.N))
		if err != nil {
			return err
		}
		if err := s.store.BeginRebalanceMove(ctx, tx, r.Op.ID, m.N, op.ID, now); err != nil {
			return err
		}
		return failpoint.Hit("rebalance/beginning")
	})
	wait := patience
	if r.Data.Must {
		wait = 0 // for ever
	}
	switch {
	case err == nil:
		delete(r.Data.Held, m.Tenant)
		s.count.begun.Inc()
		return true, failpoint.Hit("rebalance/begun")
	case errors.Is(err, move.ErrSoaking):
		// Who asked for the soak wants to be able to take the tenant back: that is not ours to end.
		return false, s.hold(ctx, r, m, "it can still be taken back: tenant-ops tenant move soaks", soakFor, wait, now)
	case errors.Is(err, catalog.ErrBusy):
		return false, s.hold(ctx, r, m, "another operation has it", busyFor, wait, now)
	case errors.Is(err, catalog.ErrConflict), errors.Is(err, catalog.ErrNotFound):
		r.Data.Ground = "" // it is not as it was planned: plan anew
		return false, s.hold(ctx, r, m, err.Error(), busyFor, patience, now)
	}
	return false, err
}

// hold leaves the tenant's move for later, and gives it up once it was held for
// longer than patience; 0: never.
func (s *Service) hold(ctx context.Context, r *run, m catalog.RebalanceMove, why string, lasts, patience time.Duration, now time.Time) error {
	h, held := r.Data.Held[m.Tenant]
	if !held {
		h.Since = now
	}
	if patience > 0 && now.Sub(h.Since) >= patience {
		delete(r.Data.Held, m.Tenant)
		return s.giveUp(ctx, r, []catalog.RebalanceMove{m}, why, now)
	}
	h.Until, h.Why = now.Add(lasts), why
	putHold(r, m.Tenant, h)
	return nil
}

func putHold(r *run, id shardmap.TenantID, h hold) {
	if r.Data.Held == nil {
		r.Data.Held = map[shardmap.TenantID]hold{}
	}
	r.Data.Held[id] = h
}

// giveUp records that these moves, which are left, will not be.
func (s *Service) giveUp(ctx context.Context, r *run, moves []catalog.RebalanceMove, why string, now time.Time) error {
	return r.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		for _, m := range moves {
			if err := s.store.EndRebalanceMove(ctx, tx, r.Op.ID, m.N, catalog.MoveGivenUp, why, now); err != nil {
				return err
			}
		}
		return nil
	})
}

// settle records the moves that have ended, and returns those under way. news: there were some.
func (s *Service) settle(ctx context.Context, r *run, now time.Time) (running []catalog.RebalanceMove, news bool, err error) {
	all, err := s.store.RebalanceMoves(ctx, r.Op.ID, 0, catalog.MoveRunning)
	if err != nil {
		return nil, false, err
	}
	for _, m := range all {
		op, err := s.engine.Get(ctx, m.Operation)
		if err != nil {
			return nil, false, err
		}
		if !op.State.Final() {
			running = append(running, m)
			continue
		}
		if err := failpoint.Hit("rebalance/ending"); err != nil {
			return nil, false, err
		}
		if err := s.end(ctx, r, m, op, now); err != nil {
			return nil, false, err
		}
		if err := failpoint.Hit("rebalance/ended"); err != nil {
			return nil, false, err
		}
		news = true
	}
	return running, news, nil
}

// end records how a move ended. One that failed is tried once more later,
// unless preflight refused it or a person cancelled it.
func (s *Service) end(ctx context.Context, r *run, m catalog.RebalanceMove, op *operation.Operation, now time.Time) error {
	s.count.moves.WithLabelValues(string(op.State)).Inc()
	if op.State == operation.Done {
		return r.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			return s.store.EndRebalanceMove(ctx, tx, r.Op.ID, m.N, catalog.MoveMoved, "", now)
		})
	}
	again, err := s.mayTryAgain(ctx, r, m, op)
	if err != nil {
		return err
	}
	s.log.WarnContext(ctx, "rebalance: a move failed", "operation", r.Op.ID, "tenant", m.Tenant, "move", op.ID, "again", again, "error", op.Error)
	err = r.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := s.store.EndRebalanceMove(ctx, tx, r.Op.ID, m.N, catalog.MoveFailed, op.Error, now); err != nil || !again {
			return err
		}
		return s.store.AddRebalanceMove(ctx, tx, r.Op.ID, m)
	})
	if err == nil && again {
		putHold(r, m.Tenant, hold{Since: now, Until: now.Add(retryIn), Why: "its move failed, and is tried once more: " + op.Error})
	}
	return err
}

func (s *Service) mayTryAgain(ctx context.Context, r *run, m catalog.RebalanceMove, op *operation.Operation) (bool, error) {
	if op.State == operation.Canceled || r.Op.State == operation.Undoing {
		return false, nil
	}
	steps, err := s.engine.Steps(ctx, op.ID)
	if err != nil {
		return false, err
	}
	got := false // beyond the preflight
	for _, st := range steps {
		got = got || !st.Undo && st.Step != "preflight"
	}
	if !got {
		return false, nil
	}
	before, err := s.store.CountRebalanceTries(ctx, r.Op.ID, m.Tenant)
	return before+1 < tries, err
}
