package provision_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const sample = "../../deploy/sample"

var tester = catalog.Actor{Name: "tester", Role: "admin", Reason: "a test"}

// world is a catalog of the test's own, and shards that tests share.
type world struct {
	t       testing.TB
	store   *catalog.Store
	engine  *operation.Engine
	fleet   *shard.Fleet
	secrets secret.Store
	*provision.Service
}

func newWorld(t testing.TB, opt provision.Options, shards ...shardmap.ShardID) *world {
	t.Helper()
	secrets, err := secret.OpenDir(t.TempDir())
	require.NoError(t, err)
	w := &world{t: t, store: catalogtest.Open(t), secrets: secrets}
	w.replica(opt)
	for _, id := range shards {
		_, err := w.AddShard(w.ctx(), spec(t, id), tester)
		require.NoError(t, err)
	}
	return w
}

// replica gives the world an engine and service made anew, as after a restart.
func (w *world) replica(opt provision.Options) {
	if opt.MigrationsDir == "" {
		opt.MigrationsDir = sample
	}
	opt.Limits = shard.Limits{Connections: 40, StatementTimeout: 30 * time.Second, IdleInTx: 30 * time.Second}
	opt.Logger = slog.New(slog.DiscardHandler)
	w.engine = operation.New(w.store, operation.Options{Worker: w.t.Name(), LeaseFor: 2 * time.Second, Logger: opt.Logger})
	w.fleet = shard.New(w.store, w.secrets, pgtest.Channel(w.t))
	w.Service = provision.New(w.store, w.engine, w.fleet, w.secrets, opt)
}

func spec(t testing.TB, id shardmap.ShardID) provision.ShardSpec {
	server := pgtest.SharedShard(t, string(id))
	return provision.ShardSpec{Shard: shardtest.Row(id, server), Admin: server.Admin, Console: server.Console}
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	w.t.Cleanup(cancel)
	return ctx
}

// run runs something until the test ends or the returned function is called.
func (w *world) run(fn func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(w.t, <-done)
	})
	w.t.Cleanup(stop)
	return stop
}

// done waits for the operation to succeed.
func (w *world) done(op *operation.Operation, err error) *operation.Operation {
	w.t.Helper()
	op = w.ended(op, err)
	require.Equal(w.t, operation.Done, op.State, "%s: %s", op.Kind, op.Error)
	return op
}

func (w *world) ended(op *operation.Operation, err error) *operation.Operation {
	w.t.Helper()
	require.NoError(w.t, err)
	pgtest.Eventually(w.t, "operation "+op.Kind+" ends", func() bool {
		op, err = w.engine.Get(w.ctx(), op.ID)
		require.NoError(w.t, err)
		return op.State.Final()
	})
	return op
}

func (w *world) create(id shardmap.TenantID) shardmap.Placement {
	w.t.Helper()
	w.done(w.Create(w.ctx(), provision.CreateSpec{ID: id}, tester, ""))
	p, err := w.store.GetPlacement(w.ctx(), id)
	require.NoError(w.t, err)
	return p
}

// login connects as the data plane does.
func (w *world) login(p shardmap.Placement) (*pgx.Conn, error) {
	on, err := w.store.GetShard(w.ctx(), p.Shard)
	require.NoError(w.t, err)
	l, _, err := w.secrets.Get(w.ctx(), secret.DatabaseAuth(p.Database))
	require.NoError(w.t, err)
	return pgtest.Channel(w.t).Connect(w.ctx(), on.BouncerHost, on.BouncerPort, p.Database, l)
}

// serves makes sure that the tenant's database takes its login and has the application's schema.
func (w *world) serves(p shardmap.Placement) {
	w.t.Helper()
	conn, err := w.login(p)
	require.NoError(w.t, err)
	defer conn.Close(w.ctx()) //nolint:errcheck // nothing is lost with it
	_, err = conn.Exec(w.ctx(), "BEGIN; SET LOCAL ROLE "+shard.RWRole(p.Database)+"; INSERT INTO customers (name) VALUES ('x'); ROLLBACK")
	require.NoError(w.t, err)
}

// refuses makes sure that the database's own server lets the login in no more.
func (w *world) refuses(p shardmap.Placement) {
	w.t.Helper()
	on, err := w.store.GetShard(w.ctx(), p.Shard)
	require.NoError(w.t, err)
	l, _, err := w.secrets.Get(w.ctx(), secret.DatabaseAuth(p.Database))
	require.NoError(w.t, err)
	_, err = pgtest.Channel(w.t).Connect(w.ctx(), on.PostgresHost, on.PostgresPort, p.Database, l)
	require.Equal(w.t, "53300", pg.Code(err))
}

// onServer asks the shard's server.
func (w *world) onServer(on shardmap.ShardID, sql string, args ...any) (n int) {
	w.t.Helper()
	conn, err := w.fleet.Admin(w.ctx(), on, "postgres")
	require.NoError(w.t, err)
	defer conn.Close(w.ctx()) //nolint:errcheck // nothing is lost with it
	require.NoError(w.t, conn.QueryRow(w.ctx(), sql, args...).Scan(&n))
	return n
}

func (w *world) exists(on shardmap.ShardID, database string) bool {
	return w.onServer(on, "SELECT count(*) FROM pg_database WHERE datname = $1", database)+
		w.onServer(on, "SELECT count(*) FROM pg_roles WHERE rolname LIKE $1", database+"%") > 0
}

func (w *world) ready(on shardmap.ShardID) int {
	schema, err := shard.ReadSchema(sample)
	require.NoError(w.t, err)
	n, err := w.store.CountReady(w.ctx(), on, schema.Version)
	require.NoError(w.t, err)
	return n
}
