package catalog_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/shardmap"
)

// An erased tenant stays erased, whoever asks, and no copy of it is taken in.
func TestErasedStaysErased(t *testing.T) {
	t.Parallel()
	store := catalogtest.Open(t)
	catalogtest.AddShard(t, store, "s1")
	before := catalogtest.AddTenant(t, store, "acme", "s1", 1)
	id := uuid.Must(uuid.NewV7()).String()
	held := catalog.Copy{ID: id, SealedAs: id, Tenant: "acme", Origin: catalog.CopyExported, CreatedBy: "ann"}
	catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error {
		if err := store.BeginCopy(ctx, tx, held, time.Hour); err != nil {
			return err
		}
		_, err := store.HoldCopy(ctx, tx, catalog.Copy{ID: id, Tenant: "acme", Bytes: 7, SHA256: "ab"})
		return err
	})
	for range 2 {
		catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error {
			marked, err := store.MarkErased(ctx, tx, "acme")
			require.NotNil(t, marked.ErasedAt)
			require.Equal(t, shardmap.Deleted, marked.Placement.State)
			require.Equal(t, before.Epoch+1, marked.Placement.Epoch)
			return err
		})
	}
	err := store.Tx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := store.SetTenantState(ctx, tx, "acme", []shardmap.State{shardmap.Deleted}, shardmap.Active, nil)
		return err
	})
	require.ErrorIs(t, err, catalog.ErrErased)
	require.ErrorIs(t, err, catalog.ErrConflict)
	_, err = store.Pool().Exec(t.Context(), `update tenants set erased_at = null where id = 'acme'`)
	require.ErrorContains(t, err, "was erased")
	for _, origin := range []string{catalog.CopyExported, catalog.CopyUploaded} {
		err = store.Tx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
			return store.BeginCopy(ctx, tx, catalog.Copy{ID: uuid.Must(uuid.NewV7()).String(), SealedAs: id, Tenant: "acme", Origin: origin, CreatedBy: "ann"}, time.Hour)
		})
		require.ErrorIs(t, err, catalog.ErrErased)
	}

	list, _, err := store.ListCopies(t.Context(), catalog.CopyFilter{Tenant: "acme", Surviving: true}, catalog.Page{})
	require.NoError(t, err)
	require.Len(t, list, 1)
	catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error {
		if err := store.DropCopy(ctx, tx, id, "erased"); err != nil {
			return err
		}
		if err := store.DropCopy(ctx, tx, id, "expired"); err != nil {
			return err
		}
		return store.Entomb(ctx, tx, "acme", id)
	})
	gone, err := store.GetCopy(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, "erased", gone.WhyGone)
	tomb, err := store.GetTenant(t.Context(), "acme")
	require.NoError(t, err)
	require.Empty(t, tomb.DisplayName)
	require.NotNil(t, tomb.PurgedAt)

	catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error {
		return store.KeepCertificate(ctx, tx, catalog.Erasure{Tenant: "acme", Operation: id, Certificate: "{}"})
	})
	_, err = store.Pool().Exec(t.Context(), `update erasures set certificate = '{"x":1}'`)
	require.ErrorContains(t, err, "refused")
	e, err := store.GetErasure(t.Context(), "acme")
	require.NoError(t, err)
	require.Equal(t, "{}", e.Certificate)
}
