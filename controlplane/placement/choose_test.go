package placement_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/placement"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// world is a catalog with the shards s1, s2 and s3, which do not exist.
type world struct {
	t     *testing.T
	store *catalog.Store
	desk  *placement.Desk

	mu sync.Mutex
	n  int
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, store: catalogtest.Open(t)}
	w.desk = placement.NewDesk(w.store)
	for _, id := range []shardmap.ShardID{"s1", "s2", "s3"} {
		catalogtest.AddShard(t, w.store, id)
	}
	return w
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	w.t.Cleanup(cancel)
	return ctx
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	_, err := w.store.Pool().Exec(w.ctx(), sql, args...)
	require.NoError(w.t, err)
}

// create makes a tenant in the catalog, where the desk wants it.
func (w *world) create(id shardmap.TenantID, fit catalog.Fit, needs catalog.Needs) (on shardmap.ShardID, err error) {
	w.mu.Lock()
	w.n++
	name := fmt.Sprintf("t_%016x", w.n)
	w.mu.Unlock()
	err = w.store.Tx(w.ctx(), func(ctx context.Context, tx pgx.Tx) error {
		if on, err = w.desk.Choose(ctx, tx, placement.Wish{GroundAsk: catalog.GroundAsk{Tenant: id, Fit: fit, Needs: needs, Builders: []string{"tenant-create"}}}); err != nil {
			return err
		}
		if err := w.store.InsertDatabase(ctx, tx, catalog.Database{Shard: on, Name: name, State: catalog.DatabaseBuilding}); err != nil {
			return err
		}
		if _, err := w.store.CreateTenant(ctx, tx, id, "", on, name); err != nil {
			return err
		}
		return w.store.SetNeeds(ctx, tx, id, needs, catalog.Actor{Name: "tester"})
	})
	if err == nil {
		w.desk.Placed(on)
	}
	return on, err
}

func (w *world) creates(id shardmap.TenantID, needs catalog.Needs) shardmap.ShardID {
	w.t.Helper()
	on, err := w.create(id, catalog.Fit{}, needs)
	require.NoError(w.t, err)
	return on
}

func (w *world) refuses(needs catalog.Needs, says string) {
	w.t.Helper()
	_, err := w.create("refused", catalog.Fit{}, needs)
	require.ErrorIs(w.t, err, catalog.ErrNoRoom)
	require.ErrorContains(w.t, err, says)
}

func TestTenantsAreSpread(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	on := map[shardmap.ShardID]int{}
	for n := range 12 {
		on[w.creates(shardmap.TenantID(fmt.Sprintf("t%d", n)), catalog.Needs{})]++
	}
	require.Equal(t, map[shardmap.ShardID]int{"s1": 4, "s2": 4, "s3": 4}, on)
	// One that can hold twice as much is given twice as much.
	w.exec(`insert into shard_capacities (shard, databases) values ('s1', 100), ('s2', 50), ('s3', 50)`)
	for n := range 12 {
		on[w.creates(shardmap.TenantID(fmt.Sprintf("u%d", n)), catalog.Needs{})]++
	}
	require.Equal(t, map[shardmap.ShardID]int{"s1": 12, "s2": 6, "s3": 6}, on)
	// A replica that was started just now sees the same.
	w.desk = placement.NewDesk(w.store)
	require.EqualValues(t, "s1", w.creates("v", catalog.Needs{}))
}

func TestTenantsGoWhereItIsQuiet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for n, id := range []shardmap.ShardID{"s1", "s2", "s3"} {
		catalogtest.AddTenant(t, w.store, shardmap.TenantID(fmt.Sprintf("t%d", n)), id, 100+n)
		w.exec(`insert into shard_usage (shard, measured_at, figures) values ($1, now(), jsonb_build_object('tenants',
			jsonb_build_object('databases', 1, 'bytes', 1e9, 'connections', 10, 'load', $2::float8, 'wal', 1e5)))`, id, []float64{3, 0.5, 3}[n])
	}
	require.EqualValues(t, "s2", w.creates("quiet", catalog.Needs{}))
	// Headroom holds for new tenants too.
	w.exec(`insert into shard_capacities (shard, load) values ('s2', 2)`)
	require.NotEqualValues(t, "s2", w.creates("elsewhere", catalog.Needs{}))
	_, err := w.create("named", catalog.Fit{Shard: "s2"}, catalog.Needs{})
	require.ErrorContains(t, err, "s2 has no room: load would be")
	// What does not answer is not offered, unless nothing does.
	w.exec(`update shard_usage set trouble = 'connection refused' where shard <> 's1'`)
	for n := range 3 {
		require.EqualValues(t, "s1", w.creates(shardmap.TenantID(fmt.Sprintf("only%d", n)), catalog.Needs{}))
	}
	w.exec(`update shard_usage set trouble = 'connection refused'`)
	require.NotEmpty(t, w.creates("nobody-answers", catalog.Needs{}))
	// Nor is what takes no tenants.
	w.exec(`update shards set state = 'down' where id <> 's3'`)
	require.EqualValues(t, "s3", w.creates("last", catalog.Needs{}))
	_, err = w.create("down", catalog.Fit{Shard: "s1"}, catalog.Needs{})
	require.ErrorIs(t, err, catalog.ErrConflict)
	_, err = w.create("nowhere", catalog.Fit{Shard: "s9"}, catalog.Needs{})
	require.ErrorIs(t, err, catalog.ErrNotFound)
}

func TestNeedsHoldForNewTenants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`update shards set region = 'eu', labels = '{"disk": "nvme"}' where id = 's2'`)
	for n := range 3 {
		require.EqualValues(t, "s2", w.creates(shardmap.TenantID(fmt.Sprintf("eu%d", n)), catalog.Needs{Region: "eu"}))
	}
	require.EqualValues(t, "s2", w.creates("nvme", catalog.Needs{Require: map[string]string{"disk": "nvme"}}))
	require.NotEqualValues(t, "s2", w.creates("hdd", catalog.Needs{Forbid: map[string]string{"disk": "nvme"}}))
	w.refuses(catalog.Needs{Region: "mars"}, "region: the tenant has to be in region mars")
	w.refuses(catalog.Needs{Class: "huge"}, "class: ")

	seen := map[shardmap.ShardID]bool{}
	for n := range 3 {
		seen[w.creates(shardmap.TenantID(fmt.Sprintf("bank%d", n)), catalog.Needs{Apart: "banks"})] = true
	}
	require.Len(t, seen, 3)
	w.refuses(catalog.Needs{Apart: "banks"}, "apart: ")
	w.refuses(catalog.Needs{Exclusive: true}, "exclusive: ")
	catalogtest.AddShard(t, w.store, "s4")
	require.EqualValues(t, "s4", w.creates("alone", catalog.Needs{Exclusive: true}))
	for n := range 6 {
		require.NotEqualValues(t, "s4", w.creates(shardmap.TenantID(fmt.Sprintf("any%d", n)), catalog.Needs{}))
	}
	_, err := w.create("beside", catalog.Fit{Shard: "s4"}, catalog.Needs{})
	require.ErrorContains(t, err, "exclusive: s4 belongs to one tenant alone")

	// Those in the making count as well.
	catalogtest.AddShard(t, w.store, "s5")
	w.exec(`insert into operations (id, kind, tenant, state, data, created_by, actor)
		values (gen_random_uuid(), 'tenant-create', 'coming', 'running', '{"shard": "s5", "needs": {"apart": "banks"}}', 'x', '{}')`)
	w.refuses(catalog.Needs{Exclusive: true}, "exclusive: ")
	w.refuses(catalog.Needs{Apart: "banks"}, "")
	require.EqualValues(t, "s5", w.creates("coming", catalog.Needs{Apart: "banks"}), "its own operation keeps it from nothing")
}

func TestNobodyIsMovedToWhereItMayNotBe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`update shards set region = 'eu', labels = '{"disk": "nvme"}' where id = 's2'`)
	catalogtest.AddTenant(t, w.store, "acme", "s1", 100)
	catalogtest.AddTenant(t, w.store, "bank", "s2", 101)
	w.exec(`insert into tenant_needs (tenant, apart, changed_by) values ('bank', 'banks', 'x')`)
	for _, c := range []struct {
		needs catalog.Needs
		to    shardmap.ShardID
		says  string
	}{
		{catalog.Needs{}, "s2", ""},
		{catalog.Needs{Region: "eu"}, "s2", ""},
		{catalog.Needs{Region: "eu"}, "s3", "region: "},
		{catalog.Needs{Forbid: map[string]string{"disk": "nvme"}}, "s2", "acme may not be on shard s2"},
		{catalog.Needs{Pinned: true}, "s2", "pinned"},
		{catalog.Needs{Apart: "banks"}, "s3", ""},
		{catalog.Needs{Apart: "banks"}, "s2", "keep apart"},
		{catalog.Needs{Exclusive: true}, "s3", ""},
		{catalog.Needs{Exclusive: true}, "s2", "keep apart"},
	} {
		err := w.store.Tx(w.ctx(), func(ctx context.Context, tx pgx.Tx) error {
			return w.store.SetNeeds(ctx, tx, "acme", c.needs, catalog.Actor{Name: "tester"})
		})
		require.NoError(t, err)
		err = w.store.Tx(w.ctx(), func(ctx context.Context, tx pgx.Tx) error { return placement.MayMove(ctx, w.store, tx, "acme", c.to) })
		if c.says == "" {
			require.NoError(t, err, "%+v to %s", c.needs, c.to)
			continue
		}
		require.ErrorIs(t, err, catalog.ErrConflict)
		require.ErrorContains(t, err, c.says)
	}
}

// A ready database is taken on the best of the shards that have one.
func TestReadyDatabasesAreChosenFrom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	choose := func(needs catalog.Needs, version int64) (on shardmap.ShardID, err error) {
		err = w.store.Tx(w.ctx(), func(ctx context.Context, tx pgx.Tx) error {
			on, err = w.desk.Choose(ctx, tx, placement.Wish{Ready: true, GroundAsk: catalog.GroundAsk{Tenant: "new", Needs: needs, SchemaVersion: version}})
			return err
		})
		return on, err
	}
	_, err := choose(catalog.Needs{}, 1)
	require.ErrorIs(t, err, catalog.ErrPoolEmpty)
	catalogtest.AddTenant(t, w.store, "a", "s1", 100)
	catalogtest.AddTenant(t, w.store, "b", "s1", 101)
	catalogtest.AddTenant(t, w.store, "c", "s2", 102)
	catalogtest.AddReady(t, w.store, "s1", 1)
	catalogtest.AddReady(t, w.store, "s2", 2)
	on, err := choose(catalog.Needs{}, 1)
	require.NoError(t, err)
	require.EqualValues(t, "s2", on, "s3 is empty, and has none")
	w.exec(`insert into tenant_needs (tenant, apart, changed_by) values ('c', 'banks', 'x')`)
	on, err = choose(catalog.Needs{Apart: "banks"}, 1)
	require.NoError(t, err)
	require.EqualValues(t, "s1", on)
	_, err = choose(catalog.Needs{Exclusive: true}, 1)
	require.ErrorIs(t, err, catalog.ErrPoolEmpty, "then one is made on the spot")
	_, err = choose(catalog.Needs{}, 2)
	require.ErrorIs(t, err, catalog.ErrPoolEmpty)
	// The last databases that a shard may have are its pool's: they can be taken.
	w.exec(`update shards set max_databases = 2 where id = 's2'`)
	on, err = choose(catalog.Needs{}, 1)
	require.NoError(t, err)
	require.EqualValues(t, "s2", on)
	_, err = w.create("cold", catalog.Fit{Shard: "s2"}, catalog.Needs{})
	require.ErrorIs(t, err, catalog.ErrNoRoom)
}

// However many ask at once, what must keep apart does.
func TestNeedsHoldForTenantsMadeAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	apart, alone := map[shardmap.ShardID]int{}, map[shardmap.ShardID]int{}
	for n := range 8 {
		for kind, needs := range map[string]catalog.Needs{"a": {Apart: "banks"}, "x": {Exclusive: true}} {
			wg.Go(func() {
				on, err := w.create(shardmap.TenantID(fmt.Sprintf("%s%d", kind, n)), catalog.Fit{}, needs)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil && needs.Exclusive:
					alone[on]++
				case err == nil:
					apart[on]++
				case !errors.Is(err, catalog.ErrNoRoom):
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	require.Len(t, apart, 3-len(alone), "apart %v, alone %v", apart, alone)
	for on, n := range apart {
		require.Equal(t, 1, n)
		require.Zero(t, alone[on])
	}
	for _, n := range alone {
		require.Equal(t, 1, n)
	}
}
