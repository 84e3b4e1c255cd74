package catalog

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// CreateTenant makes the tenant and its placement at epoch 1, state Active,
// and moves the database's row from ready or building to assigned.
// Errors: ErrExists (the ID is taken or was), ErrConflict (the database is not free).
func (s *Store) CreateTenant(ctx context.Context, tx pgx.Tx, id shardmap.TenantID, displayName string, shard shardmap.ShardID, database string) (shardmap.Placement, error) {
	return shardmap.Placement{}, errTODO
}

// GetTenant reads one tenant, purged ones too. Errors: ErrNotFound.
func (s *Store) GetTenant(ctx context.Context, id shardmap.TenantID) (Tenant, error) {
	return Tenant{}, errTODO
}

// LockTenant reads one tenant inside tx and keeps its placement from changing until tx ends. Errors: ErrNotFound.
func (s *Store) LockTenant(ctx context.Context, tx pgx.Tx, id shardmap.TenantID) (Tenant, error) {
	return Tenant{}, errTODO
}

// TenantFilter narrows a list; zero fields don't. Purged tenants are left out unless asked for.
type TenantFilter struct {
	State    shardmap.State
	Shard    shardmap.ShardID
	Contains string // in the ID or the display name, ignoring case
	Purged   bool   // list purged tenants too
	PurgeDue bool   // only deleted tenants whose PurgeAfter has passed (by the catalog's clock) and that are not purged
}

// ListTenants lists by ID. next is the cursor of the following page, empty after the last.
func (s *Store) ListTenants(ctx context.Context, f TenantFilter, p Page) (tenants []Tenant, next string, err error) {
	return nil, "", errTODO
}

// GetPlacement reads the committed placement, of purged tenants too. Errors: ErrNotFound.
func (s *Store) GetPlacement(ctx context.Context, id shardmap.TenantID) (shardmap.Placement, error) {
	return shardmap.Placement{}, errTODO
}

// ListPlacements lists all placements by tenant, purged tenants' too.
func (s *Store) ListPlacements(ctx context.Context, p Page) (placements []shardmap.Placement, next string, err error) {
	return nil, "", errTODO
}

// SetTenantState changes the placement's state (epoch+1). from lists the states it may be in;
// to == Deleted sets DeletedAt and needs purgeAfter, every other state clears both.
// Errors: ErrNotFound, ErrConflict (other state, or purged).
func (s *Store) SetTenantState(ctx context.Context, tx pgx.Tx, id shardmap.TenantID, from []shardmap.State, to shardmap.State, purgeAfter *time.Time) (shardmap.Placement, error) {
	return shardmap.Placement{}, errTODO
}

// FlipPlacement moves the placement from expect to shard to (epoch+1, same
// database name, same state) if the row still is exactly expect. In the same
// breath the target's inventory row goes target → assigned and the source's
// assigned → retired (its DropAfter is the caller's to set).
// Errors: ErrNotFound, ErrConflict (the row changed, or no target database is there).
func (s *Store) FlipPlacement(ctx context.Context, tx pgx.Tx, id shardmap.TenantID, expect shardmap.Placement, to shardmap.ShardID) (shardmap.Placement, error) {
	return shardmap.Placement{}, errTODO
}

// MarkPurged records that a deleted tenant's database is gone for good. The
// placement stays as a tombstone in state Deleted. Errors: ErrNotFound, ErrConflict (not deleted).
func (s *Store) MarkPurged(ctx context.Context, tx pgx.Tx, id shardmap.TenantID) error { return errTODO }
