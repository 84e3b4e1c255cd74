package clone

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/access"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgserver"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

const sample = "../../deploy/sample"

var tester = catalog.Actor{Name: "tester", Role: "admin", Reason: "a test"}

// world is a catalog of the test's own over shards that tests share.
type world struct {
	t       *testing.T
	store   *catalog.Store
	dsn     string
	secrets secret.Store
	keys    string
	server  func(testing.TB, shardmap.ShardID) *pgtest.ShardServer
	replica
	stop func()
}

// replica is what one process has of the control plane.
type replica struct {
	engine  *operation.Engine
	fleet   *shard.Fleet
	tenants *provision.Service
	access  *access.Service
	*Service
}

func newReplica(store *catalog.Store, secrets secret.Store, channel *pg.Channel) (r replica, err error) {
	bin, err := pgserver.BinDir()
	if err != nil {
		return r, err
	}
	log := slog.New(slog.DiscardHandler)
	if flag.Parsed() && testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	r.engine = operation.New(store, operation.Options{Logger: log, LeaseFor: 2 * time.Second})
	r.fleet = shard.New(store, secrets, channel)
	r.tenants = provision.New(store, r.engine, r.fleet, secrets, provision.Options{MigrationsDir: sample, Logger: log, DeleteGrace: time.Hour,
		Limits: shard.Limits{Connections: 40, StatementTimeout: 30 * time.Second, IdleInTx: 60 * time.Second}})
	r.access = access.New(store, r.engine, r.fleet, log)
	r.Service = New(store, r.engine, r.fleet, r.tenants, r.access, Options{PGBinDir: bin, Logger: log})
	return r, nil
}

func newWorld(t *testing.T, shards ...shardmap.ShardID) *world {
	t.Helper()
	return worldOf(t, shardtest.Server, shards)
}

// newSecureWorld is newWorld of shards that speak TLS only. With pgtest.EnvTLS all do.
func newSecureWorld(t *testing.T, shards ...shardmap.ShardID) *world {
	t.Helper()
	return worldOf(t, shardtest.SecureServer, shards)
}

func worldOf(t *testing.T, server func(testing.TB, shardmap.ShardID) *pgtest.ShardServer, shards []shardmap.ShardID) *world {
	t.Helper()
	store, dsn := catalogtest.OpenDSN(t)
	w := &world{t: t, store: store, dsn: dsn, keys: t.TempDir(), server: server}
	var err error
	w.secrets, err = secret.OpenDir(w.keys)
	require.NoError(t, err)
	w.work()
	for _, id := range shards {
		server := server(t, id)
		_, err := w.tenants.AddShard(t.Context(), provision.ShardSpec{Shard: shardtest.Row(id, server), Admin: server.Admin, Console: server.Console}, tester)
		require.NoError(t, err)
	}
	return w
}

// channel opens links to the shards.
func (w *world) channel() *pg.Channel { return w.server(w.t, "a").Channel }

// work has a new replica work, as after a restart.
func (w *world) work() {
	w.t.Helper()
	var err error
	w.replica, err = newReplica(w.store, w.secrets, w.channel())
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.engine.Run(ctx)
	}()
	w.stop = sync.OnceFunc(func() { cancel(); <-done })
	w.t.Cleanup(w.stop)
}

// tenant makes a tenant as users do, and returns its database.
func (w *world) tenant(id shardmap.TenantID, on shardmap.ShardID) string {
	w.t.Helper()
	op, err := w.tenants.Create(w.t.Context(), provision.CreateSpec{ID: id, Fit: catalog.Fit{Shard: on}}, tester, "")
	require.NoError(w.t, err)
	w.done(op)
	return w.placement(id).Database
}

func (w *world) placement(id shardmap.TenantID) shardmap.Placement {
	w.t.Helper()
	p, err := w.store.GetPlacement(w.t.Context(), id)
	require.NoError(w.t, err)
	return p
}

func (w *world) clone(req Request) *operation.Operation {
	w.t.Helper()
	op, err := w.Clone(w.t.Context(), req, tester, "")
	require.NoError(w.t, err)
	return op
}

func (w *world) ended(op *operation.Operation) *operation.Operation {
	w.t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for !op.State.Final() {
		if time.Now().After(deadline) {
			w.t.Fatalf("operation did not end: state %s, step %s, attempt %d, error %q, waiting %q", op.State, op.Step, op.Attempt, op.Error, op.Progress.Waiting)
		}
		time.Sleep(10 * time.Millisecond)
		var err error
		op, err = w.engine.Get(w.t.Context(), op.ID)
		require.NoError(w.t, err)
	}
	return op
}

func (w *world) done(op *operation.Operation) (rec Receipt) {
	w.t.Helper()
	op = w.ended(op)
	require.Equal(w.t, operation.Done, op.State, op.Error)
	require.NoError(w.t, json.Unmarshal(op.Receipt, &rec))
	return rec
}

func (w *world) conn(on shardmap.ShardID, database string) *pgx.Conn {
	w.t.Helper()
	conn, err := w.fleet.Admin(w.t.Context(), on, database)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { closeConn(conn) })
	return conn
}

func script(t testing.TB, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
	require.NoError(t, err)
}

// asOwner runs sql in the tenant's database as its owner role.
func (w *world) asOwner(on shardmap.ShardID, db, sql string) {
	w.t.Helper()
	script(w.t, w.conn(on, db), "SET search_path = public; SET ROLE "+shard.OwnerRole(db)+";"+sql)
}

// dump is what pg_dump says of the database, without the order of what has none.
func (w *world) dump(on shardmap.ShardID, db string, args ...string) []string {
	w.t.Helper()
	bin, err := pgserver.BinDir()
	require.NoError(w.t, err)
	env, err := w.fleet.AdminEnv(w.t.Context(), on, db)
	require.NoError(w.t, err)
	cmd := exec.CommandContext(w.t.Context(), filepath.Join(bin, "pg_dump"), args...) //nolint:gosec // Postgres's own
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	require.NoError(w.t, err, string(out))
	lines := slices.DeleteFunc(strings.Split(string(out), "\n"), func(line string) bool { // random words
		return strings.HasPrefix(line, `\restrict`) || strings.HasPrefix(line, `\unrestrict`)
	})
	slices.Sort(lines)
	return lines
}

// requireNothing checks that a clone that came to nothing left nothing.
func (w *world) requireNothing(tenant shardmap.TenantID, op *operation.Operation, shards ...shardmap.ShardID) {
	w.t.Helper()
	var doc Doc
	require.NoError(w.t, json.Unmarshal(op.Data, &doc))
	_, err := w.store.GetTenant(w.t.Context(), tenant)
	require.ErrorIs(w.t, err, catalog.ErrNotFound)
	rows, _, err := w.store.ListDatabases(w.t.Context(), catalog.DatabaseFilter{State: catalog.DatabaseBuilding}, catalog.Page{})
	require.NoError(w.t, err)
	require.Empty(w.t, rows)
	if doc.Database == "" {
		return
	}
	_, _, err = w.secrets.Get(w.t.Context(), secret.DatabaseAuth(doc.Database))
	require.ErrorIs(w.t, err, secret.ErrNotFound)
	for _, on := range shards {
		var left int
		require.NoError(w.t, w.conn(on, "postgres").QueryRow(w.t.Context(), `SELECT (SELECT count(*) FROM pg_database WHERE datname = $1)
			+ (SELECT count(*) FROM pg_roles WHERE rolname LIKE $1 || '%')`, doc.Database).Scan(&left))
		require.Zero(w.t, left, "left on %s", on)
	}
}

// requireNoMark checks that a database shows nothing of having been cloned, or
// of being a clone, once the last session has ended.
func (w *world) requireNoMark(on shardmap.ShardID, db string) {
	w.t.Helper()
	conn := w.conn(on, db)
	pgtest.Eventually(w.t, "nothing is left in "+db+" on "+string(on), func() bool {
		var left []string
		require.NoError(w.t, conn.QueryRow(w.t.Context(), `SELECT coalesce(array_agg(what), '{}') FROM (
			SELECT 'slot ' || slot_name AS what FROM pg_replication_slots WHERE database = current_database()
			UNION ALL SELECT 'publication ' || pubname FROM pg_publication WHERE pubname <> 'mine'
			UNION ALL SELECT 'session ' || state FROM pg_stat_activity WHERE datname = current_database() AND application_name = '`+applicationName+`'
			UNION ALL SELECT 'table ' || relname FROM pg_class WHERE relnamespace = 'freehold'::regnamespace AND relkind = 'r' AND relname NOT IN ('barrier', 'schema_change')) x`).Scan(&left))
		return len(left) == 0
	})
}

// workerEnv, with a catalog's DSN, a directory of secrets and how shards are
// reached, makes the test binary a worker that can be killed.
const workerEnv = "FREEHOLD_CLONE_TEST_WORKER"

func TestMain(m *testing.M) {
	if env := os.Getenv(workerEnv); env != "" {
		fmt.Fprintln(os.Stderr, work(env))
		os.Exit(1)
	}
	pgtest.Main(m)
}

func work(env string) error {
	store, secrets, channel, err := shardtest.OpenWorker(env)
	if err != nil {
		return err
	}
	r, err := newReplica(store, secrets, channel)
	if err != nil {
		return err
	}
	return r.engine.Run(context.Background())
}

// needs declares what a tenant needs of its shard.
func (w *world) needs(id shardmap.TenantID, n catalog.Needs) {
	w.t.Helper()
	catalogtest.Tx(w.t, w.store, func(ctx context.Context, tx pgx.Tx) error { return w.store.SetNeeds(ctx, tx, id, n, tester) })
}
