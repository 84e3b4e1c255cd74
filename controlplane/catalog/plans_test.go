package catalog_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
)

func keepPlan(t *testing.T, store *catalog.Store, at time.Time, text string) string {
	t.Helper()
	id, err := uuid.NewV7()
	require.NoError(t, err)
	catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error {
		return store.InsertRebalancePlan(ctx, tx, catalog.RebalancePlan{ID: id.String(), Plan: []byte(text), CreatedBy: "ann", CreatedAt: at, ExpiresAt: at.Add(time.Hour)})
	})
	return id.String()
}

// Plans are kept packed, and read whole; those of before were kept as they are.
func TestPlansArePacked(t *testing.T) {
	t.Parallel()
	store := catalogtest.Open(t)
	var text strings.Builder
	text.WriteString(`{"moves":[`)
	for i := range 2000 {
		fmt.Fprintf(&text, `%s{"tenant":"t%d","detail":"s%d carries 1.%d × its even share of bytes"}`, strings.Repeat(",", min(i, 1)), rand.N(1_000_000), i%7, i) //nolint:gosec // a made-up plan
	}
	text.WriteString(`]}`)
	now := time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)
	id := keepPlan(t, store, now, text.String())
	kept, err := store.GetRebalancePlan(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, text.String(), string(kept.Plan))
	var stored int
	require.NoError(t, store.Pool().QueryRow(t.Context(), `select pg_column_size(packed) from rebalance_plans`).Scan(&stored))
	require.Less(t, stored, text.Len()/5)

	_, err = store.Pool().Exec(t.Context(), `update rebalance_plans set plan = '{"of": "before"}', packed = null`)
	require.NoError(t, err)
	kept, err = store.GetRebalancePlan(t.Context(), id)
	require.NoError(t, err)
	require.JSONEq(t, `{"of": "before"}`, string(kept.Plan))
}

// What is kept of plans is bounded in age, number and size; the newest stay.
func TestPlansAreForgotten(t *testing.T) {
	t.Parallel()
	store := catalogtest.Open(t)
	now := time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)
	var ids []string
	keep := func(at time.Time, n int) {
		for range n {
			ids = append(ids, keepPlan(t, store, at, `{}`))
		}
	}
	left := func() (left []string) {
		t.Helper()
		plans, _, err := store.ListRebalancePlans(t.Context(), catalog.Page{Limit: 100})
		require.NoError(t, err)
		for _, p := range plans {
			left = append([]string{p.ID}, left...)
		}
		return left
	}
	forget := func(most, fewest, bytes int) {
		catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error {
			return catalog.ForgetPlans(ctx, tx, now, most, fewest, bytes)
		})
	}
	keep(now.Add(-40*24*time.Hour), 2)
	keep(now, 8)
	require.Equal(t, ids[2:], left(), "too old")
	catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error { // somebody else is about to forget one
		_, err := tx.Exec(ctx, `select from rebalance_plans where id = $1 for update`, ids[2])
		require.NoError(t, err)
		catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `set local lock_timeout = '1s'`)
			require.NoError(t, err)
			return catalog.ForgetPlans(ctx, tx, now, 6, 2, 1<<20)
		})
		return nil
	})
	require.Equal(t, append([]string{ids[2]}, ids[4:]...), left(), "who is locked is left")
	forget(6, 2, 1<<20)
	require.Equal(t, ids[4:], left(), "too many")
	forget(6, 2, 0)
	require.Equal(t, ids[8:], left(), "too large")
}
