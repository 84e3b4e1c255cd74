package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

const tenantColumns = `t.id, t.display_name, t.labels, t.created_at, t.deleted_at, t.purge_after, t.purged_at, t.erased_at,
	p.tenant, p.shard, p.database, p.epoch, p.state`

func scanTenant(row pgx.CollectableRow) (Tenant, error) {
	var t Tenant
	p := &t.Placement
	err := row.Scan(&t.ID, &t.DisplayName, &t.Labels, &t.CreatedAt, &t.DeletedAt, &t.PurgeAfter, &t.PurgedAt, &t.ErasedAt,
		&p.Tenant, &p.Shard, &p.Database, &p.Epoch, &p.State)
	return t, err
}

const placementColumns = `tenant, shard, database, epoch, state`

func scanPlacement(row pgx.CollectableRow) (shardmap.Placement, error) {
	var p shardmap.Placement
	err := row.Scan(&p.Tenant, &p.Shard, &p.Database, &p.Epoch, &p.State)
	return p, err
}

// CreateTenant makes the tenant and its placement at epoch 1, state Active,
// and moves the database's row from ready or building to assigned.
// Errors: ErrExists (the ID is taken or was), ErrConflict (the database is not free).
func (s *Store) CreateTenant(ctx context.Context, tx pgx.Tx, id shardmap.TenantID, displayName string, shard shardmap.ShardID, database string) (shardmap.Placement, error) {
	tag, err := tx.Exec(ctx, `insert into tenants (id, display_name) values ($1, $2) on conflict do nothing`, id, displayName)
	if err != nil {
		return shardmap.Placement{}, fmt.Errorf("tenant %s: %w", id, translate(err))
	}
	if tag.RowsAffected() == 0 {
		return shardmap.Placement{}, fmt.Errorf("tenant %s: %w", id, ErrExists)
	}
	tag, err = tx.Exec(ctx, `update databases set state = 'assigned', tenant = $3
		where shard = $1 and name = $2 and state in ('ready', 'building')`, shard, database, id)
	if err != nil {
		return shardmap.Placement{}, fmt.Errorf("tenant %s: %w", id, translate(err))
	}
	if tag.RowsAffected() == 0 {
		return shardmap.Placement{}, fmt.Errorf("database %s on %s is not free: %w", database, shard, ErrConflict)
	}
	p, err := one(ctx, tx, scanPlacement, `insert into placements (tenant, shard, database, epoch, state)
		values ($1, $2, $3, 1, 'active') returning `+placementColumns, id, shard, database)
	if err != nil {
		return p, fmt.Errorf("tenant %s: %w", id, translate(err))
	}
	return p, nil
}

// GetTenant reads one tenant, purged ones too. Errors: ErrNotFound.
func (s *Store) GetTenant(ctx context.Context, id shardmap.TenantID) (Tenant, error) {
	return getTenant(ctx, s.pool, id, "")
}

// LockTenant reads one tenant inside tx and keeps its placement from changing
// until tx ends. Errors: ErrNotFound.
func (s *Store) LockTenant(ctx context.Context, tx pgx.Tx, id shardmap.TenantID) (Tenant, error) {
	return getTenant(ctx, tx, id, " for no key update")
}

func getTenant(ctx context.Context, q querier, id shardmap.TenantID, lock string) (Tenant, error) {
	t, err := one(ctx, q, scanTenant, `select `+tenantColumns+`
		from tenants t join placements p on p.tenant = t.id where t.id = $1`+lock, id)
	if err != nil {
		return t, fmt.Errorf("tenant %s: %w", id, err)
	}
	return t, nil
}

// TenantFilter narrows a list; zero fields don't. Purged tenants are left out unless asked for.
type TenantFilter struct {
	State    shardmap.State
	Shard    shardmap.ShardID
	Contains string            // in the ID or the display name, ignoring case
	Purged   bool              // list purged tenants too
	PurgeDue bool              // only deleted tenants whose PurgeAfter has passed (by the catalog's clock) and that are not purged
	Labels   map[string]string // only tenants that bear all of them
	Sight    *Sight
}

// ListTenants lists by ID. next is the cursor of the following page, empty after the last.
func (s *Store) ListTenants(ctx context.Context, f TenantFilter, p Page) (tenants []Tenant, next string, err error) {
	all, ids, labels := f.Sight.params()
	if f.Labels == nil {
		f.Labels = map[string]string{}
	}
	tenants, err = many(ctx, s.pool, scanTenant, `select `+tenantColumns+`
		from tenants t join placements p on p.tenant = t.id
		where t.id > $1 and ($2 = '' or p.state = $2) and ($3 = '' or p.shard = $3)
			and ($4 = '' or strpos(t.id, lower($4)) > 0 or strpos(lower(t.display_name), lower($4)) > 0)
			and ($5 or t.purged_at is null)
			and (not $6 or (p.state = 'deleted' and t.purged_at is null and t.purge_after <= clock_timestamp()))
			and ($8::jsonb = '{}' or t.labels @> $8) and `+seenSQL("t.id", 9, 10, 11)+`
		order by t.id limit $7`,
		p.After, f.State, f.Shard, f.Contains, f.Purged, f.PurgeDue, p.Rows()+1, f.Labels, all, ids, labels)
	if err != nil {
		return nil, "", fmt.Errorf("list tenants: %w", err)
	}
	tenants, next = CutPage(p, tenants, func(t Tenant) string { return string(t.ID) })
	return tenants, next, nil
}

// GetPlacement reads the committed placement, of purged tenants too. Errors: ErrNotFound.
func (s *Store) GetPlacement(ctx context.Context, id shardmap.TenantID) (shardmap.Placement, error) {
	p, err := one(ctx, s.pool, scanPlacement, `select `+placementColumns+` from placements where tenant = $1`, id)
	if err != nil {
		return p, fmt.Errorf("tenant %s: %w", id, err)
	}
	return p, nil
}

// Home tells which shard serves a tenant's database, and whether an unfinished
// operation of its tenant may be about to change that. Errors: ErrNotFound (no tenant's).
func (s *Store) Home(ctx context.Context, database string) (shard shardmap.ShardID, busy bool, err error) {
	err = s.pool.QueryRow(ctx, `select p.shard, exists (select from operations o
			where o.tenant = p.tenant and o.state in ('pending', 'running', 'undoing'))
		from placements p where p.database = $1`, database).Scan(&shard, &busy)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return "", false, fmt.Errorf("home of database %s: %w", database, Classify(err))
	}
	return shard, busy, nil
}

// ListPlacements lists all placements by tenant, purged tenants' too.
func (s *Store) ListPlacements(ctx context.Context, p Page) (placements []shardmap.Placement, next string, err error) {
	placements, err = many(ctx, s.pool, scanPlacement, `select `+placementColumns+`
		from placements where tenant > $1 order by tenant limit $2`, p.After, p.Rows()+1)
	if err != nil {
		return nil, "", fmt.Errorf("list placements: %w", err)
	}
	placements, next = CutPage(p, placements, func(p shardmap.Placement) string { return string(p.Tenant) })
	return placements, next, nil
}

// SetTenantState changes the placement's state (epoch+1). from lists the states it may be in;
// to == Deleted sets DeletedAt and needs purgeAfter, every other state clears both.
// Errors: ErrNotFound, ErrConflict (other state, or purged).
func (s *Store) SetTenantState(ctx context.Context, tx pgx.Tx, id shardmap.TenantID, from []shardmap.State, to shardmap.State, purgeAfter *time.Time) (shardmap.Placement, error) {
	if (to == shardmap.Deleted) != (purgeAfter != nil) {
		return shardmap.Placement{}, fmt.Errorf("tenant %s: state %s and a purge time of %v do not go together", id, to, purgeAfter)
	}
	p, err := one(ctx, tx, scanPlacement, `update placements set state = $3, epoch = epoch + 1
		where tenant = $1 and state = any($2) and (select purged_at is null from tenants where id = $1)
		returning `+placementColumns, id, from, to)
	if err != nil {
		return p, s.refused(ctx, tx, id, err, fmt.Sprintf("%s to become %s", Either(from), to))
	}
	_, err = tx.Exec(ctx, `update tenants set purge_after = $2, deleted_at = case when $2::timestamptz is null then null else clock_timestamp() end
		where id = $1`, id, purgeAfter)
	if err != nil {
		return p, fmt.Errorf("tenant %s: %w", id, translate(err))
	}
	return p, nil
}

// refused explains why an update of a placement met no row.
func (s *Store) refused(ctx context.Context, tx pgx.Tx, id shardmap.TenantID, err error, want string) error {
	if !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("tenant %s: %w", id, err)
	}
	t, err := getTenant(ctx, tx, id, "")
	if err != nil {
		return err
	}
	if err := t.erased(); err != nil {
		return err
	}
	if t.PurgedAt != nil {
		return fmt.Errorf("tenant %s is purged: %w", id, ErrConflict)
	}
	return fmt.Errorf("tenant %s is %s on %s at epoch %d and must be %s: %w",
		id, t.Placement.State, t.Placement.Shard, t.Placement.Epoch, want, ErrConflict)
}

// FlipPlacement moves the placement from expect to shard to (epoch+1, same
// database name, same state) if the row still is exactly expect. In the same
// breath the target's inventory row goes target → assigned and the source's
// assigned → retired (its DropAfter is the caller's to set).
// Errors: ErrNotFound, ErrConflict (the row changed, or no target database is there).
func (s *Store) FlipPlacement(ctx context.Context, tx pgx.Tx, id shardmap.TenantID, expect shardmap.Placement, to shardmap.ShardID) (shardmap.Placement, error) {
	// The placement first: its row lock is what two flips meet at.
	p, err := one(ctx, tx, scanPlacement, `update placements set shard = $2, epoch = epoch + 1
		where tenant = $1 and shard = $3 and database = $4 and epoch = $5 and state = $6 and state <> 'deleted'
		returning `+placementColumns, id, to, expect.Shard, expect.Database, expect.Epoch, expect.State)
	if err != nil {
		return p, s.refused(ctx, tx, id, err, fmt.Sprintf("%s on %s at epoch %d and not deleted", expect.State, expect.Shard, expect.Epoch))
	}
	// Two rows, two statements: the name may have one home at any moment.
	for _, step := range []struct {
		shard    shardmap.ShardID
		from, to DatabaseState
	}{{expect.Shard, DatabaseAssigned, DatabaseRetired}, {to, DatabaseTarget, DatabaseAssigned}} {
		tag, err := tx.Exec(ctx, `update databases set state = $4 where shard = $1 and name = $2 and tenant = $5 and state = $3`,
			step.shard, p.Database, step.from, step.to, id)
		if err != nil {
			return p, fmt.Errorf("tenant %s: %w", id, translate(err))
		}
		if tag.RowsAffected() == 0 {
			return p, fmt.Errorf("tenant %s: database %s on %s is not its %s: %w", id, p.Database, step.shard, step.from, ErrConflict)
		}
	}
	return p, nil
}

// MarkPurged records that a deleted tenant's database is gone for good. The
// placement stays as a tombstone in state Deleted. One that is marked already
// is left as it is. Errors: ErrNotFound, ErrConflict (not deleted).
func (s *Store) MarkPurged(ctx context.Context, tx pgx.Tx, id shardmap.TenantID) error {
	t, err := s.LockTenant(ctx, tx, id)
	if err != nil {
		return err
	}
	if t.Placement.State != shardmap.Deleted {
		return fmt.Errorf("tenant %s is %s, not deleted: %w", id, t.Placement.State, ErrConflict)
	}
	_, err = tx.Exec(ctx, `update tenants set purged_at = coalesce(purged_at, clock_timestamp()) where id = $1`, id)
	if err != nil {
		return fmt.Errorf("tenant %s: %w", id, translate(err))
	}
	return nil
}
