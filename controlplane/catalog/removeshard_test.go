package catalog_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/shardmap"
)

// A shard goes when nothing is on it, keeps its ID, and is in no list any more.
func TestRemoveShard(t *testing.T) {
	t.Parallel()
	store := catalogtest.Open(t)
	catalogtest.AddShard(t, store, "s1")
	catalogtest.AddShard(t, store, "s2")
	catalogtest.AddTenant(t, store, "acme", "s1", 1)
	remove := func(id shardmap.ShardID) error {
		return store.Tx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
			_, err := store.RemoveShard(ctx, tx, id)
			return err
		})
	}
	require.ErrorContains(t, remove("s2"), "drain it first")
	require.ErrorIs(t, remove("s9"), catalog.ErrNotFound)
	for _, id := range []shardmap.ShardID{"s1", "s2"} {
		catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error {
			_, err := store.BeginDrain(ctx, tx, id, catalog.Actor{Name: "ann"})
			return err
		})
	}
	err := remove("s1")
	require.ErrorIs(t, err, catalog.ErrConflict)
	require.ErrorContains(t, err, "1 databases")
	require.NoError(t, remove("s2"))
	require.NoError(t, remove("s2"))
	gone, err := store.GetShard(t.Context(), "s2")
	require.NoError(t, err)
	require.Equal(t, catalog.ShardRemoved, gone.State)
	list, err := store.ListShards(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	removed, err := store.RemovedShards(t.Context())
	require.NoError(t, err)
	require.Len(t, removed, 1)
	err = store.Tx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := store.AddShard(ctx, tx, catalog.Shard{ID: "s2", PostgresHost: "h", PostgresPort: 1, BouncerHost: "h", BouncerPort: 1})
		return err
	})
	require.ErrorIs(t, err, catalog.ErrExists)
}
