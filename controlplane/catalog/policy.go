package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// PlacementPolicy is what the fleet's operator wants of placement.
type PlacementPolicy struct {
	// Version counts the changes of policy, capacities and needs.
	Version int64
	// Text is the policy as a policy file has it; empty: the defaults.
	Text              string
	ChangedBy, Reason string
	ChangedAt         time.Time
}

// Capacity is what a shard may carry; 0: no bound.
type Capacity struct {
	Bytes       float64 // of databases on disk
	Connections float64 // server connections in use
	Load        float64 // seconds of Postgres' work a second
	WAL         float64 // bytes a second
	Databases   float64
}

// Needs are what a tenant needs of its shard; the zero value allows any.
type Needs struct {
	Region    string            `json:"region,omitempty"`
	Class     string            `json:"class,omitempty"`
	Require   map[string]string `json:"require,omitempty"` // labels that the shard must have
	Forbid    map[string]string `json:"forbid,omitempty"`  // labels that the shard must not have
	Apart     string            `json:"apart,omitempty"`   // no two tenants of this group share a shard
	Pinned    bool              `json:"pinned,omitempty"`
	Exclusive bool              `json:"exclusive,omitempty"` // shares its shard with nobody
}

// None tells whether any shard will do.
func (n Needs) None() bool {
	return n.Region == "" && n.Class == "" && len(n.Require) == 0 && len(n.Forbid) == 0 && n.Apart == "" && !n.Pinned && !n.Exclusive
}

const policyColumns = `version, policy, changed_by, reason, changed_at`

func scanPolicy(row pgx.CollectableRow) (PlacementPolicy, error) {
	var p PlacementPolicy
	err := row.Scan(&p.Version, &p.Text, &p.ChangedBy, &p.Reason, &p.ChangedAt)
	return p, err
}

// PlacementPolicy reads it inside tx.
func (s *Store) PlacementPolicy(ctx context.Context, tx pgx.Tx) (PlacementPolicy, error) {
	p, err := one(ctx, tx, scanPolicy, `select `+policyColumns+` from placement_policy`)
	if err != nil {
		return p, fmt.Errorf("policy of placement: %w", err)
	}
	return p, nil
}

// LockPlacementPolicy is PlacementPolicy, and keeps others from changing
// policy, capacities and needs until tx ends.
func (s *Store) LockPlacementPolicy(ctx context.Context, tx pgx.Tx) (PlacementPolicy, error) {
	p, err := one(ctx, tx, scanPolicy, `select `+policyColumns+` from placement_policy for update`)
	if err != nil {
		return p, fmt.Errorf("policy of placement: %w", err)
	}
	return p, nil
}

// SetPlacementPolicy writes the text and makes a new version, also for a change
// of capacities or needs in the same transaction.
func (s *Store) SetPlacementPolicy(ctx context.Context, tx pgx.Tx, text string, by Actor) (PlacementPolicy, error) {
	p, err := one(ctx, tx, scanPolicy, `update placement_policy set version = version + 1, policy = $1, changed_by = $2,
		reason = $3, changed_at = clock_timestamp() returning `+policyColumns, text, by.Name, by.Reason)
	if err != nil {
		return p, fmt.Errorf("policy of placement: %w", err)
	}
	return p, nil
}

// SetCapacity writes what a shard may carry. Errors: ErrNotFound.
func (s *Store) SetCapacity(ctx context.Context, tx pgx.Tx, shard shardmap.ShardID, c Capacity) error {
	_, err := tx.Exec(ctx, `insert into shard_capacities (shard, bytes, connections, load, wal, databases) values ($1, $2, $3, $4, $5, $6)
		on conflict (shard) do update set bytes = $2, connections = $3, load = $4, wal = $5, databases = $6`,
		shard, c.Bytes, c.Connections, c.Load, c.WAL, c.Databases)
	if err != nil {
		return fmt.Errorf("capacity of shard %s: %w", shard, translate(err))
	}
	return nil
}

// SetNeeds writes what a tenant needs. Errors: ErrNotFound.
func (s *Store) SetNeeds(ctx context.Context, tx pgx.Tx, tenant shardmap.TenantID, n Needs, by Actor) error {
	var err error
	if n.None() {
		_, err = tx.Exec(ctx, `delete from tenant_needs where tenant = $1`, tenant)
	} else {
		_, err = tx.Exec(ctx, `insert into tenant_needs (tenant, region, class, require, forbid, apart, pinned, exclusive, changed_by)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
			on conflict (tenant) do update set region = $2, class = $3, require = $4, forbid = $5, apart = $6, pinned = $7,
				exclusive = $8, changed_by = $9, changed_at = clock_timestamp()`,
			tenant, n.Region, n.Class, orEmpty(n.Require), orEmpty(n.Forbid), n.Apart, n.Pinned, n.Exclusive, by.Name)
	}
	if err != nil {
		return fmt.Errorf("needs of tenant %s: %w", tenant, translate(err))
	}
	return nil
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// GetNeeds reads what a tenant needs; the zero value, if it has no needs or there is no such tenant.
func (s *Store) GetNeeds(ctx context.Context, tenant shardmap.TenantID) (Needs, error) {
	n, err := one(ctx, s.pool, func(row pgx.CollectableRow) (n Needs, err error) {
		return n, row.Scan(&n.Region, &n.Class, &n.Require, &n.Forbid, &n.Apart, &n.Pinned, &n.Exclusive)
	}, `select region, class, require, forbid, apart, pinned, exclusive from tenant_needs where tenant = $1`, tenant)
	if errors.Is(err, ErrNotFound) {
		return Needs{}, nil
	}
	if err != nil {
		return n, fmt.Errorf("needs of tenant %s: %w", tenant, err)
	}
	return n, nil
}

// ListCapacities reads the capacities of all shards that have any.
func (s *Store) ListCapacities(ctx context.Context, tx pgx.Tx) (map[shardmap.ShardID]Capacity, error) {
	all := map[shardmap.ShardID]Capacity{}
	rows, err := many(ctx, tx, func(row pgx.CollectableRow) (id shardmap.ShardID, err error) {
		var c Capacity
		if err = row.Scan(&id, &c.Bytes, &c.Connections, &c.Load, &c.WAL, &c.Databases); err == nil && c != (Capacity{}) {
			all[id] = c
		}
		return id, err
	}, `select shard, bytes, connections, load, wal, databases from shard_capacities`)
	if err != nil {
		return nil, fmt.Errorf("capacities of %d shards: %w", len(rows), err)
	}
	return all, nil
}

// ListNeeds reads the needs of the first tenants by ID that have any and are not
// deleted, and how many others have.
func (s *Store) ListNeeds(ctx context.Context, tx pgx.Tx, limit int) (needs map[shardmap.TenantID]Needs, more int, err error) {
	needs = map[shardmap.TenantID]Needs{}
	const from = ` from tenant_needs n join placements p on p.tenant = n.tenant where p.state <> 'deleted'`
	_, err = many(ctx, tx, func(row pgx.CollectableRow) (id shardmap.TenantID, err error) {
		var n Needs
		err = row.Scan(&id, &n.Region, &n.Class, &n.Require, &n.Forbid, &n.Apart, &n.Pinned, &n.Exclusive)
		needs[id] = n
		return id, err
	}, `select n.tenant, n.region, n.class, n.require, n.forbid, n.apart, n.pinned, n.exclusive`+from+` order by n.tenant limit $1`, limit)
	if err == nil && len(needs) == limit {
		more, err = one(ctx, tx, pgx.RowTo[int], `select count(*)`+from)
		more -= limit
	}
	if err != nil {
		return nil, 0, fmt.Errorf("needs of tenants: %w", err)
	}
	return needs, more, nil
}
