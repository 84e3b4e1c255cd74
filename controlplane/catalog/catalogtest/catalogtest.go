// Package catalogtest gives tests an empty, migrated catalog in a database of
// its own. The test binary's TestMain must call pgtest.Main.
package catalogtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

// Open returns an empty catalog, closed when the test ends.
func Open(t testing.TB) *catalog.Store {
	t.Helper()
	store, _ := OpenDSN(t)
	return store
}

// OpenDSN is Open for a test that opens the same catalog again.
func OpenDSN(t testing.TB) (*catalog.Store, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	dsn := pgtest.Database(t)
	require.NoError(t, catalog.Migrate(ctx, dsn))
	store, err := catalog.Open(ctx, dsn)
	require.NoError(t, err)
	t.Cleanup(store.Close)
	return store, dsn
}

// Tx runs fn in a transaction and fails the test if that fails.
func Tx(t testing.TB, store *catalog.Store, fn func(ctx context.Context, tx pgx.Tx) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	require.NoError(t, store.Tx(ctx, fn))
}

// AddShard registers a shard that does not exist.
func AddShard(t testing.TB, store *catalog.Store, id shardmap.ShardID) catalog.Shard {
	t.Helper()
	var shard catalog.Shard
	Tx(t, store, func(ctx context.Context, tx pgx.Tx) (err error) {
		shard, err = store.AddShard(ctx, tx, catalog.Shard{ID: id, PostgresHost: "127.0.0.1", PostgresPort: 1, BouncerHost: "127.0.0.1", BouncerPort: 2})
		return err
	})
	return shard
}

// AddReady adds a ready database number n, at schema version 1, that does not exist.
func AddReady(t testing.TB, store *catalog.Store, shard shardmap.ShardID, n int) string {
	t.Helper()
	name := fmt.Sprintf("t_%016x", n)
	Tx(t, store, func(ctx context.Context, tx pgx.Tx) error {
		if err := store.InsertDatabase(ctx, tx, catalog.Database{Shard: shard, Name: name, State: catalog.DatabaseBuilding, SchemaVersion: 1}); err != nil {
			return err
		}
		_, err := store.SetDatabaseState(ctx, tx, shard, name, []catalog.DatabaseState{catalog.DatabaseBuilding}, catalog.DatabaseReady, nil)
		return err
	})
	return name
}

// AddTenant adds a tenant with database number n on shard.
func AddTenant(t testing.TB, store *catalog.Store, id shardmap.TenantID, shard shardmap.ShardID, n int) shardmap.Placement {
	t.Helper()
	name := AddReady(t, store, shard, n)
	var p shardmap.Placement
	Tx(t, store, func(ctx context.Context, tx pgx.Tx) (err error) {
		p, err = store.CreateTenant(ctx, tx, id, string(id), shard, name)
		return err
	})
	return p
}
