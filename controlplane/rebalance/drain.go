package rebalance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// Draining is how far a shard is emptied.
type Draining struct {
	Shard catalog.Shard
	catalog.OnShard
	Drain *catalog.Drain // nil: it is not being emptied
	// Run moves its tenants off; nil: none does.
	Run *operation.Operation
}

// Empty tells whether nothing of a tenant is on the shard: its server can be switched off.
func (d *Draining) Empty() bool { return d.Living == 0 && d.Deleted == 0 && d.Leftovers == 0 }

// Drain has a shard emptied: it takes no tenants any more, and a run moves those
// that it has to where there is room. A run that is under way takes that over. The
// drain of a shard that is being drained goes on. The same actor and request key
// again return the same run.
// Errors: catalog.ErrNotFound, ErrConflict (it is down), *balance.InfeasibleError
// (a tenant can go nowhere else; nothing is changed), ErrRunning (a run is winding down).
func (s *Service) Drain(ctx context.Context, id shardmap.ShardID, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	if op, err := s.asked(ctx, actor, requestKey); op != nil || err != nil {
		return op, err
	}
	if err := s.CheckDrain(ctx, id); err != nil {
		return nil, err
	}
	var op *operation.Operation
	err := s.locked(ctx, func(ctx context.Context, tx pgx.Tx, _ catalog.RebalanceState) error {
		d, err := s.store.BeginDrain(ctx, tx, id, actor)
		if err != nil {
			return err
		}
		if op, err = s.join(ctx, tx, id, actor, requestKey); err != nil {
			return err
		}
		return s.record(ctx, tx, actor, "shard.drain", "shard/"+string(id), "", map[string]any{"operation": op.ID, "was": d.Was})
	})
	if err != nil {
		return nil, err
	}
	return op, nil
}

// join has the run under way empty the shard, or begins one.
func (s *Service) join(ctx context.Context, tx pgx.Tx, id shardmap.ShardID, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	op, doc, err := s.current(ctx)
	switch {
	case errors.Is(err, ErrNoRun):
		return s.start(ctx, tx, RunDoc{Goal: Goal{Drain: []shardmap.ShardID{id}, Must: true}}, nil, actor, requestKey)
	case err != nil:
		return nil, err
	case op.CancelRequested || op.State == operation.Undoing || doc.Ending:
		return nil, fmt.Errorf("run %s is winding down, ask again once it has ended: %w", op.ID, ErrRunning)
	}
	op, err = s.engine.AskTx(ctx, tx, op.ID, func(op *operation.Operation) (json.RawMessage, error) {
		w, err := readWish(op.Asked)
		if err != nil || slices.Contains(w.Drain, id) {
			return op.Asked, err
		}
		w.Drain = append(w.Drain, id)
		return json.Marshal(w)
	})
	if errors.Is(err, operation.ErrFinal) {
		return nil, fmt.Errorf("%w: %w", ErrRunning, err)
	}
	if err != nil {
		return nil, err
	}
	return op, s.engine.WakeTx(ctx, tx, op.ID)
}

// CheckDrain tells whether all tenants of a shard could go elsewhere. Errors: as Drain's.
func (s *Service) CheckDrain(ctx context.Context, id shardmap.ShardID) error {
	shard, err := s.store.GetShard(ctx, id)
	if err != nil {
		return err
	}
	if shard.State == catalog.ShardDown {
		return fmt.Errorf("shard %s is down, and nothing can be moved off it: %w", id, catalog.ErrConflict)
	}
	done, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	at, err := s.Snapshot(ctx)
	if err != nil {
		return err
	}
	policy := mustsOnly(at.Policy)
	plan, err := balance.Make(at.Fleet, &policy, balance.Ask{Now: s.now(), Scenario: balance.Scenario{Drain: []shardmap.ShardID{id}}, Partial: true})
	if err != nil {
		return err
	}
	// What can't be done elsewhere in the fleet is no reason to keep this one.
	here := make(map[shardmap.TenantID]bool)
	for i := range at.Fleet.Tenants {
		if at.Fleet.Tenants[i].Shard == id {
			here[at.Fleet.Tenants[i].ID] = true
		}
	}
	refused := slices.DeleteFunc(plan.Refused, func(r balance.Refusal) bool { return !here[r.Tenant] })
	if len(refused) > 0 {
		return fmt.Errorf("shard %s can't be drained: %w", id, &balance.InfeasibleError{Refusals: refused})
	}
	return nil
}

// Undrain takes a drain back: the shard is what it was before, and keeps the
// tenants that it still has. A run that only emptied it, and no other shard, is cancelled; moves that
// were begun end by themselves. Errors: catalog.ErrNotFound, ErrConflict (it is not being drained).
func (s *Service) Undrain(ctx context.Context, id shardmap.ShardID, actor catalog.Actor) (catalog.Shard, error) {
	var shard catalog.Shard
	err := s.locked(ctx, func(ctx context.Context, tx pgx.Tx, _ catalog.RebalanceState) (err error) {
		if shard, err = s.store.EndDrain(ctx, tx, id); err != nil {
			return err
		}
		op, goal, err := s.current(ctx)
		if err != nil && !errors.Is(err, ErrNoRun) {
			return err
		}
		others, lerr := s.othersDrain(ctx, id)
		switch {
		case lerr != nil:
			return lerr
		case errors.Is(err, ErrNoRun):
		case !others && goal.Must && slices.Equal(goal.Drain, []shardmap.ShardID{id}):
			if _, err := s.engine.CancelTx(ctx, tx, op.ID, actor); err != nil && !errors.Is(err, operation.ErrFinal) {
				return err
			}
		default:
			if err := s.engine.WakeTx(ctx, tx, op.ID); err != nil {
				return err
			}
		}
		return s.record(ctx, tx, actor, "shard.undrain", "shard/"+string(id), "", map[string]any{"state": shard.State})
	})
	return shard, err
}

// othersDrain tells whether shards other than this one are being emptied: the run may be theirs too.
func (s *Service) othersDrain(ctx context.Context, id shardmap.ShardID) (bool, error) {
	shards, err := s.store.ListShards(ctx)
	return slices.ContainsFunc(shards, func(on catalog.ShardUsage) bool { return on.ID != id && on.State == catalog.ShardDraining }), err
}

// Draining tells how far a shard is emptied. Errors: catalog.ErrNotFound.
func (s *Service) Draining(ctx context.Context, id shardmap.ShardID) (d Draining, err error) {
	if d.Shard, err = s.store.GetShard(ctx, id); err != nil {
		return d, err
	}
	if d.OnShard, err = s.store.CountTenantsOn(ctx, id); err != nil {
		return d, err
	}
	if d.Shard.State != catalog.ShardDraining {
		return d, nil
	}
	drain, err := s.store.GetDrain(ctx, id)
	switch {
	case err == nil:
		d.Drain = &drain
	case !errors.Is(err, catalog.ErrNotFound):
		return d, err
	}
	if d.Run, _, err = s.current(ctx); errors.Is(err, ErrNoRun) {
		err = nil
	}
	return d, err
}
