package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// ErrPoolEmpty: no ready database fits; make one on the spot.
var ErrPoolEmpty = errors.New("no ready database")

const databaseColumns = `d.shard, d.name, d.state, coalesce(d.tenant, ''), d.schema_version, d.drop_after, d.created_at`

func scanDatabase(row pgx.CollectableRow) (Database, error) {
	var d Database
	err := row.Scan(&d.Shard, &d.Name, &d.State, &d.Tenant, &d.SchemaVersion, &d.DropAfter, &d.CreatedAt)
	return d, err
}

// InsertDatabase adds a row to the inventory before the database is made, so
// that nothing on a shard is unknown. State must be building (Tenant empty) or
// target (Tenant set and existing). Errors: ErrExists, ErrNotFound (shard or tenant), ErrNoRoom (MaxDatabases).
func (s *Store) InsertDatabase(ctx context.Context, tx pgx.Tx, d Database) error {
	if d.State != DatabaseBuilding && d.State != DatabaseTarget {
		return fmt.Errorf("database %s on %s: can't begin as %s: %w", d.Name, d.Shard, d.State, ErrConflict)
	}
	tag, err := tx.Exec(ctx, `insert into databases (shard, name, state, tenant, schema_version, drop_after)
		values ($1, $2, $3, nullif($4, ''), $5, $6) on conflict do nothing`, d.Shard, d.Name, d.State, d.Tenant, d.SchemaVersion, d.DropAfter)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrExists
	}
	if err != nil {
		return fmt.Errorf("database %s on %s: %w", d.Name, d.Shard, translate(err))
	}
	return nil
}

// GetDatabase reads one row. Errors: ErrNotFound.
func (s *Store) GetDatabase(ctx context.Context, shard shardmap.ShardID, name string) (Database, error) {
	return getDatabase(ctx, s.pool, shard, name)
}

func getDatabase(ctx context.Context, q querier, shard shardmap.ShardID, name string) (Database, error) {
	d, err := one(ctx, q, scanDatabase, `select `+databaseColumns+` from databases d where shard = $1 and name = $2`, shard, name)
	if err != nil {
		return d, fmt.Errorf("database %s on %s: %w", name, shard, err)
	}
	return d, nil
}

// inUse is true of a database d that a live placement names.
const inUse = `exists (select from placements p where p.tenant = d.tenant and p.shard = d.shard and p.database = d.name and p.state <> 'deleted')`

// SetDatabaseState changes the state if it is one of from; a row that already is in state to is not refused.
// dropAfter is written as given (nil clears it). A row that becomes building or ready belongs to no tenant any more.
// Errors: ErrNotFound, ErrConflict (other state, or a live placement needs it assigned).
func (s *Store) SetDatabaseState(ctx context.Context, tx pgx.Tx, shard shardmap.ShardID, name string, from []DatabaseState, to DatabaseState, dropAfter *time.Time) (Database, error) {
	d, err := one(ctx, tx, scanDatabase, `update databases d set state = $4, drop_after = $5,
			tenant = case when $4 in ('building', 'ready') then null else tenant end
		where shard = $1 and name = $2 and (state = any($3) or state = $4) and ($4 = 'assigned' or not `+inUse+`)
		returning `+databaseColumns, shard, name, from, to, dropAfter)
	if err == nil {
		return d, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return d, fmt.Errorf("database %s on %s: %w", name, shard, err)
	}
	if d, err = getDatabase(ctx, tx, shard, name); err != nil {
		return d, err
	}
	return d, fmt.Errorf("database %s on %s is %s (tenant %q) and must be %s, and in nobody's use, to become %s: %w",
		name, shard, d.State, d.Tenant, Either(from), to, ErrConflict)
}

// SetSchemaVersion records the application schema's version in a database. Errors: ErrNotFound.
func (s *Store) SetSchemaVersion(ctx context.Context, tx pgx.Tx, shard shardmap.ShardID, name string, version int64) error {
	tag, err := tx.Exec(ctx, `update databases set schema_version = $3 where shard = $1 and name = $2`, shard, name, version)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("database %s on %s: %w", name, shard, translate(err))
	}
	return nil
}

// TakeReady picks a ready database at schemaVersion on the least loaded fitting
// active shard and locks it for tx; the row stays ready until CreateTenant, in the same
// tx, assigns it. Takers at the same time get different rows without waiting. Errors: ErrPoolEmpty.
func (s *Store) TakeReady(ctx context.Context, tx pgx.Tx, fit Fit, schemaVersion int64) (Database, error) {
	// The shards are ordered first and materialized, so that the load is counted
	// once for each; skip locked walks on to the next shard's rows by itself.
	d, err := one(ctx, tx, scanDatabase, `with shard as materialized (
			select s.id, `+load+` as load from shards s where `+fitting+`
		)
		select `+databaseColumns+` from databases d join shard on shard.id = d.shard
		where d.state = 'ready' and d.schema_version = $5
		order by shard.load, d.shard, d.created_at limit 1
		for no key update of d skip locked`, append(fit.args(), schemaVersion)...)
	if errors.Is(err, ErrNotFound) {
		return d, ErrPoolEmpty
	}
	if err != nil {
		return d, fmt.Errorf("take a ready database: %w", err)
	}
	return d, nil
}

// CountReady counts the shard's warm pool at schemaVersion.
func (s *Store) CountReady(ctx context.Context, shard shardmap.ShardID, schemaVersion int64) (int, error) {
	n, err := one(ctx, s.pool, pgx.RowTo[int], `select count(*) from databases
		where shard = $1 and state = 'ready' and schema_version = $2`, shard, schemaVersion)
	if err != nil {
		return 0, fmt.Errorf("count the pool of %s: %w", shard, err)
	}
	return n, nil
}

// DatabaseFilter narrows a list; zero fields don't.
type DatabaseFilter struct {
	Shard   shardmap.ShardID
	State   DatabaseState
	Tenant  shardmap.TenantID
	DropDue bool // only rows whose DropAfter has passed, by the catalog's clock
}

// ListDatabases lists by name, then shard. next is the cursor of the following page, empty after the last.
func (s *Store) ListDatabases(ctx context.Context, f DatabaseFilter, p Page) (databases []Database, next string, err error) {
	afterName, afterShard, _ := strings.Cut(p.After, "/")
	databases, err = many(ctx, s.pool, scanDatabase, `select `+databaseColumns+` from databases d
		where (d.name, d.shard) > ($1, $2) and ($3 = '' or d.shard = $3) and ($4 = '' or d.state = $4)
			and ($5 = '' or d.tenant = $5) and (not $6 or d.drop_after <= clock_timestamp())
		order by d.name, d.shard limit $7`,
		afterName, afterShard, f.Shard, f.State, f.Tenant, f.DropDue, p.Rows()+1)
	if err != nil {
		return nil, "", fmt.Errorf("list databases: %w", err)
	}
	databases, next = CutPage(p, databases, func(d Database) string { return d.Name + "/" + string(d.Shard) })
	return databases, next, nil
}

// DeleteDatabase takes a row out of the inventory, after the database was dropped.
// A row that is not there is no error. Errors: ErrConflict (a live placement names it).
func (s *Store) DeleteDatabase(ctx context.Context, tx pgx.Tx, shard shardmap.ShardID, name string) error {
	tag, err := tx.Exec(ctx, `delete from databases d where shard = $1 and name = $2 and not `+inUse, shard, name)
	if err != nil {
		return fmt.Errorf("database %s on %s: %w", name, shard, translate(err))
	}
	if tag.RowsAffected() > 0 {
		return nil
	}
	if _, err := getDatabase(ctx, tx, shard, name); errors.Is(err, ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	return fmt.Errorf("database %s on %s is in use by a tenant: %w", name, shard, ErrConflict)
}
