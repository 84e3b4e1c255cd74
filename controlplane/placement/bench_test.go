package placement_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/placement"
)

const benchShards, benchTenants = 1000, 1_000_000

// benchFleet is a catalog of many tenants that were measured, one in a hundred of which has needs.
func benchFleet(b *testing.B) *catalog.Store {
	b.Helper()
	store := catalogtest.Open(b)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	b.Cleanup(cancel)
	err := store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		for _, sql := range []string{
			`set local statement_timeout = 0; set local session_replication_role = replica`,
			fmt.Sprintf(`insert into shards (id, state, postgres_host, postgres_port, bouncer_host, bouncer_port)
				select 's' || n, 'active', 'h', 1, 'h', 2 from generate_series(0, %d) n`, benchShards-1),
			fmt.Sprintf(`create temp table n on commit drop as select n, 't' || n as id, 's' || n %% %d as shard, 't_' || lpad(to_hex(n), 16, '0') as db from generate_series(1, %d) n`, benchShards, benchTenants),
			`insert into tenants (id, display_name) select id, '' from n`,
			`insert into databases (shard, name, state, tenant) select shard, db, 'assigned', id from n`,
			`insert into databases (shard, name, state) select 's' || s, 't_f' || lpad(to_hex(s * 8 + r), 15, '0'), 'ready' from generate_series(0, 999) s, generate_series(0, 3) r`,
			`insert into placements (tenant, shard, database, epoch, state) select id, shard, db, 1, 'active' from n`,
			`insert into tenant_usage (tenant, shard, bytes, connections, load, wal) select id, shard, 1e8, 1, 0.01, 1e4 from n`,
			`insert into shard_usage (shard, measured_at, figures) select 's' || s, now(), '{"tenants": {"databases": 1000, "bytes": 1e11, "connections": 1000, "load": 10, "wal": 1e7}}' from generate_series(0, 999) s`,
			`insert into tenant_needs (tenant, region, changed_by) select id, '', 'x' from n where n.n % 100 = 0`,
			`update tenant_needs set apart = 'group-' || length(tenant), pinned = true`,
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return fmt.Errorf("%.60s: %w", sql, err)
			}
		}
		return nil
	})
	require.NoError(b, err)
	_, err = store.Pool().Exec(ctx, `set statement_timeout = 0; vacuum analyze`, pgx.QueryExecModeSimpleProtocol)
	if err != nil { // not as one batch
		for _, table := range []string{"tenants", "databases", "placements", "tenant_usage", "tenant_needs"} {
			_, err = store.Pool().Exec(ctx, "vacuum analyze "+table)
			require.NoError(b, err)
		}
	}
	return store
}

// BenchmarkMillion reads a million tenants for a plan, and chooses shards for new ones beside them.
func BenchmarkMillion(b *testing.B) {
	store := benchFleet(b)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	b.Cleanup(cancel)
	b.Run("read", func(b *testing.B) {
		for range b.N {
			s, err := placement.Read(ctx, store)
			require.NoError(b, err)
			require.Len(b, s.Fleet.Tenants, benchTenants)
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.HeapAlloc)/1e6, "MB")
			runtime.KeepAlive(s)
		}
	})
	b.Run("choose", func(b *testing.B) {
		desk := placement.NewDesk(store)
		for range b.N {
			require.NoError(b, store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
				on, err := desk.Choose(ctx, tx, placement.Wish{Ready: true, GroundAsk: catalog.GroundAsk{Tenant: "new"}})
				if err == nil {
					desk.Placed(on)
				}
				return err
			}))
		}
	})
}
