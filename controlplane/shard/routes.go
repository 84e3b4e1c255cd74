package shard

import (
	"context"

	"github.com/freehold-db/freehold/shardmap"
)

// Routes edits the explicit entries of one shard's PgBouncer: a database
// listed there is served from another shard's Postgres, so that clients still
// attached after a move follow. Everything needed is connected beforehand, so
// that Set is quick inside a cutover. It is for one goroutine at a time.
type Routes struct{}

// Routes connects to the console and to the lock that serialises changes
// across replicas. Errors: [ErrNoRoutes], catalog.ErrNotFound.
func (f *Fleet) Routes(ctx context.Context, on shardmap.ShardID) (*Routes, error) {
	return nil, errTODO
}

// Close gives up the connections. Entries stay.
func (r *Routes) Close() {}

// Set has the PgBouncer serve the database from to's Postgres (which may be
// the shard's own, to make sure that there is an entry to Pause) and returns
// when SHOW DATABASES says so. A Pause outlasts it.
func (r *Routes) Set(ctx context.Context, database string, to shardmap.ShardID) error {
	return errTODO
}

// Drop takes the entry out; the wildcard serves the name again. PgBouncer
// closes the clients still attached to it. No entry is no error.
func (r *Routes) Drop(ctx context.Context, database string) error { return errTODO }

// SetRoute is Routes, Set and Close in one.
func (f *Fleet) SetRoute(ctx context.Context, on shardmap.ShardID, database string, to shardmap.ShardID) error {
	return errTODO
}

// DropRoute is Routes, Drop and Close in one; without a routes file it does nothing.
func (f *Fleet) DropRoute(ctx context.Context, on shardmap.ShardID, database string) error {
	return errTODO
}
