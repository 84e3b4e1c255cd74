package catalog_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestReplicasMayMigrateAtOnce(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	var wg sync.WaitGroup
	errs := make([]error, 3)
	for i := range errs {
		wg.Go(func() { errs[i] = catalog.Migrate(testContext(t), dsn) })
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}

func TestTenantLife(t *testing.T) {
	t.Parallel()
	ctx, store := testContext(t), catalogtest.Open(t)
	catalogtest.AddShard(t, store, "s1")
	p := catalogtest.AddTenant(t, store, "acme", "s1", 1)
	require.Equal(t, shardmap.Placement{Tenant: "acme", Shard: "s1", Database: "t_0000000000000001", Epoch: 1, State: shardmap.Active}, p)

	set := func(from []shardmap.State, to shardmap.State, purge *time.Time) (p shardmap.Placement, err error) {
		err = store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			p, err = store.SetTenantState(ctx, tx, "acme", from, to, purge)
			return err
		})
		return p, err
	}
	p, err := set([]shardmap.State{shardmap.Active}, shardmap.Suspended, nil)
	require.NoError(t, err)
	require.Equal(t, shardmap.Epoch(2), p.Epoch)
	_, err = set([]shardmap.State{shardmap.Active}, shardmap.Suspended, nil)
	require.ErrorIs(t, err, catalog.ErrConflict)

	past := time.Now().Add(-time.Hour)
	p, err = set([]shardmap.State{shardmap.Suspended}, shardmap.Deleted, &past)
	require.NoError(t, err)
	require.Equal(t, shardmap.Epoch(3), p.Epoch)
	due, next, err := store.ListTenants(ctx, catalog.TenantFilter{PurgeDue: true}, catalog.Page{})
	require.NoError(t, err)
	require.Empty(t, next)
	require.Len(t, due, 1)
	require.NotNil(t, due[0].DeletedAt)

	catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error {
		_, err := store.SetDatabaseState(ctx, tx, "s1", p.Database, []catalog.DatabaseState{catalog.DatabaseAssigned}, catalog.DatabaseDropping, nil)
		return err
	})
	_, err = set([]shardmap.State{shardmap.Deleted}, shardmap.Active, nil)
	require.ErrorIs(t, err, catalog.ErrConflict, "its database is being dropped")

	catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error {
		if err := store.DeleteDatabase(ctx, tx, "s1", p.Database); err != nil {
			return err
		}
		return store.MarkPurged(ctx, tx, "acme")
	})
	_, err = set([]shardmap.State{shardmap.Deleted}, shardmap.Active, nil)
	require.ErrorIs(t, err, catalog.ErrConflict, "it is purged")
	tenants, _, err := store.ListTenants(ctx, catalog.TenantFilter{}, catalog.Page{})
	require.NoError(t, err)
	require.Empty(t, tenants)
	tenants, _, err = store.ListTenants(ctx, catalog.TenantFilter{Purged: true, Contains: "CM"}, catalog.Page{})
	require.NoError(t, err)
	require.Len(t, tenants, 1)

	name := catalogtest.AddReady(t, store, "s1", 2)
	err = store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := store.CreateTenant(ctx, tx, "acme", "again", "s1", name)
		return err
	})
	require.ErrorIs(t, err, catalog.ErrExists, "IDs are never used again")
}

func TestFlip(t *testing.T) {
	t.Parallel()
	ctx, store := testContext(t), catalogtest.Open(t)
	catalogtest.AddShard(t, store, "s1")
	catalogtest.AddShard(t, store, "s2")
	before := catalogtest.AddTenant(t, store, "acme", "s1", 1)
	flip := func(expect shardmap.Placement) (p shardmap.Placement, err error) {
		err = store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			p, err = store.FlipPlacement(ctx, tx, "acme", expect, "s2")
			return err
		})
		return p, err
	}
	_, err := flip(before)
	require.ErrorIs(t, err, catalog.ErrConflict, "no target database yet")
	got, err := store.GetPlacement(ctx, "acme")
	require.NoError(t, err)
	require.Equal(t, before, got)

	catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error {
		return store.InsertDatabase(ctx, tx, catalog.Database{Shard: "s2", Name: before.Database, State: catalog.DatabaseTarget, Tenant: "acme", SchemaVersion: 1})
	})
	// Of those who flip the same placement at once, one wins.
	results := make(chan error, 4)
	for range cap(results) {
		go func() { _, err := flip(before); results <- err }()
	}
	won := 0
	for range cap(results) {
		if err := <-results; err == nil {
			won++
		} else {
			require.ErrorIs(t, err, catalog.ErrConflict)
		}
	}
	require.Equal(t, 1, won)
	got, err = store.GetPlacement(ctx, "acme")
	require.NoError(t, err)
	require.Equal(t, shardmap.Placement{Tenant: "acme", Shard: "s2", Database: before.Database, Epoch: 2, State: shardmap.Active}, got)
	source, err := store.GetDatabase(ctx, "s1", before.Database)
	require.NoError(t, err)
	require.Equal(t, catalog.DatabaseRetired, source.State)
	drop := time.Now().Add(-time.Second)
	catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error {
		_, err := store.SetDatabaseState(ctx, tx, "s1", before.Database, nil, catalog.DatabaseRetired, &drop)
		return err
	})
	due, _, err := store.ListDatabases(ctx, catalog.DatabaseFilter{DropDue: true}, catalog.Page{})
	require.NoError(t, err)
	require.Len(t, due, 1)
	require.Equal(t, shardmap.ShardID("s1"), due[0].Shard)

	var topics int
	require.NoError(t, store.Pool().QueryRow(ctx, `select count(*) from outbox where topic = 'placement' and key = 'acme'`).Scan(&topics))
	require.Equal(t, 2, topics, "every change is in the outbox")
}

func TestDatabaseKeepsTheRules(t *testing.T) {
	t.Parallel()
	ctx, store := testContext(t), catalogtest.Open(t)
	catalogtest.AddShard(t, store, "s1")
	p := catalogtest.AddTenant(t, store, "acme", "s1", 1)
	for name, sql := range map[string]string{
		"epoch stays":         `update placements set state = 'suspended'`,
		"epoch jumps":         `update placements set epoch = epoch + 2`,
		"epoch shrinks":       `update placements set epoch = epoch - 1`,
		"database changes":    `update placements set epoch = epoch + 1, database = 't_00000000000000ff'`,
		"tenant deleted":      `delete from tenants`,
		"placement deleted":   `delete from placements`,
		"tenants truncated":   `truncate tenants cascade`,
		"unknown shard":       `update placements set epoch = epoch + 1, shard = 's9'`,
		"database in use":     `update databases set state = 'retired'`,
		"database gone":       `delete from databases`,
		"ready with tenant":   `update databases set state = 'ready'`,
		"bad tenant ID":       `insert into tenants (id, display_name) values ('Acme', '')`,
		"audit record erased": `delete from audit_outbox`,
	} {
		catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error {
			return store.AppendAudit(ctx, tx, catalog.AuditRecord{Action: "test", Object: "x"})
		})
		_, err := store.Pool().Exec(ctx, sql)
		require.Error(t, err, name)
	}
	err := store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := store.SetDatabaseState(ctx, tx, "s1", p.Database, []catalog.DatabaseState{catalog.DatabaseAssigned}, catalog.DatabaseDropping, nil)
		return err
	})
	require.ErrorIs(t, err, catalog.ErrConflict)
	err = store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return store.DeleteDatabase(ctx, tx, "s1", p.Database) })
	require.ErrorIs(t, err, catalog.ErrConflict)
	got, err := store.GetPlacement(ctx, "acme")
	require.NoError(t, err)
	require.Equal(t, p, got)
}

func TestPoolIsSharedOutOnce(t *testing.T) {
	t.Parallel()
	ctx, store := testContext(t), catalogtest.Open(t)
	for i, shard := range []shardmap.ShardID{"s1", "s2", "s3"} {
		catalogtest.AddShard(t, store, shard)
		for n := range 4 {
			catalogtest.AddReady(t, store, shard, 10*i+n)
		}
	}
	catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error {
		_, err := store.SetShardState(ctx, tx, "s3", []catalog.ShardState{catalog.ShardActive}, catalog.ShardCordoned)
		return err
	})
	var wg sync.WaitGroup
	errs := make([]error, 10)
	for i := range errs {
		wg.Go(func() {
			errs[i] = store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
				d, err := store.TakeReady(ctx, tx, catalog.Fit{}, 1)
				if err != nil {
					return err
				}
				_, err = store.CreateTenant(ctx, tx, shardmap.TenantID(fmt.Sprintf("t%d", i)), "", d.Shard, d.Name)
				return err
			})
		})
	}
	wg.Wait()
	empty := 0
	for _, err := range errs {
		if err != nil {
			require.ErrorIs(t, err, catalog.ErrPoolEmpty)
			empty++
		}
	}
	require.Equal(t, 2, empty)
	shards, err := store.ListShards(ctx)
	require.NoError(t, err)
	require.Equal(t, []int{4, 4, 0}, []int{shards[0].Tenants, shards[1].Tenants, shards[2].Tenants})
	require.Equal(t, 4, shards[2].Ready)
	err = store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := store.TakeReady(ctx, tx, catalog.Fit{Shard: "s3"}, 1)
		return err
	})
	require.ErrorIs(t, err, catalog.ErrPoolEmpty, "cordoned")
}

func TestLeastLoaded(t *testing.T) {
	t.Parallel()
	ctx, store := testContext(t), catalogtest.Open(t)
	for _, id := range []shardmap.ShardID{"s1", "s2", "s3"} {
		shard := catalogtest.AddShard(t, store, id)
		shard.MaxDatabases = 2
		shard.Region = "eu"
		catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error {
			updated, err := store.UpdateShard(ctx, tx, shard)
			require.Equal(t, int64(2), updated.Version)
			return err
		})
	}
	least := func(fit catalog.Fit) (id shardmap.ShardID, err error) {
		err = store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			shard, err := store.LeastLoaded(ctx, tx, fit)
			id = shard.ID
			return err
		})
		return id, err
	}
	catalogtest.AddTenant(t, store, "a", "s1", 1)
	id, err := least(catalog.Fit{})
	require.NoError(t, err)
	require.Equal(t, shardmap.ShardID("s2"), id)
	id, err = least(catalog.Fit{Exclude: []shardmap.ShardID{"s2"}, Region: "eu"})
	require.NoError(t, err)
	require.Equal(t, shardmap.ShardID("s3"), id)
	_, err = least(catalog.Fit{Region: "us"})
	require.ErrorIs(t, err, catalog.ErrNoRoom)
	_, err = least(catalog.Fit{Shard: "nope"})
	require.ErrorIs(t, err, catalog.ErrNotFound)
	catalogtest.AddTenant(t, store, "b", "s1", 2)
	_, err = least(catalog.Fit{Shard: "s1"})
	require.ErrorIs(t, err, catalog.ErrNoRoom)
	err = store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return store.InsertDatabase(ctx, tx, catalog.Database{Shard: "s1", Name: "t_0000000000000003", State: catalog.DatabaseBuilding})
	})
	require.ErrorIs(t, err, catalog.ErrNoRoom)
	catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error {
		_, err := store.SetShardState(ctx, tx, "s1", []catalog.ShardState{catalog.ShardActive}, catalog.ShardDraining)
		return err
	})
	_, err = least(catalog.Fit{Shard: "s1"})
	require.ErrorIs(t, err, catalog.ErrConflict)
}

func TestPages(t *testing.T) {
	t.Parallel()
	ctx, store := testContext(t), catalogtest.Open(t)
	catalogtest.AddShard(t, store, "s1")
	var want []shardmap.TenantID
	for i := range 7 {
		id := shardmap.TenantID(fmt.Sprintf("t%d", i))
		want = append(want, id)
		catalogtest.AddTenant(t, store, id, "s1", i)
	}
	var got []shardmap.TenantID
	for page := (catalog.Page{Limit: 3}); ; {
		tenants, next, err := store.ListTenants(ctx, catalog.TenantFilter{Shard: "s1", State: shardmap.Active}, page)
		require.NoError(t, err)
		for _, tenant := range tenants {
			got = append(got, tenant.ID)
		}
		if page.After = next; next == "" {
			break
		}
	}
	require.Equal(t, want, got)
	databases, next, err := store.ListDatabases(ctx, catalog.DatabaseFilter{}, catalog.Page{Limit: 4})
	require.NoError(t, err)
	require.Len(t, databases, 4)
	databases, next, err = store.ListDatabases(ctx, catalog.DatabaseFilter{}, catalog.Page{Limit: 4, After: next})
	require.NoError(t, err)
	require.Len(t, databases, 3)
	require.Empty(t, next)
}

func TestRequestKeys(t *testing.T) {
	t.Parallel()
	ctx, store := testContext(t), catalogtest.Open(t)
	hash, other := []byte{1}, []byte{2}
	a, err := store.BeginRequest(ctx, "ann", "k", hash)
	require.NoError(t, err)
	require.Nil(t, a)
	_, err = store.BeginRequest(ctx, "ann", "k", hash)
	require.ErrorIs(t, err, catalog.ErrBusy)
	require.NoError(t, store.AbandonRequest(ctx, "ann", "k", hash))
	a, err = store.BeginRequest(ctx, "ann", "k", hash)
	require.NoError(t, err)
	require.Nil(t, a)
	require.NoError(t, store.FinishRequest(ctx, "ann", "k", hash, catalog.Answer{Status: 201, Body: []byte("{}")}))
	a, err = store.BeginRequest(ctx, "ann", "k", hash)
	require.NoError(t, err)
	require.Equal(t, &catalog.Answer{Status: 201, Body: []byte("{}")}, a)
	_, err = store.BeginRequest(ctx, "ann", "k", other)
	require.ErrorIs(t, err, catalog.ErrKeyReused)
	a, err = store.BeginRequest(ctx, "bob", "k", other)
	require.NoError(t, err)
	require.Nil(t, a)

	_, err = store.Pool().Exec(ctx, `update idempotency_keys set begun_at = begun_at - interval '2 minutes'`)
	require.NoError(t, err)
	a, err = store.BeginRequest(ctx, "bob", "k", other)
	require.NoError(t, err, "a claim that hangs is taken over")
	require.Nil(t, a)
	_, err = store.Pool().Exec(ctx, `update idempotency_keys set begun_at = begun_at - interval '25 hours'`)
	require.NoError(t, err)
	a, err = store.BeginRequest(ctx, "ann", "k", other)
	require.NoError(t, err, "old keys are forgotten")
	require.Nil(t, a)
}

func TestOutageIsUnavailable(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	dsn := pgtest.Database(t)
	require.NoError(t, catalog.Migrate(ctx, dsn))

	proxy := catalogtest.NewProxy(t, dsn)
	store, err := catalog.Open(ctx, proxy.DSN)
	require.NoError(t, err)
	t.Cleanup(store.Close)
	catalogtest.AddShard(t, store, "s1")

	woken := make(chan struct{}, 100)
	listening, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { store.Listen(listening, "freehold_outbox", func(string) { woken <- struct{}{} }) })
	defer wg.Wait()
	defer stop()
	<-woken

	err = store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		proxy.Cut()
		_, err := tx.Exec(ctx, `select 1`)
		return err
	})
	require.ErrorIs(t, err, catalog.ErrUnavailable)
	_, err = store.GetShard(ctx, "s1")
	require.ErrorIs(t, err, catalog.ErrUnavailable)
	require.ErrorIs(t, catalog.Migrate(ctx, proxy.DSN), catalog.ErrUnavailable)

	proxy.Restore()
	require.Eventually(t, func() bool { _, err := store.GetShard(ctx, "s1"); return err == nil }, time.Minute, 20*time.Millisecond)
	for len(woken) > 0 {
		<-woken
	}
	select {
	case <-woken: // listens again, and says so
	case <-ctx.Done():
		t.Fatal("did not listen again")
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = store.GetShard(canceled, "s1")
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, catalog.ErrUnavailable)
}
