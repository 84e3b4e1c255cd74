package catalog_test

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
)

// What is measured and wanted of placement can be taken out of a catalog in use,
// and put in again; its tenants stay as they are.
func TestMigrationsOfPlacementGoDownAndUpAgain(t *testing.T) {
	t.Parallel()
	store, dsn := catalogtest.OpenDSN(t)
	catalogtest.AddShard(t, store, "s1")
	catalogtest.AddShard(t, store, "s2")
	before := catalogtest.AddTenant(t, store, "acme", "s1", 1)
	by := catalog.Actor{Name: "ann", Role: "operator"}
	catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error {
		if err := store.SetNeeds(ctx, tx, "acme", catalog.Needs{Apart: "banks"}, by); err != nil {
			return err
		}
		if err := store.SetCapacity(ctx, tx, "s1", catalog.Capacity{Bytes: 1e9}); err != nil {
			return err
		}
		if _, err := store.SetPlacementPolicy(ctx, tx, "policy: {headroom: 10%}", by); err != nil {
			return err
		}
		_, err := store.BeginDrain(ctx, tx, "s1", by)
		return err
	})
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	db := stdlib.OpenDB(*cfg)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	p, err := goose.NewProvider(goose.DialectPostgres, db, os.DirFS("migrations"), goose.WithDisableGlobalRegistry(true))
	require.NoError(t, err)
	_, err = p.DownTo(t.Context(), 4)
	require.NoError(t, err)
	require.NoError(t, catalog.Migrate(t.Context(), dsn))

	again, err := catalog.Open(t.Context(), dsn) // whose connections know the tables that there are now
	require.NoError(t, err)
	t.Cleanup(again.Close)
	after, err := again.GetPlacement(t.Context(), "acme")
	require.NoError(t, err)
	require.Equal(t, before, after)
	n, err := again.GetNeeds(t.Context(), "acme")
	require.NoError(t, err)
	require.True(t, n.None())
	state, err := again.RebalanceState(t.Context())
	require.NoError(t, err)
	require.False(t, state.Auto)
	// The shard is draining still, and nobody knows what it was.
	catalogtest.Tx(t, again, func(ctx context.Context, tx pgx.Tx) error {
		s, err := again.EndDrain(ctx, tx, "s1")
		require.Equal(t, catalog.ShardActive, s.State)
		return err
	})
}
