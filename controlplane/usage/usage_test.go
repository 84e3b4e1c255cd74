package usage_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/controlplane/usage"
	"github.com/freehold-db/freehold/internal/leaktest"
	"github.com/freehold-db/freehold/internal/natsserver"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/traffic"
	"github.com/freehold-db/freehold/shardmap"
)

func TestMain(m *testing.M) {
	os.Exit(leaktest.Run(func() int { return pgtest.Run(m.Run) }))
}

const every = 50 * time.Millisecond

// shards are the test's own: s1 is a real one, whatever else is asked for hangs.
type shards struct {
	*shardtest.Fleet
	statements atomic.Int64 // that were sent to s1
	away       atomic.Bool
}

func newFleet(t *testing.T) *shardtest.Fleet { return shardtest.New(t, "", "s1") }

// eventually waits until s1's reading is as wanted.
func eventually(t *testing.T, store *catalog.Store, what string, is func(r catalog.ShardReading) bool) {
	t.Helper()
	pgtest.Eventually(t, what, func() bool {
		r, err := store.GetShardReading(t.Context(), "s1")
		require.NoError(t, err)
		return is(r)
	})
}

// TraceQueryStart implements pgx.QueryTracer.
func (s *shards) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	s.statements.Add(1)
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (s *shards) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// Session implements usage.Shards.
func (s *shards) Session(ctx context.Context, on shardmap.ShardID, database, application string) (*pgx.Conn, error) {
	if on != "s1" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if s.away.Load() {
		return nil, errors.New("no route to host")
	}
	conn, err := s.Fleet.Session(ctx, on, database, application)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx) //nolint:errcheck // another is made like it
	cfg := conn.Config()
	cfg.Tracer = s
	return pgx.ConnectConfig(ctx, cfg)
}

// measure runs a replica until the returned function is called, or the test ends.
func measure(t *testing.T, store *catalog.Store, fleet usage.Shards, nc *nats.Conn, name string) (stop func()) {
	t.Helper()
	s := usage.New(store, fleet, nc, usage.Options{Keeper: name, Every: every, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	var done atomic.Bool
	stop = func() {
		if cancel(); !done.Swap(true) {
			require.NoError(t, <-ended)
		}
	}
	t.Cleanup(stop)
	return stop
}

func connect(t *testing.T) *nats.Conn {
	t.Helper()
	s, err := natsserver.Start(t.Context(), natsserver.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	nc, err := nats.Connect(s.URL(), nats.Timeout(20*time.Second))
	require.NoError(t, err)
	t.Cleanup(func() {
		nc.Close()
		require.NoError(t, s.Stop(context.Background()))
	})
	return nc
}

// What a tenant does shows in what is known of it and of its shard, whoever
// measures; a shard that hangs keeps nobody from measuring others.
func TestATenantIsMeasured(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	fleet, store, nc := &shards{Fleet: newFleet(t)}, catalogtest.Open(t), connect(t)
	catalogtest.AddShard(t, store, "hangs")
	catalogtest.AddShard(t, store, "s1")
	const n = 0x5a9e
	p := catalogtest.AddTenant(t, store, "acme", "s1", n)
	fleet.Database(t, "s1", p.Database)

	inside, err := fleet.Admin(ctx, "s1", p.Database)
	require.NoError(t, err)
	defer inside.Close(context.Background()) //nolint:errcheck // nothing is lost with it
	_, err = inside.Exec(ctx, `CREATE TABLE public.things (v text)`)
	require.NoError(t, err)
	stop := measure(t, store, fleet, nc, "r1")
	tell := func() {
		data, err := traffic.Report{Node: "n1", Tenants: map[shardmap.TenantID]*traffic.Sum{"acme": {Requests: 10, Failed: 1, Seconds: 2, Took: traffic.Histogram{8: 10}}}}.Encode()
		require.NoError(t, err)
		require.NoError(t, nc.Publish(traffic.Subject+"n1", data))
	}
	seen := func(what string, enough func(r catalog.TenantReading) bool) {
		t.Helper()
		var r catalog.TenantReading
		pgtest.Eventually(t, what, func() bool {
			_, err := inside.Exec(ctx, `INSERT INTO public.things SELECT repeat('x', 1000) FROM pg_catalog.generate_series(1, 100)`)
			require.NoError(t, err)
			tell()
			require.NoError(t, nc.Publish(traffic.Subject+"n1", []byte("nonsense")))
			if r, err = store.GetTenantReading(ctx, "acme"); err != nil {
				require.ErrorIs(t, err, catalog.ErrNotFound)
				return false
			}
			return enough(r)
		})
	}
	seen("the tenant's work is known", func(r catalog.TenantReading) bool {
		return r.Bytes > 1<<20 && r.Now.RowsWritten > 0 && r.Now.WAL > 0 && r.Now.Load > 0 && r.Now.Transactions > 0 && r.Now.BlocksHit > 0 &&
			r.Now.Requests > 0 && r.Now.Failed > 0 && r.Now.Latency() > 0.1 && r.Now.Latency() < 0.3 && r.Day.Load > 0
	})
	var s catalog.ShardReading
	pgtest.Eventually(t, "the shard's is", func() bool {
		tell()
		s, err = store.GetShardReading(ctx, "s1")
		require.NoError(t, err)
		return s.Tenants.Databases == 1 && s.Requests > 0 && s.P95 > 0
	})
	require.Empty(t, s.Trouble)
	require.Equal(t, "r1", s.Keeper)
	require.Greater(t, s.Tenants.Bytes, 1e6)
	require.Greater(t, s.Other.Bytes, 1e6, "templates")
	require.GreaterOrEqual(t, s.WAL, s.Tenants.WAL)
	require.Positive(t, s.Processors)
	require.Positive(t, s.MaxSessions)
	require.GreaterOrEqual(t, s.Sessions, 2)
	s, err = store.GetShardReading(ctx, "hangs")
	require.NoError(t, err)
	require.Nil(t, s.MeasuredAt)

	stop()
	measure(t, store, fleet, nc, "r2")
	before, err := store.GetTenantReading(ctx, "acme")
	require.NoError(t, err)
	seen("another replica goes on", func(r catalog.TenantReading) bool { return r.Seconds > before.Seconds })
	s, err = store.GetShardReading(ctx, "s1")
	require.NoError(t, err)
	require.Equal(t, "r2", s.Keeper)
}

// Of two replicas one measures a shard.
func TestOneReplicaMeasuresAShard(t *testing.T) {
	t.Parallel()
	fleet, store := &shards{Fleet: newFleet(t)}, catalogtest.Open(t)
	catalogtest.AddShard(t, store, "s1")
	measure(t, store, fleet, nil, "r1")
	pgtest.Eventually(t, "the first one does", func() bool {
		s, err := store.GetShardReading(t.Context(), "s1")
		require.NoError(t, err)
		return s.Keeper == "r1" && s.MeasuredAt != nil
	})
	asked := &shards{Fleet: fleet.Fleet}
	measure(t, store, asked, nil, "r2")
	before := fleet.statements.Load()
	pgtest.Eventually(t, "it goes on", func() bool { return fleet.statements.Load() > before+100 })
	require.Zero(t, asked.statements.Load())
}
