package rebalance

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/balance/simulate"
	"github.com/freehold-db/freehold/controlplane/catalog"
)

// PlanFor is how long a plan may be carried out: what tenants use changes, and
// with it what a plan is good for, though never whether it is safe.
const PlanFor = 24 * time.Hour

// Ask is what a plan is wanted for.
type Ask struct {
	Scenario balance.Scenario
	// Partial plans what can be done where something cannot.
	Partial bool
}

// Plan plans for the fleet as it is, or as the scenario supposes it, and keeps
// the plan. Errors: balance.ErrInvalid (the scenario), [*balance.InfeasibleError].
func (s *Service) Plan(ctx context.Context, ask Ask, actor catalog.Actor) (catalog.RebalancePlan, error) {
	var kept catalog.RebalancePlan
	now := s.now().Truncate(time.Microsecond) // as the catalog keeps it
	made, err := s.plan(ctx, ask, now, &kept)
	if err != nil {
		return kept, err
	}
	text, err := json.Marshal(made)
	if err != nil {
		return kept, fmt.Errorf("keep a plan: %w", err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return kept, fmt.Errorf("keep a plan: %w", err)
	}
	plan := made.Plan
	kept.ID, kept.Digest, kept.Scenario, kept.Moves, kept.Bytes, kept.Plan = id.String(), plan.Digest, plan.Scenario, len(plan.Moves), plan.Bytes, text
	kept.CreatedBy, kept.Reason, kept.CreatedAt, kept.ExpiresAt = actor.Name, actor.Reason, now, now.Add(PlanFor)
	err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := s.store.InsertRebalancePlan(ctx, tx, kept); err != nil {
			return err
		}
		return s.record(ctx, tx, actor, "rebalance.plan", "plan/"+kept.ID, "",
			map[string]any{"scenario": kept.Scenario, "moves": kept.Moves, "bytes": kept.Bytes, "policy_version": kept.PolicyVersion})
	})
	return kept, err
}

func (s *Service) plan(ctx context.Context, ask Ask, now time.Time, kept *catalog.RebalancePlan) (*simulate.Result, error) {
	done, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	at, err := s.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	kept.PolicyVersion = at.Version
	return simulate.Run(at.Fleet, &at.Policy, balance.Ask{Now: now, Scenario: ask.Scenario, Partial: ask.Partial}, false)
}

// GetPlan reads a plan that was kept. Errors: catalog.ErrNotFound.
func (s *Service) GetPlan(ctx context.Context, id string) (catalog.RebalancePlan, *simulate.Result, error) {
	kept, err := s.store.GetRebalancePlan(ctx, id)
	if err != nil {
		return kept, nil, err
	}
	made := new(simulate.Result)
	if err := json.Unmarshal(kept.Plan, made); err != nil {
		return kept, nil, fmt.Errorf("plan %s: %w", id, err)
	}
	return kept, made, nil
}

// Plans lists newest first, without what is in them.
func (s *Service) Plans(ctx context.Context, p catalog.Page) ([]catalog.RebalancePlan, string, error) {
	return s.store.ListRebalancePlans(ctx, p)
}

// begin waits for one of the few places of what reads and plans whole fleets:
// each takes hundreds of bytes a tenant. done gives it back.
func (s *Service) begin(ctx context.Context) (done func(), err error) {
	select {
	case s.whole <- struct{}{}:
		return func() { <-s.whole }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("others are planning: %w", ctx.Err())
	}
}
