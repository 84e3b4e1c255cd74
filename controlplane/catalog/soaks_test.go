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

func TestSoakLife(t *testing.T) {
	t.Parallel()
	ctx, store := testContext(t), catalogtest.Open(t)
	catalogtest.AddShard(t, store, "s1")
	catalogtest.AddShard(t, store, "s2")
	p := catalogtest.AddTenant(t, store, "acme", "s1", 1)
	newID := func() string { return uuid.Must(uuid.NewV7()).String() }
	begin := func(id string, lasts time.Duration) error {
		return store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			return store.BeginSoak(ctx, tx, catalog.Soak{Operation: id, Tenant: "acme", Database: p.Database, Home: "s1", Old: "s2", Link: "l", Fingerprint: "f"}, lasts)
		})
	}
	set := func(id string, from []catalog.SoakState, to catalog.SoakState, why string) (k catalog.Soak, err error) {
		err = store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			k, err = store.SetSoakState(ctx, tx, id, from, to, why)
			return err
		})
		return k, err
	}
	_, err := store.LiveSoak(ctx, "acme")
	require.ErrorIs(t, err, catalog.ErrNotFound)
	_, err = store.SoakToLookAt(ctx, 0)
	require.ErrorIs(t, err, catalog.ErrNotFound)

	first, second := newID(), newID()
	require.NoError(t, begin(first, time.Hour))
	require.NoError(t, begin(first, 0), "a step that runs again")
	require.ErrorIs(t, begin(second, time.Hour), catalog.ErrConflict)
	k, err := store.LiveSoak(ctx, "acme")
	require.NoError(t, err)
	require.Equal(t, first, k.Operation)
	require.Equal(t, catalog.Soaking, k.State)
	require.False(t, k.Due)

	k, err = set(first, []catalog.SoakState{catalog.Soaking}, catalog.Reversing, "")
	require.NoError(t, err)
	require.Equal(t, catalog.Reversing, k.State)
	_, err = set(first, []catalog.SoakState{catalog.Soaking}, catalog.Reversing, "")
	require.NoError(t, err, "a step that runs again")
	_, err = set(first, []catalog.SoakState{catalog.Soaking}, catalog.Ending, "why not")
	require.ErrorIs(t, err, catalog.ErrConflict)
	_, err = set(first, []catalog.SoakState{catalog.Reversing}, catalog.Soaking, "")
	require.NoError(t, err)
	_, err = set(first, []catalog.SoakState{catalog.Soaking}, catalog.Ending, "its time is over")
	require.NoError(t, err)
	_, err = set(first, []catalog.SoakState{catalog.Ending}, catalog.Soaking, "")
	require.ErrorIs(t, err, catalog.ErrConflict, "there is no way back from it, whoever asks")
	k, err = set(first, []catalog.SoakState{catalog.Ending}, catalog.Ended, "")
	require.NoError(t, err)
	require.Equal(t, "its time is over", k.Reason)
	require.NotNil(t, k.EndedAt)
	_, err = set(first, []catalog.SoakState{catalog.Ended}, catalog.Soaking, "")
	require.ErrorIs(t, err, catalog.ErrConflict)
	_, err = set(newID(), []catalog.SoakState{catalog.Ended}, catalog.Soaking, "")
	require.ErrorIs(t, err, catalog.ErrNotFound)

	require.NoError(t, begin(second, 0))
	k, err = store.SoakToLookAt(ctx, 0)
	require.NoError(t, err)
	require.Equal(t, second, k.Operation)
	require.True(t, k.Due)
	_, err = store.SoakToLookAt(ctx, time.Hour)
	require.ErrorIs(t, err, catalog.ErrNotFound, "somebody has just looked")
	require.NoError(t, store.NoteSoak(ctx, second, 7, "slow"))
	all, next, err := store.ListSoaks(ctx, catalog.SoakFilter{Tenant: "acme"}, catalog.Page{Limit: 1})
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.EqualValues(t, 7, all[0].KeptBytes)
	require.Equal(t, "slow", all[0].Trouble)
	all, next, err = store.ListSoaks(ctx, catalog.SoakFilter{}, catalog.Page{After: next})
	require.NoError(t, err)
	require.Empty(t, next)
	require.Len(t, all, 1)
	require.Equal(t, first, all[0].Operation)
	all, _, err = store.ListSoaks(ctx, catalog.SoakFilter{Live: true}, catalog.Page{})
	require.NoError(t, err)
	require.Len(t, all, 1)

	catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error {
		at := time.Now()
		if _, err := store.SetTenantState(ctx, tx, "acme", []shardmap.State{shardmap.Active}, shardmap.Deleted, &at); err != nil {
			return err
		}
		return store.MarkPurged(ctx, tx, "acme")
	})
	k, err = store.GetSoak(ctx, second)
	require.NoError(t, err)
	require.Equal(t, catalog.Ended, k.State)
	require.Equal(t, "the tenant was purged", k.Reason)
}
