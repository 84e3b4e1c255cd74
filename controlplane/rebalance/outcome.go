package rebalance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// Receipt is what a run has come to.
type Receipt struct {
	Moved int     `json:"moved"`
	Bytes float64 `json:"bytes"` // of those
	Left  int     `json:"left"`
	Plans int     `json:"plans"` // how often it planned
	// Stayed are tenants that were to be moved and were not, the first of them.
	Stayed []Stayed `json:"stayed,omitempty"`
	// Drained are the shards that were to be emptied and have no tenants any more.
	Drained []shardmap.ShardID `json:"drained,omitempty"`
}

// Stayed is a tenant that a run could not move.
type Stayed struct {
	Tenant    shardmap.TenantID `json:"tenant"`
	Shard     shardmap.ShardID  `json:"shard,omitempty"` // where it stays
	Operation string            `json:"operation,omitempty"`
	Why       string            `json:"why"`
}

// mostStayed bounds what a receipt lists.
const mostStayed = 100

// rest says how far the run is, and when it is to go on.
func (s *Service) rest(ctx context.Context, r *run, after time.Duration) (verdict, err error) {
	p, err := s.progress(ctx, r)
	if err != nil {
		return nil, err
	}
	return operation.Again(after, p), nil
}

// progress is that of the whole run.
func (s *Service) progress(ctx context.Context, r *run) (operation.Progress, error) {
	counts, err := s.store.CountRebalanceMoves(ctx, r.Op.ID)
	if err != nil {
		return operation.Progress{}, err
	}
	running, err := s.store.RebalanceMoves(ctx, r.Op.ID, 0, catalog.MoveRunning)
	if err != nil {
		return operation.Progress{}, err
	}
	var all, done, bytes, carried float64
	for state, c := range counts {
		all, bytes = all+float64(c.Moves), bytes+c.Bytes
		if state != catalog.MoveLeft && state != catalog.MoveRunning {
			done, carried = done+float64(c.Moves), carried+c.Bytes
		}
	}
	var under []string
	for _, m := range running {
		op, err := s.engine.Get(ctx, m.Operation)
		if err != nil {
			return operation.Progress{}, err
		}
		share := s.walked(op)
		done, carried = done+share, carried+share*m.Bytes
		under = append(under, fmt.Sprintf("%s to %s", m.Tenant, m.To))
	}
	p := operation.Progress{BytesDone: int64(carried), BytesTotal: int64(bytes), Waiting: r.Data.Wait}
	if all > 0 {
		p.Percent = 100 * done / all
	}
	if r.Op.StartedAt != nil && done >= 1 {
		p.ETA = time.Duration(float64(time.Since(*r.Op.StartedAt)) / done * (all - done)).Round(time.Second)
	}
	if len(under) == 0 {
		return p, nil
	}
	const shown = 3
	if more := len(under) - shown; more > 0 {
		under = append(under[:shown], fmt.Sprintf("and %d more", more))
	}
	p.Waiting = fmt.Sprintf("moves under way: %s", strings.Join(under, ", "))
	if left := counts[catalog.MoveLeft].Moves; left > 0 {
		p.Waiting += fmt.Sprintf("; %d left", left)
		if r.Data.Timed { // what ends with a move under way needs no word
			p.Waiting += ", which wait: " + r.Data.Wait
		}
	}
	return p, nil
}

// walked is the part of its steps that a move has behind it.
func (s *Service) walked(op *operation.Operation) float64 {
	steps, err := s.engine.StepsOf(op.Kind)
	if err != nil {
		return 0 // of a kind that another version knows
	}
	i := slices.IndexFunc(steps, func(st operation.StepInfo) bool { return st.Name == op.Step })
	return float64(max(i, 0)) / float64(len(steps))
}

// finish ends a run that has nothing left to do. One that leaves tenants where
// they should not stay, or could not do what was asked, has failed.
func (s *Service) finish(ctx context.Context, r *run) (verdict, err error) {
	rec, err := s.receipt(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := r.SetReceipt(rec); err != nil {
		return nil, err
	}
	if len(rec.Stayed) == 0 {
		return s.succeed(ctx, r)
	}
	if changed, err := s.closes(ctx, r); err != nil {
		return nil, err
	} else if changed {
		return s.rest(ctx, r, 0)
	}
	first := rec.Stayed[0]
	text := fmt.Sprintf("%d tenants were moved, and %d could not be: %s: %s", rec.Moved, len(rec.Stayed), first.Tenant, first.Why)
	if more := len(rec.Stayed) - 1; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return operation.Permanent(fmt.Errorf("%s", text)), nil
}

// closes lets nobody rely on a run any more that is about to fail. changed: somebody
// may already, since the fleet is not as the run saw it.
func (s *Service) closes(ctx context.Context, r *run) (changed bool, err error) {
	r.Data.Ending = true
	if err := r.Save(); err != nil {
		return false, err
	}
	// Who asked before that has the row until the shard is changed; who asks later reads it.
	err = r.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		free, err := s.store.TryLockRebalance(ctx, tx)
		if err != nil {
			return err
		}
		ground, err := s.store.RebalanceGround(ctx)
		changed = !free || ground != r.Data.Ground
		return err
	})
	r.Data.Ending = !changed
	return changed, err
}

// succeed ends the run unless the fleet has changed since it looked: somebody may
// rely on it to empty another shard.
func (s *Service) succeed(ctx context.Context, r *run) (verdict, err error) {
	changed := errors.New("the fleet has changed")
	err = r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
		free, err := s.store.TryLockRebalance(ctx, tx)
		if err != nil {
			return err
		}
		if !free { // somebody who may want this run is waiting for its row
			return changed
		}
		ground, err := s.store.RebalanceGround(ctx)
		if err == nil && ground != r.Data.Ground {
			err = changed
		}
		return err
	})
	if errors.Is(err, changed) {
		return s.rest(ctx, r, 0)
	}
	return nil, err
}

func (s *Service) receipt(ctx context.Context, r *run) (Receipt, error) {
	counts, err := s.store.CountRebalanceMoves(ctx, r.Op.ID)
	if err != nil {
		return Receipt{}, err
	}
	moved := counts[catalog.MoveMoved]
	rec := Receipt{Moved: moved.Moves, Bytes: moved.Bytes, Left: counts[catalog.MoveLeft].Moves, Plans: r.Data.Plans}
	troubles, err := s.store.RebalanceTroubles(ctx, r.Op.ID)
	if err != nil {
		return rec, err
	}
	for _, m := range troubles {
		rec.Stayed = append(rec.Stayed, Stayed{m.Tenant, m.From, m.Operation, m.Error})
	}
	for _, ref := range r.Data.Refused {
		rec.Stayed = append(rec.Stayed, Stayed{Tenant: ref.Tenant, Why: describeRefusal(ref)})
	}
	rec.Stayed = rec.Stayed[:min(len(rec.Stayed), mostStayed)]
	shards, err := s.store.ListShards(ctx)
	if err != nil {
		return rec, err
	}
	for _, on := range shards {
		if on.State != catalog.ShardDraining {
			continue
		}
		has, err := s.store.CountTenantsOn(ctx, on.ID)
		if err != nil {
			return rec, err
		}
		if has.Living == 0 {
			rec.Drained = append(rec.Drained, on.ID)
		}
	}
	return rec, nil
}

func describeRefusal(r balance.Refusal) string { return fmt.Sprintf("%s: %s", r.Constraint, r.Detail) }

// windDown is what is left of a run that was cancelled: what is under way ends by itself.
func (s *Service) windDown(ctx context.Context, r *run) (verdict, err error) {
	running, _, err := s.settle(ctx, r, s.now())
	if err != nil {
		return nil, err
	}
	r.Data.Wait = ""
	if len(running) > 0 {
		return s.rest(ctx, r, s.tick)
	}
	rec, err := s.receipt(ctx, r)
	if err != nil {
		return nil, err
	}
	return nil, r.SetReceipt(rec)
}
