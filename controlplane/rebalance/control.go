package rebalance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
)

// Errors of runs that a caller decides on; all are catalog.ErrConflict as well.
var (
	// ErrRunning: there is a run already.
	ErrRunning = fmt.Errorf("a run is under way: %w", catalog.ErrConflict)
	// ErrNoRun: there is none.
	ErrNoRun = fmt.Errorf("no run is under way: %w", catalog.ErrConflict)
	// ErrStale: the plan was made for another state of the fleet; the text says what differs.
	ErrStale = fmt.Errorf("the plan is not for this fleet any more: %w", catalog.ErrConflict)
)

// forgetAfter is how long the moves of a run that has ended can be looked at.
const forgetAfter = 90 * 24 * time.Hour

// locked runs fn in a transaction that holds the coordinator's row. Of a replica's
// callers one waits for the row at a time: fn also asks the catalog beside the
// transaction, and gets no connection if those who wait have taken them all.
func (s *Service) locked(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx, state catalog.RebalanceState) error) error {
	select {
	case s.control <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("others change what runs do: %w", ctx.Err())
	}
	defer func() { <-s.control }()
	return s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		state, err := s.store.LockRebalance(ctx, tx)
		if err != nil {
			return err
		}
		return fn(ctx, tx, state)
	})
}

// current reads the run that has not ended. Errors: ErrNoRun.
func (s *Service) current(ctx context.Context) (*operation.Operation, RunDoc, error) {
	ops, _, err := s.engine.List(ctx, operation.Filter{Kind: KindRun, Unfinished: true}, catalog.Page{Limit: 1})
	if err != nil {
		return nil, RunDoc{}, err
	}
	if len(ops) == 0 {
		return nil, RunDoc{}, ErrNoRun
	}
	var d RunDoc
	if err := json.Unmarshal(ops[0].Data, &d); err != nil {
		return nil, RunDoc{}, fmt.Errorf("document of run %s: %w", ops[0].ID, err)
	}
	return ops[0], d, nil
}

// start begins a run. The caller holds the lock (locked) in
// tx, so that no other begins in between. Errors: ErrRunning.
func (s *Service) start(ctx context.Context, tx pgx.Tx, doc RunDoc, moves []catalog.RebalanceMove, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	switch op, _, err := s.current(ctx); {
	case err == nil:
		return nil, fmt.Errorf("run %s, by %s: %w", op.ID, op.CreatedBy, ErrRunning)
	case !errors.Is(err, ErrNoRun):
		return nil, err
	}
	if err := s.store.ForgetRebalanceMoves(ctx, tx, forgetAfter); err != nil {
		return nil, err
	}
	if err := s.store.SetRebalancePaused(ctx, tx, false, actor); err != nil {
		return nil, err
	}
	op, err := s.engine.StartTx(ctx, tx, operation.Spec{Kind: KindRun, Data: doc, Actor: actor, RequestKey: requestKey})
	if err != nil {
		return nil, err
	}
	return op, s.store.ReplaceMovesLeft(ctx, tx, op.ID, moves)
}

// asked finds what the same request began before; nil: nothing.
func (s *Service) asked(ctx context.Context, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	if requestKey == "" {
		return nil, nil
	}
	op, err := s.engine.FindRequest(ctx, actor.Name, requestKey)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil, nil
	}
	if err == nil && op.Kind != KindRun {
		err = fmt.Errorf("%s %s was asked for with it: %w", op.Kind, op.ID, catalog.ErrKeyReused)
	}
	return op, err
}

// ApplyPlan has a stored plan carried out. The same actor and request key again
// return the same run. Errors: catalog.ErrNotFound, ErrStale (nothing is changed), ErrRunning.
func (s *Service) ApplyPlan(ctx context.Context, id string, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	if op, err := s.asked(ctx, actor, requestKey); op != nil || err != nil {
		return op, err
	}
	stored, made, err := s.GetPlan(ctx, id)
	if err != nil {
		return nil, err
	}
	switch {
	case !s.now().Before(stored.ExpiresAt):
		return nil, fmt.Errorf("plan %s expired at %s: %w", id, stored.ExpiresAt.UTC().Format(time.RFC3339), ErrStale)
	case stored.Scenario != "":
		return nil, fmt.Errorf("plan %s supposes %s, which the fleet is not: %w", id, stored.Scenario, ErrStale)
	}
	ground, err := s.fits(ctx, stored, made.Plan)
	if err != nil {
		return nil, err
	}
	var op *operation.Operation
	err = s.locked(ctx, func(ctx context.Context, tx pgx.Tx, _ catalog.RebalanceState) (err error) {
		if op, err = s.start(ctx, tx, RunDoc{Goal: Goal{Plan: id}, Ground: ground}, kept(made.Plan.Moves), actor, requestKey); err != nil {
			return err
		}
		return s.record(ctx, tx, actor, "rebalance.apply", "plan/"+id, "", map[string]any{"operation": op.ID, "moves": len(made.Plan.Moves), "bytes": made.Plan.Bytes})
	})
	return op, err
}

// fits refuses a plan that was made for another state of the fleet, and names the ground that it stands on.
func (s *Service) fits(ctx context.Context, stored catalog.RebalancePlan, made *balance.Plan) (ground string, err error) {
	done, err := s.begin(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	if ground, err = s.store.RebalanceGround(ctx); err != nil {
		return "", err
	}
	at, err := s.Snapshot(ctx)
	if err != nil {
		return "", err
	}
	if at.Version == stored.PolicyVersion && at.Fleet.Digest() == stored.Digest {
		return ground, nil
	}
	return "", fmt.Errorf("plan %s: %s: %w", stored.ID, differs(stored, made, at), ErrStale)
}

// Pause keeps the run under way from beginning moves; those that were begun go on. Errors: ErrNoRun.
func (s *Service) Pause(ctx context.Context, actor catalog.Actor) (*operation.Operation, error) {
	return s.setPaused(ctx, true, "rebalance.pause", actor)
}

// Resume lets a run that was paused go on. Errors: ErrNoRun.
func (s *Service) Resume(ctx context.Context, actor catalog.Actor) (*operation.Operation, error) {
	return s.setPaused(ctx, false, "rebalance.resume", actor)
}

func (s *Service) setPaused(ctx context.Context, paused bool, action string, actor catalog.Actor) (op *operation.Operation, err error) {
	err = s.locked(ctx, func(ctx context.Context, tx pgx.Tx, _ catalog.RebalanceState) error {
		if op, _, err = s.current(ctx); err != nil {
			return err
		}
		if err := s.store.SetRebalancePaused(ctx, tx, paused, actor); err != nil {
			return err
		}
		if err := s.engine.WakeTx(ctx, tx, op.ID); err != nil {
			return err
		}
		return s.record(ctx, tx, actor, action, "operation/"+op.ID, "", struct{}{})
	})
	if err != nil {
		return nil, err
	}
	return s.engine.Get(ctx, op.ID)
}

// Cancel ends the run under way: no move begins any more. Those that were begun
// go on, unless atOnce asks to cancel them too where that is still possible. Errors: ErrNoRun.
func (s *Service) Cancel(ctx context.Context, atOnce bool, actor catalog.Actor) (op *operation.Operation, err error) {
	err = s.locked(ctx, func(ctx context.Context, tx pgx.Tx, _ catalog.RebalanceState) error {
		if op, _, err = s.current(ctx); err != nil {
			return err
		}
		if op, err = s.engine.CancelTx(ctx, tx, op.ID, actor); err != nil {
			return err
		}
		return s.record(ctx, tx, actor, "rebalance.cancel", "operation/"+op.ID, "", map[string]any{"at_once": atOnce})
	})
	if err != nil || !atOnce {
		return op, err
	}
	// Nothing is begun any more: these are all that there are.
	running, err := s.store.RebalanceMoves(ctx, op.ID, 0, catalog.MoveRunning)
	if err != nil {
		return nil, err
	}
	for _, m := range running {
		_, err := s.engine.Cancel(ctx, m.Operation, actor)
		if err != nil && !errors.Is(err, operation.ErrPastNoReturn) && !errors.Is(err, operation.ErrFinal) {
			return nil, err
		}
	}
	return op, nil
}
