package move

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/publish"
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
	t       testing.TB
	store   *catalog.Store
	dsn     string
	fleet   *shard.Fleet
	server  func(testing.TB, shardmap.ShardID) *pgtest.ShardServer
	secrets secret.Store
	keys    string
	*Service
	engine *operation.Engine
	stop   func()
	budget time.Duration // of a move's pause; 0 is the default
}

// deaf is a bus that is away.
type deaf struct{}

func (deaf) Flush(context.Context, shardmap.TenantID) error { return publish.ErrUnavailable }
func (deaf) Hold(context.Context, shardmap.Hold, time.Duration) ([]shardmap.HoldAck, int, error) {
	return nil, 0, publish.ErrUnavailable
}
func (deaf) Release(context.Context, shardmap.Release) (publish.Reports, error) {
	return nil, publish.ErrUnavailable
}

var preparing sync.Mutex

func newWorld(t testing.TB, shards ...shardmap.ShardID) *world {
	t.Helper()
	return worldOf(t, shardtest.Server, shards)
}

// newSecureWorld is newWorld of shards that speak TLS only. With pgtest.EnvTLS all do.
func newSecureWorld(t testing.TB, shards ...shardmap.ShardID) *world {
	t.Helper()
	return worldOf(t, shardtest.SecureServer, shards)
}

func worldOf(t testing.TB, server func(testing.TB, shardmap.ShardID) *pgtest.ShardServer, shards []shardmap.ShardID) *world {
	t.Helper()
	store, dsn := catalogtest.OpenDSN(t)
	w := &world{t: t, store: store, dsn: dsn, keys: t.TempDir(), server: server}
	if _, measures := t.(*testing.B); !measures {
		w.budget = 15 * time.Second // a busy machine keeps to it, and PgBouncer has clients wait longer (see TestMain)
	}
	var err error
	w.secrets, err = secret.OpenDir(w.keys)
	require.NoError(t, err)
	w.fleet = shard.New(store, w.secrets, server(t, shards[0]).Channel)
	for _, id := range shards {
		server := server(t, id)
		_, err = w.secrets.Put(t.Context(), secret.ShardAdmin(string(id)), server.Admin, 0)
		require.NoError(t, err)
		_, err = w.secrets.Put(t.Context(), secret.ShardBouncer(string(id)), server.Console, 0)
		require.NoError(t, err)
		catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error {
			_, err := store.AddShard(ctx, tx, shardtest.Row(id, server))
			return err
		})
		preparing.Lock()
		require.NoError(t, w.fleet.PrepareShard(t.Context(), id))
		_, err = w.fleet.EnsureTemplates(t.Context(), id, sample)
		preparing.Unlock()
		require.NoError(t, err)
	}
	w.replica()
	return w
}

// replica makes a new engine and service and has it work, as after a restart.
func (w *world) replica() {
	w.t.Helper()
	w.engine, w.Service = newReplica(w.t, w.store, w.fleet)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.engine.Run(ctx)
	}()
	w.stop = sync.OnceFunc(func() { cancel(); <-done })
	w.t.Cleanup(w.stop)
}

func newReplica(t testing.TB, store *catalog.Store, fleet *shard.Fleet) (*operation.Engine, *Service) {
	bin, err := pgserver.BinDir()
	require.NoError(t, err)
	log := slog.New(slog.DiscardHandler)
	if flag.Parsed() && testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	engine := operation.New(store, operation.Options{Logger: log, LeaseFor: 2 * time.Second})
	return engine, New(store, engine, fleet, deaf{}, Options{PGBinDir: bin, Logger: log})
}

var databases atomic.Int64

// tenant makes a tenant with a database of its own on a shard, and returns its login.
func (w *world) tenant(id shardmap.TenantID, on shardmap.ShardID) (string, secret.Login) {
	w.t.Helper()
	ctx := w.t.Context()
	db := fmt.Sprintf("t_%08x%08x", os.Getpid(), databases.Add(1))
	login := secret.Login{User: shard.AuthLogin(db), Password: pg.NewPassword(), Generation: 1}
	conn := w.conn(on, "postgres")
	limits := shard.Limits{Connections: 40, StatementTimeout: 2 * time.Minute, IdleInTx: 5 * time.Minute}
	require.NoError(w.t, shard.CreateRoles(ctx, conn, db, login, limits))
	require.NoError(w.t, w.fleet.CreateDatabase(ctx, on, db, shard.TemplateApp, limits))
	require.NoError(w.t, shard.Unfence(ctx, conn, db))
	catalogtest.Tx(w.t, w.store, func(ctx context.Context, tx pgx.Tx) error {
		if err := w.store.InsertDatabase(ctx, tx, catalog.Database{Shard: on, Name: db, State: catalog.DatabaseBuilding, SchemaVersion: 3}); err != nil {
			return err
		}
		_, err := w.store.CreateTenant(ctx, tx, id, string(id), on, db)
		return err
	})
	return db, login
}

// conn is an admin connection for the test.
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

// move starts a move.
func (w *world) move(id shardmap.TenantID, to shardmap.ShardID) *operation.Operation {
	w.t.Helper()
	op, err := w.Move(w.t.Context(), Request{Tenant: id, To: to, MaxPause: w.budget}, tester, "")
	require.NoError(w.t, err)
	return op
}

// ended waits for the operation's end.
func (w *world) ended(op *operation.Operation) (*operation.Operation, Receipt) {
	w.t.Helper()
	deadline := time.Now().Add(4 * time.Minute)
	for !op.State.Final() {
		if time.Now().After(deadline) {
			w.t.Fatalf("operation did not end: state %s, step %s, attempt %d, error %q, waiting %q", op.State, op.Step, op.Attempt, op.Error, op.Progress.Waiting)
		}
		time.Sleep(10 * time.Millisecond)
		var err error
		op, err = w.engine.Get(w.t.Context(), op.ID)
		require.NoError(w.t, err)
	}
	var rec Receipt
	if len(op.Receipt) > 0 {
		require.NoError(w.t, json.Unmarshal(op.Receipt, &rec))
	}
	return op, rec
}

// moved moves and requires success.
func (w *world) moved(id shardmap.TenantID, to shardmap.ShardID) Receipt {
	w.t.Helper()
	op, rec := w.ended(w.move(id, to))
	require.Equal(w.t, operation.Done, op.State, op.Error)
	return rec
}

// requireServedOnce checks that the tenant is open where the catalog says, and
// nowhere else, and that nothing of a move is left on the shards.
func (w *world) requireServedOnce(id shardmap.TenantID, shards ...shardmap.ShardID) shardmap.ShardID {
	w.t.Helper()
	p, err := w.store.GetPlacement(w.t.Context(), id)
	require.NoError(w.t, err)
	for _, on := range shards {
		conn := w.conn(on, "postgres")
		var there bool
		require.NoError(w.t, conn.QueryRow(w.t.Context(), "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", p.Database).Scan(&there))
		if on == p.Shard {
			require.True(w.t, there)
		}
		if there {
			fenced, err := shard.Fenced(w.t.Context(), conn, p.Database)
			require.NoError(w.t, err)
			require.Equal(w.t, on != p.Shard, fenced, "fence of %s on %s", p.Database, on)
			w.requireNoTrace(on, p.Database)
		} else {
			var roles int
			require.NoError(w.t, conn.QueryRow(w.t.Context(), "SELECT count(*) FROM pg_roles WHERE rolname LIKE $1 || '%'", p.Database).Scan(&roles))
			require.Zero(w.t, roles, "roles left on %s", on)
		}
		console, err := w.fleet.Console(w.t.Context(), on)
		require.NoError(w.t, err)
		entries, err := console.Databases(w.t.Context())
		console.Close()
		require.NoError(w.t, err)
		require.False(w.t, entries[p.Database].Paused, "left paused on %s", on)
	}
	return p.Shard
}

func (w *world) requireNoTrace(on shardmap.ShardID, db string) {
	w.t.Helper()
	conn := w.conn(on, db)
	var left []string
	require.NoError(w.t, conn.QueryRow(w.t.Context(), `SELECT coalesce(array_agg(what), '{}') FROM (
		SELECT 'slot ' || slot_name AS what FROM pg_replication_slots WHERE database = current_database()
		UNION ALL SELECT 'publication ' || pubname FROM pg_publication
		UNION ALL SELECT 'event trigger ' || evtname FROM pg_event_trigger WHERE evtname LIKE 'freehold\_move%'
		UNION ALL SELECT 'subscription ' || subname FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE datname = current_database()
		UNION ALL SELECT 'table ' || relname FROM pg_class WHERE relnamespace = 'freehold'::regnamespace AND relkind = 'r' AND relname NOT IN ('barrier', 'schema_change')) x`).Scan(&left))
	require.Empty(w.t, left, "left on %s", on)
}
