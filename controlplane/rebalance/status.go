package rebalance

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
)

// Status is how the fleet's coordinator stands.
type Status struct {
	catalog.RebalanceState
	Run *RunStatus // the one under way, or the last; nil: there never was one
}

// RunStatus is how a run stands.
type RunStatus struct {
	Operation *operation.Operation
	RunDoc
	Counts map[catalog.RebalanceMoveState]catalog.RebalanceCount
	// Running are its moves under way.
	Running []RunMove
}

// RunMove is one move of a run; Operation is nil until it is begun.
type RunMove struct {
	catalog.RebalanceMove
	Operation *operation.Operation
}

// Status tells how the coordinator stands.
func (s *Service) Status(ctx context.Context) (st Status, err error) {
	if st.RebalanceState, err = s.store.RebalanceState(ctx); err != nil {
		return st, err
	}
	ops, _, err := s.engine.List(ctx, operation.Filter{Kind: KindRun}, catalog.Page{Limit: 1})
	if err != nil || len(ops) == 0 {
		return st, err
	}
	st.Run, err = s.RunStatus(ctx, ops[0].ID)
	return st, err
}

// RunStatus tells how a run stands. Errors: catalog.ErrNotFound.
func (s *Service) RunStatus(ctx context.Context, id string) (*RunStatus, error) {
	op, err := s.engine.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if op.Kind != KindRun {
		return nil, fmt.Errorf("operation %s is a %s and no run: %w", id, op.Kind, catalog.ErrNotFound)
	}
	r := &RunStatus{Operation: op}
	if err := json.Unmarshal(op.Data, &r.RunDoc); err != nil {
		return nil, fmt.Errorf("document of run %s: %w", id, err)
	}
	if r.Counts, err = s.store.CountRebalanceMoves(ctx, id); err != nil {
		return nil, err
	}
	running, err := s.store.RebalanceMoves(ctx, id, 0, catalog.MoveRunning)
	if err != nil {
		return nil, err
	}
	r.Running, err = s.withOperations(ctx, running)
	return r, err
}

// Moves lists the moves of a run in its order; after is the N of the page before.
func (s *Service) Moves(ctx context.Context, run string, after, limit int) ([]RunMove, error) {
	if _, err := s.RunStatus(ctx, run); err != nil {
		return nil, err
	}
	moves, err := s.store.ListRebalanceMoves(ctx, run, after, limit)
	if err != nil {
		return nil, err
	}
	return s.withOperations(ctx, moves)
}

// withOperations adds the operations of those under way.
func (s *Service) withOperations(ctx context.Context, moves []catalog.RebalanceMove) ([]RunMove, error) {
	all := make([]RunMove, len(moves))
	for i, m := range moves {
		all[i].RebalanceMove = m
		if m.State != catalog.MoveRunning {
			continue
		}
		op, err := s.engine.Get(ctx, m.Operation)
		if err != nil {
			return nil, err
		}
		all[i].Operation = op
	}
	return all, nil
}
