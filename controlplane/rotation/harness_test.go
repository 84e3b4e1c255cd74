package rotation

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/controlplane/publish"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/tenantdb"
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
	nodes   *nodes
	opt     Options
	replica
	stop func()
}

// replica is what one process has of the control plane.
type replica struct {
	engine  *operation.Engine
	fleet   *shard.Fleet
	tenants *provision.Service
	*Service
}

// nodes answer as a test wants them to.
type nodes struct {
	mu     sync.Mutex
	asked  int
	answer func(asked int) (publish.Renewed, error)
}

func (n *nodes) Renew(context.Context, shardmap.TenantID, int64, time.Duration) (publish.Renewed, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	if n.answer == nil {
		return publish.Renewed{Nodes: 1, Acks: []shardmap.RenewalAck{{Node: "n1", Done: true}}}, nil
	}
	return n.answer(n.asked)
}

func newReplica(store *catalog.Store, secrets secret.Store, channel *pg.Channel, n Nodes, opt Options) (r replica) {
	log := slog.New(slog.DiscardHandler)
	if flag.Parsed() && testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	opt.Logger = log
	r.engine = operation.New(store, operation.Options{Logger: log, LeaseFor: 2 * time.Second})
	r.fleet = shard.New(store, secrets, channel)
	r.tenants = provision.New(store, r.engine, r.fleet, secrets, provision.Options{MigrationsDir: sample, Logger: log, DeleteGrace: time.Hour,
		Limits: shard.Limits{Connections: 40, StatementTimeout: 30 * time.Second, IdleInTx: 60 * time.Second}})
	r.Service = New(store, r.engine, r.fleet, secrets, n, opt)
	return r
}

func newWorld(t *testing.T, opt Options, shards ...shardmap.ShardID) *world {
	t.Helper()
	store, dsn := catalogtest.OpenDSN(t)
	w := &world{t: t, store: store, dsn: dsn, keys: t.TempDir(), nodes: &nodes{}, opt: opt}
	var err error
	w.secrets, err = secret.OpenDir(w.keys)
	require.NoError(t, err)
	w.work()
	for _, id := range shards {
		server := shardtest.Server(t, id)
		_, err := w.tenants.AddShard(t.Context(), provision.ShardSpec{Shard: shardtest.Row(id, server), Admin: server.Admin, Console: server.Console}, tester)
		require.NoError(t, err)
	}
	return w
}

// work has a new replica work, as after a restart.
func (w *world) work() {
	w.t.Helper()
	w.replica = newReplica(w.store, w.secrets, pgtest.Channel(w.t), w.nodes, w.opt)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	engine := w.engine
	go func() {
		defer close(done)
		_ = engine.Run(ctx)
	}()
	w.stop = sync.OnceFunc(func() { cancel(); <-done })
	w.t.Cleanup(w.stop)
}

// tenant makes a tenant as users do.
func (w *world) tenant(id shardmap.TenantID) shardmap.Placement {
	w.t.Helper()
	op, err := w.tenants.Create(w.t.Context(), provision.CreateSpec{ID: id}, tester, "")
	require.NoError(w.t, err)
	require.Equal(w.t, operation.Done, w.ended(op).State)
	p, err := w.store.GetPlacement(w.t.Context(), id)
	require.NoError(w.t, err)
	return p
}

func (w *world) ended(op *operation.Operation) *operation.Operation {
	w.t.Helper()
	pgtest.Eventually(w.t, "operation "+op.Kind+" ends", func() bool {
		var err error
		op, err = w.engine.Get(w.t.Context(), op.ID)
		require.NoError(w.t, err)
		return op.State.Final()
	})
	return op
}

// done waits for an operation to succeed and reads its receipt.
func (w *world) done(op *operation.Operation, receipt any) {
	w.t.Helper()
	op = w.ended(op)
	require.Equal(w.t, operation.Done, op.State, op.Error)
	require.NoError(w.t, json.Unmarshal(op.Receipt, receipt))
}

func (w *world) document(p shardmap.Placement) secret.Login {
	w.t.Helper()
	l, _, err := w.secrets.Get(w.t.Context(), secret.DatabaseAuth(p.Database))
	require.NoError(w.t, err)
	return l
}

// enter logs in through the shard's PgBouncer as a node does, and asks something.
func (w *world) enter(p shardmap.Placement, login secret.Login) error {
	w.t.Helper()
	on, err := w.store.GetShard(w.t.Context(), p.Shard)
	require.NoError(w.t, err)
	conn, err := pgtest.Channel(w.t).Connect(w.t.Context(), on.BouncerHost, on.BouncerPort, p.Database, login)
	if err != nil {
		return err
	}
	defer closeConn(w.t.Context(), conn)
	_, err = conn.Exec(w.t.Context(), "SELECT 1")
	return err
}

// requireServed checks that every login of the secret is let in, and none of the documents of before.
func (w *world) requireServed(p shardmap.Placement, before ...secret.Login) {
	w.t.Helper()
	for l := range tenantdb.Login(tenantdb.Logins) {
		login, err := l.From(w.document(p), p.Database)
		require.NoError(w.t, err)
		require.NoError(w.t, w.enter(p, login), login.User)
		for _, old := range before {
			login, err := l.From(old, p.Database)
			require.NoError(w.t, err)
			require.Error(w.t, w.enter(p, login), "generation %d of %s", login.Generation, login.User)
		}
	}
}

// audited lists the actions that the audit log has of a tenant or shard, and
// checks that no secret is in any record.
func (w *world) audited(object string, secrets ...string) (actions []string) {
	w.t.Helper()
	rows, err := w.store.Pool().Query(w.t.Context(), `select record::text, record->>'Action', record->>'Object' from audit_outbox order by id`)
	require.NoError(w.t, err)
	defer rows.Close()
	for rows.Next() {
		var record, action, about string
		require.NoError(w.t, rows.Scan(&record, &action, &about))
		for _, s := range secrets {
			require.NotContains(w.t, record, s)
		}
		if about == object {
			actions = append(actions, action)
		}
	}
	require.NoError(w.t, rows.Err())
	return actions
}

// workerEnv, with a catalog's DSN, a directory of secrets and how shards are
// reached, makes the test binary a worker that can be killed.
const workerEnv = "FREEHOLD_ROTATION_TEST_WORKER"

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
	return newReplica(store, secrets, channel, &nodes{}, Options{}).engine.Run(context.Background())
}

// killedAt starts a worker armed to kill itself at a failpoint, and waits until it has.
func (w *world) killedAt(point string) {
	w.t.Helper()
	pgtest.KilledAt(w.t, point, workerEnv+"="+shardtest.WorkerEnv(w.dsn, w.keys, shardtest.Server(w.t, "a")))
}
