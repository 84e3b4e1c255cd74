// Package worldtest has what tests of the control plane's operations share: a
// catalog of the test's own over shards that tests share, and a replica that
// works on it, without an API. The test binary's TestMain must call [Main].
package worldtest

import (
	"context"
	"encoding/json"
	"flag"
	"log/slog"
	"os"
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

// sample are the migrations of the tenants' databases, seen from a package of the control plane.
const sample = "../../deploy/sample"

// Tester is who asks for everything.
var Tester = catalog.Actor{Name: "tester", Role: "admin", Reason: "a test"}

// Base is what any replica has. Its engine does not run yet.
type Base struct {
	Log     *slog.Logger
	Store   *catalog.Store
	Secrets *secret.Dir
	Engine  *operation.Engine
	Fleet   *shard.Fleet
	Tenants *provision.Service
	Dir     string // for files that outlive a replica
}

func newBase(store *catalog.Store, secrets *secret.Dir, channel *pg.Channel, dir string) Base {
	b := Base{Log: slog.New(slog.DiscardHandler), Store: store, Secrets: secrets, Dir: dir}
	if flag.Parsed() && testing.Verbose() {
		b.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	b.Engine = operation.New(store, operation.Options{Logger: b.Log, LeaseFor: 2 * time.Second})
	b.Fleet = shard.New(store, secrets, channel)
	b.Tenants = provision.New(store, b.Engine, b.Fleet, secrets, provision.Options{MigrationsDir: sample, Logger: b.Log, DeleteGrace: time.Hour,
		Limits: shard.Limits{Connections: 40, StatementTimeout: 30 * time.Second, IdleInTx: 60 * time.Second}})
	return b
}

// World is a catalog of the test's own over shards that tests share.
type World struct {
	T *testing.T
	Base
	Stop func() // the replica's worker

	dsn, keys string
	server    func(testing.TB, shardmap.ShardID) *pgtest.ShardServer
	complete  func(Base) error
}

// New makes a world with these shards, and a replica that works in it. complete
// is called for each replica before it works, to register what else it has;
// server says which servers the shards are ([shardtest.Server]).
func New(t *testing.T, server func(testing.TB, shardmap.ShardID) *pgtest.ShardServer, complete func(Base) error, shards ...shardmap.ShardID) *World {
	t.Helper()
	store, dsn := catalogtest.OpenDSN(t)
	w := &World{T: t, dsn: dsn, keys: t.TempDir(), server: server, complete: complete}
	w.Store, w.Dir = store, t.TempDir()
	var err error
	w.Secrets, err = secret.OpenDir(w.keys)
	require.NoError(t, err)
	w.Work()
	for _, id := range shards {
		on := server(t, id)
		_, err := w.Tenants.AddShard(t.Context(), provision.ShardSpec{Shard: shardtest.Row(id, on), Admin: on.Admin, Console: on.Console}, Tester)
		require.NoError(t, err)
	}
	return w
}

// Channel opens links to the shards.
func (w *World) Channel() *pg.Channel { return w.server(w.T, "a").Channel }

// Work has a new replica work, as after a restart.
func (w *World) Work() {
	w.T.Helper()
	w.Base = newBase(w.Store, w.Secrets, w.Channel(), w.Dir)
	require.NoError(w.T, w.complete(w.Base))
	w.Stop = w.Beside(w.Engine.Run)
}

// Beside has something run until stop, or until the test ends.
func (w *World) Beside(run func(ctx context.Context) error) (stop func()) {
	w.T.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = run(ctx) // it ends with its context
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	w.T.Cleanup(stop)
	return stop
}

// Tenant makes a tenant as users do, on a shard (empty: any), and returns where it is.
func (w *World) Tenant(id shardmap.TenantID, on shardmap.ShardID) shardmap.Placement {
	w.T.Helper()
	op, err := w.Tenants.Create(w.T.Context(), provision.CreateSpec{ID: id, DisplayName: "Tenant " + string(id), Fit: catalog.Fit{Shard: on}}, Tester, "")
	require.NoError(w.T, err)
	w.Done(op, nil)
	return w.Placement(id)
}

// Placement reads it.
func (w *World) Placement(id shardmap.TenantID) shardmap.Placement {
	w.T.Helper()
	p, err := w.Store.GetPlacement(w.T.Context(), id)
	require.NoError(w.T, err)
	return p
}

// endsWithin bounds the wait for an operation, on a machine that others use too.
const endsWithin = 4 * time.Minute

// Ended waits for an operation's end.
func (w *World) Ended(op *operation.Operation) *operation.Operation {
	w.T.Helper()
	deadline := time.Now().Add(endsWithin)
	for !op.State.Final() {
		if time.Now().After(deadline) {
			w.T.Fatalf("operation did not end: state %s, step %s, attempt %d, error %q, waiting %q", op.State, op.Step, op.Attempt, op.Error, op.Progress.Waiting)
		}
		time.Sleep(10 * time.Millisecond) // bounded above
		var err error
		op, err = w.Engine.Get(w.T.Context(), op.ID)
		require.NoError(w.T, err)
	}
	return op
}

// Done waits for an operation to succeed, and reads its receipt; nil: nobody wants it.
func (w *World) Done(op *operation.Operation, receipt any) {
	w.T.Helper()
	op = w.Ended(op)
	require.Equal(w.T, operation.Done, op.State, op.Error)
	if receipt != nil {
		require.NoError(w.T, json.Unmarshal(op.Receipt, receipt))
	}
}

// Conn is an admin's connection.
func (w *World) Conn(on shardmap.ShardID, database string) *pgx.Conn {
	w.T.Helper()
	conn, err := w.Fleet.Admin(w.T.Context(), on, database)
	require.NoError(w.T, err)
	w.T.Cleanup(func() { _ = conn.Close(context.Background()) }) // nothing is lost with it
	return conn
}

// Script runs statements.
func (w *World) Script(conn *pgx.Conn, sql string) {
	w.T.Helper()
	_, err := conn.PgConn().Exec(w.T.Context(), sql).ReadAll()
	require.NoError(w.T, err)
}

// AsOwner runs sql in the tenant's database as its owner role.
func (w *World) AsOwner(on shardmap.ShardID, db, sql string) {
	w.T.Helper()
	w.Script(w.Conn(on, db), "SET search_path = public; SET ROLE "+shard.OwnerRole(db)+";"+sql)
}

// Left counts what a shard has of a database: itself and its roles.
func (w *World) Left(on shardmap.ShardID, db string) (n int) {
	w.T.Helper()
	require.NoError(w.T, w.Conn(on, "postgres").QueryRow(w.T.Context(), `SELECT (SELECT count(*) FROM pg_database WHERE datname = $1)
		+ (SELECT count(*) FROM pg_roles WHERE rolname LIKE $1 || '%')`, db).Scan(&n))
	return n
}
