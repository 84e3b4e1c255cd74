package catalog_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/shardmap"
)

func TestOneKeeperMeasuresAShard(t *testing.T) {
	t.Parallel()
	ctx, store := testContext(t), catalogtest.Open(t)
	catalogtest.AddShard(t, store, "s1")
	keep := func(who string, lasts time.Duration) bool {
		mine, err := store.KeepShardUsage(ctx, "s1", who, lasts)
		require.NoError(t, err)
		return mine
	}
	mine, err := store.KeepShardUsage(ctx, "nowhere", "r1", time.Hour)
	require.NoError(t, err)
	require.False(t, mine)
	require.True(t, keep("r1", time.Hour))
	require.True(t, keep("r1", time.Hour), "it renews")
	require.False(t, keep("r2", time.Hour))
	figures := catalog.ShardFigures{Rates: catalog.Rates{Load: 1.5}, Day: catalog.DayRates{WAL: 7}, Tenants: catalog.Carried{Databases: 2, Bytes: 3e9}, Lag: 4, Behind: "standby", Peaks: []float32{-1, 2}}
	require.ErrorIs(t, store.SaveShardReading(ctx, "s1", "r2", figures, "", time.Hour), catalog.ErrConflict)

	r, err := store.GetShardReading(ctx, "s1")
	require.NoError(t, err)
	require.Nil(t, r.MeasuredAt)
	require.NoError(t, store.SaveShardReading(ctx, "s1", "r1", figures, "", time.Hour))
	r, err = store.GetShardReading(ctx, "s1")
	require.NoError(t, err)
	require.NotNil(t, r.MeasuredAt)
	require.Equal(t, figures, r.ShardFigures)
	require.Equal(t, "r1", r.Keeper)
	require.NoError(t, store.SaveShardReading(ctx, "s1", "r1", catalog.ShardFigures{}, "it is away", time.Hour))
	all, err := store.ListShardReadings(ctx)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, "it is away", all[0].Trouble)
	require.Equal(t, figures, all[0].ShardFigures, "what was known stays")

	require.NoError(t, store.LeaveShardUsage(ctx, "s1", "r2"), "not its own")
	require.False(t, keep("r2", time.Hour))
	require.NoError(t, store.LeaveShardUsage(ctx, "s1", "r1"))
	require.True(t, keep("r2", time.Hour))
	require.True(t, keep("r2", -time.Hour))
	require.True(t, keep("r1", time.Hour), "a right that has ended is anybody's")
}

func TestTenantsUsage(t *testing.T) {
	t.Parallel()
	ctx, store := testContext(t), catalogtest.Open(t)
	catalogtest.AddShard(t, store, "s1")
	catalogtest.AddShard(t, store, "s2")
	const n = 7
	var readings []catalog.TenantReading
	for i := range n {
		id, on := shardmap.TenantID(fmt.Sprintf("t%d", i)), shardmap.ShardID("s1")
		if i == n-1 {
			on = "s2"
		}
		catalogtest.AddTenant(t, store, id, on, i+1)
		if i == 0 {
			continue // never measured
		}
		r := catalog.TenantReading{Tenant: id, Shard: "s1", Seconds: 60, Bytes: int64(i) << 20, Busy: 1 << i, Peaks: make([]float32, 24),
			Now: catalog.Rates{Connections: float64(i), Load: 0.5, WAL: 3, Transactions: 4, RowsRead: 5, RowsWritten: 6, BlocksHit: 7, BlocksRead: 8, Requests: 9, Failed: 10, RequestSeconds: 11 + float64(i)},
			Day: catalog.DayRates{Connections: 3, Load: 0.25, WAL: 14}}
		r.Peaks[i] = float32(i)
		readings = append(readings, r)
	}
	require.NoError(t, store.SaveTenantReadings(ctx, "s1", "r1", readings))
	_, err := store.GetTenantReading(ctx, "t1")
	require.ErrorIs(t, err, catalog.ErrNotFound, "r1 does not measure it")
	_, err = store.KeepShardUsage(ctx, "s1", "r1", time.Hour)
	require.NoError(t, err)
	require.NoError(t, store.SaveTenantReadings(ctx, "s1", "r1", readings))
	for _, want := range readings[:n-2] {
		got, err := store.GetTenantReading(ctx, want.Tenant)
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), got.MeasuredAt, time.Hour)
		got.MeasuredAt = time.Time{}
		require.Equal(t, want, got)
	}
	_, err = store.GetTenantReading(ctx, "t6")
	require.ErrorIs(t, err, catalog.ErrNotFound, "it lives elsewhere")
	readings[0].Bytes, readings[0].Now.Load = 99<<20, 1e-300
	require.NoError(t, store.SaveTenantReadings(ctx, "s1", "r1", readings[:1]))
	some, err := store.TenantReadings(ctx, []shardmap.TenantID{"t1", "t6", "nobody"})
	require.NoError(t, err)
	require.Len(t, some, 1)
	require.Equal(t, readings[0].Now, some[0].Now)

	for _, by := range catalog.ReadingOrders {
		var seen []shardmap.TenantID
		for page := (catalog.Page{Limit: 2}); ; {
			found, next, err := store.TopTenants(ctx, by, "s1", nil, page)
			require.NoError(t, err, by)
			for _, r := range found {
				seen = append(seen, r.Tenant)
			}
			if page.After = next; next == "" {
				break
			}
		}
		want := []shardmap.TenantID{"t1", "t2", "t3", "t4", "t5"}
		switch by {
		case "load":
			want = []shardmap.TenantID{"t2", "t3", "t4", "t5", "t1"}
		case "bytes":
			want = []shardmap.TenantID{"t1", "t5", "t4", "t3", "t2"}
		case "connections", "latency":
			want = []shardmap.TenantID{"t5", "t4", "t3", "t2", "t1"}
		}
		require.Equal(t, want, seen, by)
	}
	_, _, err = store.TopTenants(ctx, "beauty", "", nil, catalog.Page{})
	require.ErrorIs(t, err, catalog.ErrConflict)
	_, _, err = store.TopTenants(ctx, "load", "", nil, catalog.Page{After: "x"})
	require.ErrorIs(t, err, catalog.ErrConflict)

	placed := map[shardmap.TenantID]catalog.PlacedTenant{}
	require.NoError(t, store.EachPlacedTenant(ctx, func(p catalog.PlacedTenant) error {
		placed[p.Tenant] = p
		return nil
	}))
	require.Len(t, placed, n)
	require.False(t, placed["t0"].Measured)
	two := placed["t2"]
	require.WithinDuration(t, time.Now(), two.ChangedAt, time.Hour)
	two.ChangedAt = time.Time{}
	require.Equal(t, catalog.PlacedTenant{Tenant: "t2", Shard: "s1", State: shardmap.Active, Measured: true,
		Bytes: 2 << 20, Connections: 3, Load: 0.5, WAL: 14, Busy: 4}, two, "the more of now and of the day")
	databases, err := store.TenantDatabases(ctx, "s1")
	require.NoError(t, err)
	require.Len(t, databases, n-1)

	catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `update tenants set deleted_at = now(), purge_after = now(), purged_at = now() where id = 't1'`)
		return err
	})
	_, err = store.GetTenantReading(ctx, "t1")
	require.ErrorIs(t, err, catalog.ErrNotFound, "it was purged")
}
