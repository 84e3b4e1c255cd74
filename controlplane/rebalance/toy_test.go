package rebalance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

// workerEnv, with a catalog's DSN, makes the test binary a replica that can be killed.
const workerEnv = "FREEHOLD_REBALANCE_TEST_WORKER"

func TestMain(m *testing.M) {
	if dsn := os.Getenv(workerEnv); dsn != "" {
		fmt.Fprintln(os.Stderr, work(dsn))
		os.Exit(1)
	}
	pgtest.Main(m)
}

func work(dsn string) error {
	store, err := catalog.Open(context.Background(), dsn)
	if err != nil {
		return err
	}
	toys, _ := replicaFor(store, Options{}, 600*time.Millisecond) // the next one need not wait for long
	return toys.engine.Run(context.Background())
}

var (
	quiet = slog.New(slog.NewTextHandler(io.Discard, nil))
	ann   = catalog.Actor{Name: "ann", Role: "operator", Reason: "a test"}
)

// toys are moves that change the catalog and no server: a real engine, real
// operations, and tenants that arrive.
type toys struct {
	store  *catalog.Store
	engine *operation.Engine

	mu     sync.Mutex
	refuse map[shardmap.TenantID]string // preflight refuses these
	fails  map[shardmap.TenantID]int    // so many moves fail after the preflight
	gate   chan struct{}                // moves wait until it is closed; nil: they don't
	soaks  map[shardmap.TenantID]bool   // these can be taken back
}

type toyDoc struct {
	move.Request
	From shardmap.Placement
}

// MoveTx is move.Service's.
func (y *toys) MoveTx(ctx context.Context, tx pgx.Tx, req move.Request, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	y.mu.Lock()
	soaks := y.soaks[req.Tenant]
	y.mu.Unlock()
	if soaks {
		return nil, fmt.Errorf("tenant %s: %w", req.Tenant, move.ErrSoaking)
	}
	t, err := y.store.GetTenant(ctx, req.Tenant)
	if err != nil {
		return nil, err
	}
	to, err := y.store.GetShard(ctx, req.To)
	if err != nil {
		return nil, err
	}
	if t.Placement.State == shardmap.Deleted || t.Placement.Shard == req.To || to.State != catalog.ShardActive {
		return nil, fmt.Errorf("tenant %s to %s: %w", req.Tenant, req.To, catalog.ErrConflict)
	}
	return y.engine.StartTx(ctx, tx, operation.Spec{Kind: move.Kind, Tenant: req.Tenant, Data: toyDoc{Request: req}, Actor: actor, RequestKey: requestKey})
}

func (y *toys) kind() operation.Kind[toyDoc] {
	return operation.Kind[toyDoc]{Name: move.Kind, Long: true, Steps: []operation.Step[toyDoc]{
		{Name: "preflight", Do: func(ctx context.Context, r *operation.Run[toyDoc]) error {
			y.mu.Lock()
			why := y.refuse[r.Data.Tenant]
			y.mu.Unlock()
			if why != "" {
				return operation.Permanent(errors.New(why))
			}
			t, err := y.store.GetTenant(ctx, r.Data.Tenant)
			r.Data.From = t.Placement
			return err
		}},
		{Name: "copy", Title: "copying data", Do: func(ctx context.Context, r *operation.Run[toyDoc]) error {
			y.mu.Lock()
			breaks, gate := y.fails[r.Data.Tenant] > 0, y.gate
			y.fails[r.Data.Tenant]--
			y.mu.Unlock()
			if breaks {
				return operation.Permanent(errors.New("the cable was cut"))
			}
			if gate == nil {
				return nil
			}
			select {
			case <-gate:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}, Undo: func(context.Context, *operation.Run[toyDoc]) error { return nil }},
		{Name: "cutover", NoReturn: true, Do: func(ctx context.Context, r *operation.Run[toyDoc]) error {
			return r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
				err := y.store.InsertDatabase(ctx, tx, catalog.Database{Shard: r.Data.To, Name: r.Data.From.Database, State: catalog.DatabaseTarget, Tenant: r.Data.Tenant})
				if err != nil {
					return err
				}
				_, err = y.store.FlipPlacement(ctx, tx, r.Data.Tenant, r.Data.From, r.Data.To)
				return err
			})
		}},
		{Name: "clean", Do: func(ctx context.Context, r *operation.Run[toyDoc]) error {
			return y.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
				return y.store.DeleteDatabase(ctx, tx, r.Data.From.Shard, r.Data.From.Database)
			})
		}},
	}}
}

func newReplica(store *catalog.Store, opt Options) (*toys, *Service) {
	return replicaFor(store, opt, 2*time.Second)
}

// replicaFor is newReplica with leases that last so long.
func replicaFor(store *catalog.Store, opt Options, lease time.Duration) (*toys, *Service) {
	if opt.Tick == 0 {
		opt.Tick = 20 * time.Millisecond
	}
	opt.Logger = quiet
	y := &toys{store: store, refuse: map[shardmap.TenantID]string{}, fails: map[shardmap.TenantID]int{}, soaks: map[shardmap.TenantID]bool{}}
	y.engine = operation.New(store, operation.Options{Logger: quiet, LeaseFor: lease})
	operation.Register(y.engine, y.kind())
	operation.Register(y.engine, operation.Kind[struct{}]{Name: "busy", Steps: []operation.Step[struct{}]{{Name: "on",
		Do: func(context.Context, *operation.Run[struct{}]) error { return operation.Wait(time.Hour, "nothing") }}}})
	return y, New(store, y.engine, y, opt)
}

// clock is what the service takes for the time.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.at }

func (c *clock) pass(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.at = c.at.Add(d) }

// world is a fleet in a catalog of its own, with one replica that works on it.
type world struct {
	t testing.TB
	*toys
	*Service
	store   *catalog.Store
	dsn     string
	tenants int
}

func newWorld(t testing.TB, opt Options, shards ...shardmap.ShardID) *world {
	t.Helper()
	w := &world{t: t}
	w.store, w.dsn = catalogtest.OpenDSN(t)
	for _, id := range shards {
		catalogtest.AddShard(t, w.store, id)
	}
	w.toys, w.Service = newReplica(w.store, opt)
	return w
}

// works has the replica work until stop, or until the test ends.
func (w *world) works() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.toys.engine.Run(ctx)
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	w.t.Cleanup(stop)
	return stop
}

func (w *world) add(on shardmap.ShardID, n int) (ids []shardmap.TenantID) {
	for range n {
		w.tenants++
		id := shardmap.TenantID(fmt.Sprintf("t%03d", w.tenants))
		catalogtest.AddTenant(w.t, w.store, id, on, w.tenants)
		ids = append(ids, id)
	}
	return ids
}

// on counts the tenants of each shard.
func (w *world) on() map[shardmap.ShardID]int {
	w.t.Helper()
	at, err := w.Snapshot(w.t.Context())
	require.NoError(w.t, err)
	n := map[shardmap.ShardID]int{}
	for _, t := range at.Fleet.Tenants {
		n[t.Shard]++
	}
	return n
}

func (w *world) apply() *operation.Operation {
	w.t.Helper()
	plan, err := w.Plan(w.t.Context(), Ask{}, ann)
	require.NoError(w.t, err)
	op, err := w.ApplyPlan(w.t.Context(), plan.ID, ann, "")
	require.NoError(w.t, err)
	return op
}

func (w *world) until(what func() bool, say string) {
	w.t.Helper()
	require.Eventually(w.t, what, time.Minute, 10*time.Millisecond, say)
}

func (w *world) status(id string) *RunStatus {
	w.t.Helper()
	r, err := w.RunStatus(w.t.Context(), id)
	require.NoError(w.t, err)
	return r
}

// ended waits for a run's end.
func (w *world) ended(id string) (*operation.Operation, Receipt) {
	w.t.Helper()
	var r *RunStatus
	deadline := time.Now().Add(time.Minute)
	for r = w.status(id); !r.Operation.State.Final(); r = w.status(id) {
		if time.Now().After(deadline) {
			w.t.Fatalf("the run does not end: %+v, %+v, %+v", r.Operation.Progress, r.RunDoc, r.Counts)
		}
		time.Sleep(10 * time.Millisecond) // bounded above
	}
	var rec Receipt
	if len(r.Operation.Receipt) > 0 {
		require.NoError(w.t, json.Unmarshal(r.Operation.Receipt, &rec))
	}
	return r.Operation, rec
}

// moves counts the move operations there ever were.
func (w *world) moves() int {
	w.t.Helper()
	var n int
	require.NoError(w.t, w.store.Pool().QueryRow(w.t.Context(), `select count(*) from operations where kind = $1`, move.Kind).Scan(&n))
	return n
}
