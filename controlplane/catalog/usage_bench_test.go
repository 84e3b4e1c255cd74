package catalog_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/shardmap"
)

// manyTenants puts n tenants on shard s1, without the triggers that would make each of them news.
func manyTenants(b *testing.B, store *catalog.Store, n int) {
	b.Helper()
	catalogtest.AddShard(b, store, "s1")
	catalogtest.Tx(b, store, func(ctx context.Context, tx pgx.Tx) error {
		for _, sql := range []string{
			`set local session_replication_role = 'replica'`, `set local statement_timeout = 0`,
			fmt.Sprintf(`insert into tenants (id, display_name) select 't' || i, '' from generate_series(1, %d) i`, n),
			`insert into placements (tenant, shard, database, epoch, state)
				select id, 's1', 't_' || lpad(to_hex(substr(id, 2)::int), 16, '0'), 1, 'active' from tenants`,
			`analyze`,
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
}

// What 10,000 tenants whose figures all changed cost, and what reading a million for the planner does.
func BenchmarkUsage(b *testing.B) {
	const each, all = 10_000, 1_000_000
	ctx, store := b.Context(), catalogtest.Open(b)
	manyTenants(b, store, all)
	_, err := store.KeepShardUsage(ctx, "s1", "r1", 1e15)
	require.NoError(b, err)
	chunk := func(from int) []catalog.TenantReading {
		readings := make([]catalog.TenantReading, each)
		for i := range readings {
			readings[i] = catalog.TenantReading{Tenant: shardmap.TenantID(fmt.Sprintf("t%d", from+i+1)), Bytes: int64(from + i), Now: catalog.Rates{Load: float64(i)}, Peaks: make([]float32, 24)}
		}
		return readings
	}
	for from := 0; from < all; from += each {
		require.NoError(b, store.SaveTenantReadings(ctx, "s1", "r1", chunk(from)))
	}
	b.Run("save10000", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, store.SaveTenantReadings(ctx, "s1", "r1", chunk(0)))
		}
	})
	b.Run("placed1000000", func(b *testing.B) {
		for b.Loop() {
			n := 0
			require.NoError(b, store.EachPlacedTenant(ctx, func(p catalog.PlacedTenant) error {
				if p.Measured {
					n++
				}
				return nil
			}))
			require.Equal(b, all, n)
		}
	})
	b.Run("top1000000", func(b *testing.B) {
		for b.Loop() {
			found, _, err := store.TopTenants(ctx, "latency", "", nil, catalog.Page{Limit: 20})
			require.NoError(b, err)
			require.Len(b, found, 20)
		}
	})
}
