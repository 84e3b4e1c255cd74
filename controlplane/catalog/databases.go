package catalog

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// ErrPoolEmpty: no ready database fits; make one on the spot.
var ErrPoolEmpty = errors.New("no ready database")

// InsertDatabase adds a row to the inventory before the database is made, so
// that nothing on a shard is unknown. State must be building (Tenant empty) or
// target (Tenant set and existing). Errors: ErrExists, ErrNotFound (shard or tenant), ErrNoRoom (MaxDatabases).
func (s *Store) InsertDatabase(ctx context.Context, tx pgx.Tx, d Database) error { return errTODO }

// GetDatabase reads one row. Errors: ErrNotFound.
func (s *Store) GetDatabase(ctx context.Context, shard shardmap.ShardID, name string) (Database, error) {
	return Database{}, errTODO
}

// SetDatabaseState changes the state if it is one of from; a row that already is in state to is not refused.
// dropAfter is written as given (nil clears it).
// Errors: ErrNotFound, ErrConflict (other state, or a live placement needs it assigned).
func (s *Store) SetDatabaseState(ctx context.Context, tx pgx.Tx, shard shardmap.ShardID, name string, from []DatabaseState, to DatabaseState, dropAfter *time.Time) (Database, error) {
	return Database{}, errTODO
}

// SetSchemaVersion records the application schema's version in a database. Errors: ErrNotFound.
func (s *Store) SetSchemaVersion(ctx context.Context, tx pgx.Tx, shard shardmap.ShardID, name string, version int64) error {
	return errTODO
}

// TakeReady picks a ready database at schemaVersion on the least loaded fitting
// active shard and locks it for tx; the row stays ready until CreateTenant, in the same
// tx, assigns it. Takers at the same time get different rows without waiting. Errors: ErrPoolEmpty.
func (s *Store) TakeReady(ctx context.Context, tx pgx.Tx, fit Fit, schemaVersion int64) (Database, error) {
	return Database{}, errTODO
}

// CountReady counts the shard's warm pool at schemaVersion.
func (s *Store) CountReady(ctx context.Context, shard shardmap.ShardID, schemaVersion int64) (int, error) {
	return 0, errTODO
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
	return nil, "", errTODO
}

// DeleteDatabase takes a row out of the inventory, after the database was dropped.
// A row that is not there is no error. Errors: ErrConflict (a live placement names it).
func (s *Store) DeleteDatabase(ctx context.Context, tx pgx.Tx, shard shardmap.ShardID, name string) error {
	return errTODO
}
