package rebalance

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/balance/simulate"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/shardmap"
)

// Explain says why a tenant is where it is, and why not elsewhere.
// Errors: catalog.ErrNotFound, catalog.ErrConflict (it is deleted).
func (s *Service) Explain(ctx context.Context, id shardmap.TenantID) (*balance.Explanation, catalog.Needs, error) {
	t, err := s.store.GetTenant(ctx, id)
	if err != nil {
		return nil, catalog.Needs{}, err
	}
	if t.Placement.State == shardmap.Deleted {
		return nil, catalog.Needs{}, fmt.Errorf("tenant %s is deleted: %w", id, catalog.ErrConflict)
	}
	done, err := s.begin(ctx)
	if err != nil {
		return nil, catalog.Needs{}, err
	}
	defer done()
	at, err := s.Snapshot(ctx)
	if err != nil {
		return nil, catalog.Needs{}, err
	}
	e, err := balance.Explain(at.Fleet, &at.Policy, id, s.now())
	if errors.Is(err, balance.ErrUnknownTenant) { // deleted this very moment
		return nil, catalog.Needs{}, fmt.Errorf("tenant %s: %w", id, catalog.ErrNotFound)
	}
	if err != nil {
		return nil, catalog.Needs{}, err
	}
	needs, err := s.store.GetNeeds(ctx, id)
	return e, needs, err
}

// WhatIf is a question about the running fleet.
type WhatIf struct {
	Scenario balance.Scenario
	Event    string // name of one of simulate.Cases, which excludes a scenario; empty: none
	Seed     uint64 // what of an event is left to chance follows from it
	// Edit is supposed to have been made; its Expect does not matter.
	Edit   Edit
	Rivals bool
}

// Simulate plans for the running fleet, with the loads that were recorded of
// it, if something were otherwise; it keeps nothing. Errors: balance.ErrInvalid,
// ErrUnknown, [*balance.InfeasibleError].
func (s *Service) Simulate(ctx context.Context, q WhatIf) (*simulate.Result, error) {
	edit, err := q.Edit.checked()
	if err != nil {
		return nil, err
	}
	done, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	at, err := s.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	if at, err = edit.imposed(at); err != nil {
		return nil, err
	}
	fleet, scenario := at.Fleet, q.Scenario
	if q.Event != "" {
		i := slices.IndexFunc(simulate.Cases, func(c simulate.Case) bool { return c.Name == q.Event })
		if i < 0 || scenario.String() != "" {
			return nil, fmt.Errorf("%w scenario: there is no event %q, or there is a scenario beside it", balance.ErrInvalid, q.Event)
		}
		if len(fleet.Shards) == 0 {
			return nil, fmt.Errorf("%w scenario: the fleet has no shard", balance.ErrInvalid)
		}
		fleet, scenario = simulate.Cases[i].Happen(fleet, q.Seed)
	}
	return simulate.Run(fleet, &at.Policy, balance.Ask{Now: s.now(), Scenario: scenario}, q.Rivals)
}
