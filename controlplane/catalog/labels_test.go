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

// A list shows what the caller may see, and its pages are full of that.
func TestListsShowWhatMayBeSeen(t *testing.T) {
	t.Parallel()
	store := catalogtest.Open(t)
	catalogtest.AddShard(t, store, "s1")
	ids := []shardmap.TenantID{"a", "b", "c", "d", "e", "f"}
	for i, id := range ids {
		catalogtest.AddTenant(t, store, id, "s1", i+1)
		labels := map[string]string{"env": "dev"}
		if i%2 == 0 {
			labels = map[string]string{"env": "prod", "team": "x"}
		}
		catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error { return store.SetLabels(ctx, tx, id, labels) })
	}
	list := func(f catalog.TenantFilter) (found []shardmap.TenantID) {
		for p := (catalog.Page{Limit: 2}); ; {
			tenants, next, err := store.ListTenants(t.Context(), f, p)
			require.NoError(t, err)
			for _, x := range tenants {
				found = append(found, x.ID)
			}
			if next == "" {
				return found
			}
			require.Len(t, tenants, 2, "a page that others follow is full")
			p.After = next
		}
	}
	prod, dev := map[string]string{"env": "prod"}, map[string]string{"env": "dev"}
	for _, c := range []struct {
		filter catalog.TenantFilter
		want   []shardmap.TenantID
	}{
		{catalog.TenantFilter{}, ids},
		{catalog.TenantFilter{Labels: prod}, []shardmap.TenantID{"a", "c", "e"}},
		{catalog.TenantFilter{Sight: &catalog.Sight{}}, nil},
		{catalog.TenantFilter{Sight: &catalog.Sight{Tenants: []shardmap.TenantID{"b", "nobody"}}}, []shardmap.TenantID{"b"}},
		{catalog.TenantFilter{Sight: &catalog.Sight{Labels: []map[string]string{{"env": "prod", "team": "x"}}}}, []shardmap.TenantID{"a", "c", "e"}},
		{catalog.TenantFilter{Sight: &catalog.Sight{Labels: []map[string]string{{"env": "prod", "team": "y"}}}}, nil},
		{catalog.TenantFilter{Sight: &catalog.Sight{Tenants: []shardmap.TenantID{"b"}, Labels: []map[string]string{prod}}}, []shardmap.TenantID{"a", "b", "c", "e"}},
		{catalog.TenantFilter{Labels: dev, Sight: &catalog.Sight{Labels: []map[string]string{prod}}}, nil},
	} {
		require.Equal(t, c.want, list(c.filter), "%+v", c.filter)
	}
	seen, err := store.TenantsSeen(t.Context(), &catalog.Sight{Labels: []map[string]string{dev}}, 2)
	require.NoError(t, err)
	require.Equal(t, []shardmap.TenantID{"b", "d"}, seen)
	tenant, err := store.GetTenant(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"env": "prod", "team": "x"}, tenant.Labels)
	require.ErrorIs(t, store.Tx(t.Context(), func(ctx context.Context, tx pgx.Tx) error { return store.SetLabels(ctx, tx, "nobody", nil) }), catalog.ErrNotFound)
}
