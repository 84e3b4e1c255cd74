package rebalance

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/balance/policyfile"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/placement"
	"github.com/freehold-db/freehold/shardmap"
)

// Wanted is what is declared of placement: a policy file's contents, and its version.
type Wanted struct {
	policyfile.Document
	Stored catalog.PlacementPolicy
	// More tenants than those in the document have needs.
	More int
}

// shownNeeds bounds the tenants whose needs are shown at once.
const shownNeeds = 10_000

// Policy reads what is declared now.
func (s *Service) Policy(ctx context.Context) (Wanted, error) {
	w := Wanted{Document: policyfile.Document{Shards: map[shardmap.ShardID]balance.Vector{}, Tenants: map[shardmap.TenantID]balance.Needs{}}}
	err := s.store.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		if w.Stored, err = s.store.PlacementPolicy(ctx, tx); err != nil {
			return err
		}
		if w.Policy, err = placement.Policy(w.Stored); err != nil {
			return err
		}
		capacities, err := s.store.ListCapacities(ctx, tx)
		if err != nil {
			return err
		}
		for id, c := range capacities {
			w.Shards[id] = placement.Vector(c)
		}
		needs, more, err := s.store.ListNeeds(ctx, tx, shownNeeds)
		for id, n := range needs {
			w.Tenants[id] = balance.Needs(n)
		}
		w.More = more
		return err
	})
	return w, err
}

// Needs reads what a tenant needs, and the version of what is declared.
// Errors: catalog.ErrNotFound, catalog.ErrConflict (it is deleted).
func (s *Service) Needs(ctx context.Context, id shardmap.TenantID) (n catalog.Needs, version int64, err error) {
	t, err := s.store.GetTenant(ctx, id)
	if err != nil {
		return n, 0, err
	}
	if t.Placement.State == shardmap.Deleted {
		return n, 0, fmt.Errorf("tenant %s is deleted: %w", id, catalog.ErrConflict)
	}
	if version, err = s.version(ctx); err != nil {
		return n, 0, err
	}
	// After the version: what changed in between is refused by it.
	n, err = s.store.GetNeeds(ctx, id)
	return n, version, err
}

// Capacity reads what a shard may carry, and the version of what is declared. Errors: catalog.ErrNotFound.
func (s *Service) Capacity(ctx context.Context, id shardmap.ShardID) (v balance.Vector, version int64, err error) {
	if _, err := s.store.GetShard(ctx, id); err != nil {
		return v, 0, err
	}
	err = s.store.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		stored, err := s.store.PlacementPolicy(ctx, tx)
		if err != nil {
			return err
		}
		all, err := s.store.ListCapacities(ctx, tx)
		v, version = placement.Vector(all[id]), stored.Version
		return err
	})
	return v, version, err
}

func (s *Service) version(ctx context.Context) (version int64, err error) {
	err = s.store.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		stored, err := s.store.PlacementPolicy(ctx, tx)
		version = stored.Version
		return err
	})
	return version, err
}
