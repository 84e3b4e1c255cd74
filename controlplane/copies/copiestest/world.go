// Package copiestest has a control plane without its API over shards that tests
// share, for the tests of copies and erasures.
package copiestest

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/access"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/copies"
	"github.com/freehold-db/freehold/controlplane/erase"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/provision"
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

// Tester is who asks for everything.
var Tester = catalog.Actor{Name: "tester", Role: "admin", Reason: "a test"}

// World is a catalog of the test's own over shards that tests share.
type World struct {
	T       *testing.T
	Store   *catalog.Store
	Secrets *secret.Dir
	Dir     string // of copies
	Replica
	Stop func() // the replica's worker

	dsn, secrets string
}

// Replica is what one process has of the control plane.
type Replica struct {
	Engine  *operation.Engine
	Fleet   *shard.Fleet
	Tenants *provision.Service
	Access  *access.Service
	Copies  *copies.Service
	Erase   *erase.Service
	Moves   *move.Service
}

// deaf is a bus that is away: no node hears of a move, so that the databases' fences alone keep them out.
type deaf struct{}

func (deaf) Flush(context.Context, shardmap.TenantID) error { return publish.ErrUnavailable }
func (deaf) Hold(context.Context, shardmap.Hold, time.Duration) ([]shardmap.HoldAck, int, error) {
	return nil, 0, publish.ErrUnavailable
}
func (deaf) Release(context.Context, shardmap.Release) (publish.Reports, error) {
	return nil, publish.ErrUnavailable
}

func newReplica(store *catalog.Store, secrets *secret.Dir, channel *pg.Channel, dir string) (r Replica, err error) {
	bin, err := pgserver.BinDir()
	if err != nil {
		return r, err
	}
	log := slog.New(slog.DiscardHandler)
	if flag.Parsed() && testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	r.Engine = operation.New(store, operation.Options{Logger: log, LeaseFor: 2 * time.Second})
	r.Fleet = shard.New(store, secrets, channel)
	r.Tenants = provision.New(store, r.Engine, r.Fleet, secrets, provision.Options{MigrationsDir: sample, Logger: log, DeleteGrace: time.Hour,
		Limits: shard.Limits{Connections: 40, StatementTimeout: 30 * time.Second, IdleInTx: 60 * time.Second}})
	r.Access = access.New(store, r.Engine, r.Fleet, log)
	r.Copies = copies.New(store, r.Engine, r.Fleet, r.Tenants, r.Access, secrets, copies.Options{Dir: dir, PGBinDir: bin, Logger: log})
	r.Erase = erase.New(store, r.Engine, r.Tenants, r.Copies, secrets, secrets, erase.Options{Logger: log,
		Checkpoint: func(context.Context) (json.RawMessage, error) { return json.RawMessage(`{"size":7}`), nil }})
	r.Moves = move.New(store, r.Engine, r.Fleet, deaf{}, move.Options{PGBinDir: bin, Logger: log, SoakEvery: time.Second})
	return r, nil
}

// New makes a world with these shards, and a worker in it.
func New(t *testing.T, shards ...shardmap.ShardID) *World {
	t.Helper()
	store, dsn := catalogtest.OpenDSN(t)
	w := &World{T: t, Store: store, Dir: t.TempDir(), dsn: dsn, secrets: t.TempDir()}
	var err error
	w.Secrets, err = secret.OpenDir(w.secrets)
	require.NoError(t, err)
	w.Work()
	for _, id := range shards {
		server := shardtest.Server(t, id)
		_, err := w.Tenants.AddShard(t.Context(), provision.ShardSpec{Shard: shardtest.Row(id, server), Admin: server.Admin, Console: server.Console}, Tester)
		require.NoError(t, err)
	}
	return w
}

// Work has a new replica work, as after a restart.
func (w *World) Work() {
	w.T.Helper()
	var err error
	w.Replica, err = newReplica(w.Store, w.Secrets, pgtest.Channel(w.T), w.Dir)
	require.NoError(w.T, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		var soaks sync.WaitGroup
		soaks.Go(func() { _ = w.Moves.Run(ctx) })
		_ = w.Engine.Run(ctx)
		soaks.Wait()
	}()
	w.Stop = sync.OnceFunc(func() { cancel(); <-done })
	w.T.Cleanup(w.Stop)
}

// Tenant makes a tenant as users do, and returns its database.
func (w *World) Tenant(id shardmap.TenantID, on shardmap.ShardID) string {
	w.T.Helper()
	op, err := w.Tenants.Create(w.T.Context(), provision.CreateSpec{ID: id, DisplayName: "Tenant " + string(id), Fit: catalog.Fit{Shard: on}}, Tester, "")
	require.NoError(w.T, err)
	w.Done(op, nil)
	return w.Placement(id).Database
}

// Placement reads it.
func (w *World) Placement(id shardmap.TenantID) shardmap.Placement {
	w.T.Helper()
	p, err := w.Store.GetPlacement(w.T.Context(), id)
	require.NoError(w.T, err)
	return p
}

// Ended waits for an operation's end.
func (w *World) Ended(op *operation.Operation) *operation.Operation {
	w.T.Helper()
	pgtest.Eventually(w.T, "operation "+op.Kind+" has ended", func() bool {
		var err error
		op, err = w.Engine.Get(w.T.Context(), op.ID)
		require.NoError(w.T, err)
		return op.State.Final()
	})
	return op
}

// Done waits for an operation to succeed, and reads its receipt.
func (w *World) Done(op *operation.Operation, receipt any) {
	w.T.Helper()
	op = w.Ended(op)
	require.Equal(w.T, operation.Done, op.State, op.Error)
	if receipt != nil {
		require.NoError(w.T, json.Unmarshal(op.Receipt, receipt))
	}
}

// Conn is an admin's.
func (w *World) Conn(on shardmap.ShardID, database string) *pgx.Conn {
	w.T.Helper()
	conn, err := w.Fleet.Admin(w.T.Context(), on, database)
	require.NoError(w.T, err)
	w.T.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// AsOwner runs sql in the tenant's database as its owner role.
func (w *World) AsOwner(on shardmap.ShardID, db, sql string) {
	w.T.Helper()
	w.Script(w.Conn(on, db), "SET search_path = public; SET ROLE "+shard.OwnerRole(db)+";"+sql)
}

// Script runs statements.
func (w *World) Script(conn *pgx.Conn, sql string) {
	w.T.Helper()
	_, err := conn.PgConn().Exec(w.T.Context(), sql).ReadAll()
	require.NoError(w.T, err)
}

// Left counts what a shard has of a database: itself and its roles.
func (w *World) Left(on shardmap.ShardID, db string) (n int) {
	w.T.Helper()
	require.NoError(w.T, w.Conn(on, "postgres").QueryRow(w.T.Context(), `SELECT (SELECT count(*) FROM pg_database WHERE datname = $1)
		+ (SELECT count(*) FROM pg_roles WHERE rolname LIKE $1 || '%')`, db).Scan(&n))
	return n
}

// workerEnv, with what a replica needs, makes the test binary a worker that can be killed.
const workerEnv = "FREEHOLD_COPIES_TEST_WORKER"

// KilledAt starts a worker armed to kill itself at a failpoint, and waits until it has.
func (w *World) KilledAt(point string) {
	w.T.Helper()
	pgtest.KilledAt(w.T, point, workerEnv+"="+strings.Join([]string{w.dsn, w.secrets, w.Dir, shardtest.Server(w.T, "a").SecurityText()}, "\n"))
}

// Main is the TestMain of packages that use this one.
func Main(m *testing.M) {
	if env := os.Getenv(workerEnv); env != "" {
		fmt.Fprintln(os.Stderr, work(strings.Split(env, "\n")))
		os.Exit(1)
	}
	pgtest.Main(m)
}

func work(args []string) error {
	store, err := catalog.Open(context.Background(), args[0])
	if err != nil {
		return err
	}
	secrets, err := secret.OpenDir(args[1])
	if err != nil {
		return err
	}
	channel, err := pgtest.ChannelOf(args[3])
	if err != nil {
		return err
	}
	r, err := newReplica(store, secrets, channel, args[2])
	if err != nil {
		return err
	}
	return r.Engine.Run(context.Background())
}
