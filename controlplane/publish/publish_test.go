package publish_test

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
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/publish"
	"github.com/freehold-db/freehold/internal/leaktest"
	"github.com/freehold-db/freehold/internal/natsserver"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/process"
	"github.com/freehold-db/freehold/shardmap"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// bus is a NATS server that can be stopped and come back, with or without its store.
type bus struct {
	t      *testing.T
	server *natsserver.Server
	dir    string
	nc     *nats.Conn
}

func newBus(t *testing.T) *bus {
	b := &bus{t: t, dir: t.TempDir()}
	port, err := process.FreePort() // not one that the system gives to the next who asks for any: it comes back to it
	require.NoError(t, err)
	b.start(port)
	nc, err := nats.Connect(b.server.URL(), nats.Timeout(20*time.Second), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.RetryOnFailedConnect(true))
	require.NoError(t, err)
	b.nc = nc
	t.Cleanup(func() { nc.Close(); b.stop() })
	return b
}

func (b *bus) start(port int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, err := natsserver.Start(ctx, natsserver.Config{Dir: b.dir, Port: port})
	require.NoError(b.t, err)
	b.server = server
}

func (b *bus) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(b.t, b.server.Stop(ctx))
}

func (b *bus) jetstream() jetstream.JetStream {
	js, err := jetstream.New(b.nc, jetstream.WithDefaultTimeout(time.Minute))
	require.NoError(b.t, err)
	return js
}

// value is what a bucket holds under a key; nil if nothing. A busy machine may
// leave a question without an answer: it is asked again.
func (b *bus) value(bucket, key string) []byte {
	var value []byte
	ask := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		kv, err := b.jetstream().KeyValue(ctx, bucket)
		if err != nil {
			return err
		}
		entry, err := kv.Get(ctx, key)
		if err == nil {
			value = entry.Value()
		}
		return err
	}
	for range 10 {
		if !errors.Is(ask(), context.DeadlineExceeded) {
			break
		}
	}
	return value
}

// placement is what the bucket holds; the zero value if it holds nothing.
func (b *bus) placement(tenant string) (p shardmap.Placement) {
	if value := b.value(shardmap.BucketPlacements, tenant); value != nil {
		require.NoError(b.t, json.Unmarshal(value, &p))
	}
	return p
}

func (b *bus) shows(p shardmap.Placement) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return b.placement(string(p.Tenant)) == p }, time.Minute, 10*time.Millisecond)
}

func run(t *testing.T, p *publish.Publisher) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func suspend(t *testing.T, store *catalog.Store, id shardmap.TenantID) (p shardmap.Placement) {
	catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) (err error) {
		from, to := shardmap.Active, shardmap.Suspended
		now, err := store.LockTenant(ctx, tx, id)
		if err != nil {
			return err
		}
		if now.Placement.State == shardmap.Suspended {
			from, to = to, from
		}
		p, err = store.SetTenantState(ctx, tx, id, []shardmap.State{from}, to, nil)
		return err
	})
	return p
}

func TestRelay(t *testing.T) {
	t.Parallel()
	store, b := catalogtest.Open(t), newBus(t)
	catalogtest.AddShard(t, store, "s1")
	before := catalogtest.AddTenant(t, store, "early", "s1", 1)
	run(t, publish.New(store, b.nc, publish.Options{Logger: quiet}))
	run(t, publish.New(store, b.nc, publish.Options{Logger: quiet})) // a second replica does no harm
	b.shows(before)
	b.shows(catalogtest.AddTenant(t, store, "acme", "s1", 2))
	asked := time.Now()
	b.shows(suspend(t, store, "acme"))
	require.Less(t, time.Since(asked), 30*time.Second, "well before all is compared")
	require.Eventually(t, func() bool {
		var left int
		require.NoError(t, store.Pool().QueryRow(t.Context(), `select count(*) from outbox`).Scan(&left))
		return left == 0
	}, 30*time.Second, 10*time.Millisecond)

	require.JSONEq(t, `{"id": "s1", "host": "127.0.0.1", "port": 2, "version": 1}`, string(b.value(shardmap.BucketShards, "s1")))
}

// Whoever publishes how much at once, a watcher sees epochs grow only.
func TestEpochsOnlyGrow(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	store, b := catalogtest.Open(t), newBus(t)
	catalogtest.AddShard(t, store, "s1")
	catalogtest.AddTenant(t, store, "acme", "s1", 1)
	var publishers []*publish.Publisher
	for range 3 {
		p := publish.New(store, b.nc, publish.Options{Logger: quiet, ReconcileEvery: 20 * time.Millisecond})
		run(t, p)
		publishers = append(publishers, p)
	}
	require.NoError(t, publishers[0].Flush(ctx, "acme"))
	kv, err := b.jetstream().KeyValue(ctx, shardmap.BucketPlacements)
	require.NoError(t, err)
	watch, err := kv.Watch(ctx, "acme")
	require.NoError(t, err)
	var last shardmap.Placement
	var wg sync.WaitGroup
	for range 20 {
		last = suspend(t, store, "acme")
		for _, p := range publishers {
			wg.Go(func() {
				if err := p.Flush(ctx, "acme"); err != nil {
					t.Errorf("flush: %v", err)
				}
			})
		}
	}
	wg.Wait()
	for seen := shardmap.Epoch(0); seen < last.Epoch; {
		select {
		case <-ctx.Done():
			t.Fatalf("saw epoch %d, want %d", seen, last.Epoch)
		case e := <-watch.Updates():
			if e == nil {
				continue
			}
			var p shardmap.Placement
			require.NoError(t, json.Unmarshal(e.Value(), &p))
			require.Greater(t, p.Epoch, seen)
			seen = p.Epoch
		}
	}
	require.ErrorIs(t, publishers[0].Flush(ctx, "nobody"), catalog.ErrNotFound)
}

func TestEmptiedStoreIsRefilled(t *testing.T) {
	t.Parallel()
	store, b := catalogtest.Open(t), newBus(t)
	catalogtest.AddShard(t, store, "s1")
	var all []shardmap.Placement
	for i := range 30 {
		all = append(all, catalogtest.AddTenant(t, store, shardmap.TenantID(fmt.Sprintf("t%d", i)), "s1", i))
	}
	p := publish.New(store, b.nc, publish.Options{Logger: quiet})
	run(t, p)
	for _, placement := range all {
		b.shows(placement)
	}

	// NATS comes back with nothing.
	port := b.server.Port()
	b.stop()
	away, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.Eventually(t, func() bool { return !b.nc.IsConnected() }, 30*time.Second, time.Millisecond)
	started := time.Now()
	require.ErrorIs(t, p.Flush(away, "t1"), publish.ErrUnavailable)
	_, _, err := p.Hold(away, shardmap.Hold{Tenant: "t1", ID: "x"}, 5*time.Second)
	require.ErrorIs(t, err, publish.ErrUnavailable)
	_, err = p.Release(away, shardmap.Release{Tenant: "t1", ID: "x"})
	require.ErrorIs(t, err, publish.ErrUnavailable)
	require.Less(t, time.Since(started), 30*time.Second, "it does not hang")
	all[1] = suspend(t, store, "t1")
	require.NoError(t, os.RemoveAll(b.dir))
	b.start(port)
	for _, placement := range all {
		b.shows(placement)
	}

	// Somebody deletes a bucket while we are connected.
	require.NoError(t, b.jetstream().DeleteKeyValue(t.Context(), shardmap.BucketPlacements))
	for _, placement := range all {
		b.shows(placement)
	}
}

func TestGarbledValueIsMended(t *testing.T) {
	t.Parallel()
	store, b := catalogtest.Open(t), newBus(t)
	catalogtest.AddShard(t, store, "s1")
	p := catalogtest.AddTenant(t, store, "acme", "s1", 1)
	run(t, publish.New(store, b.nc, publish.Options{Logger: quiet, ReconcileEvery: 50 * time.Millisecond}))
	b.shows(p)
	kv, err := b.jetstream().KeyValue(t.Context(), shardmap.BucketPlacements)
	require.NoError(t, err)
	wrong := p
	wrong.Shard = "s9"
	value, err := json.Marshal(wrong)
	require.NoError(t, err)
	_, err = kv.Put(t.Context(), "acme", value)
	require.NoError(t, err)
	b.shows(p)
	_, err = kv.Put(t.Context(), "acme", []byte("{}"))
	require.NoError(t, err)
	b.shows(p)
	require.NoError(t, kv.Delete(t.Context(), "acme"))
	b.shows(p)
}

// A node that is not done says so before nobody listens any more.
func TestRenew(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b := newBus(t)
	p := publish.New(nil, b.nc, publish.Options{Logger: quiet})
	nodes, err := b.jetstream().CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: shardmap.BucketNodes})
	require.NoError(t, err)
	_, err = nodes.Put(ctx, "n1", []byte("{}"))
	require.NoError(t, err)
	const wait = 50 * time.Second
	given := make(chan time.Duration, 100)
	_, err = b.nc.Subscribe(shardmap.SubjectRenew+"acme", func(m *nats.Msg) {
		var r shardmap.Renewal
		_ = json.Unmarshal(m.Data, &r)
		given <- r.For
		for _, node := range []string{"stranger", "n1", "n1"} {
			ack, _ := json.Marshal(shardmap.RenewalAck{Node: "n1", ID: r.ID, Trouble: string(r.Tenant)})
			_ = b.nc.Publish(shardmap.AnswerOf(m.Reply, node), ack)
		}
	})
	require.NoError(t, err)
	var told publish.Renewed
	pgtest.Eventually(t, "it is known who is alive", func() bool {
		told, err = p.Renew(ctx, "acme", 2, wait)
		return !errors.Is(err, publish.ErrUnavailable)
	})
	require.NoError(t, err)
	require.Equal(t, 1, told.Nodes)
	require.Len(t, told.Acks, 1)
	require.Equal(t, "acme", told.Acks[0].Trouble)
	require.Zero(t, told.Done())
	require.LessOrEqual(t, <-given, wait-5*time.Second)
}

func TestHold(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b := newBus(t)
	p := publish.New(nil, b.nc, publish.Options{Logger: quiet})
	_, _, err := p.Hold(ctx, shardmap.Hold{Tenant: "acme", ID: "h"}, time.Minute)
	require.ErrorIs(t, err, publish.ErrUnavailable, "who is alive is not known")

	nodes, err := b.jetstream().CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: shardmap.BucketNodes, TTL: shardmap.NodeTTL})
	require.NoError(t, err)
	hold := func(id string, wait time.Duration) (acks []shardmap.HoldAck, expected int) {
		t.Helper()
		pgtest.Eventually(t, "it is known who is alive", func() bool { // within a second, which a busy machine may miss
			acks, expected, err = p.Hold(ctx, shardmap.Hold{Tenant: "acme", ID: id}, wait)
			return !errors.Is(err, publish.ErrUnavailable)
		})
		require.NoError(t, err)
		return acks, expected
	}
	acks, expected := hold("h", time.Minute)
	require.Empty(t, acks)
	require.Zero(t, expected)
	beat := func() {
		for _, node := range []string{"n1", "n2"} {
			_, err := nodes.Put(ctx, node, []byte("{}"))
			require.NoError(t, err)
		}
	}
	beat()
	acks, expected = hold("h", time.Minute) // heartbeats, but nobody listens
	require.Empty(t, acks)
	require.Equal(t, 2, expected)

	answer := func(node string, late bool) {
		sub, err := b.nc.Subscribe(shardmap.SubjectHold+"*", func(m *nats.Msg) {
			var h shardmap.Hold
			if json.Unmarshal(m.Data, &h) != nil || late && h.ID == "first" {
				return
			}
			for _, id := range []string{"stale", h.ID, h.ID} { // and one answer too many
				ack, _ := json.Marshal(shardmap.HoldAck{Node: node, ID: id, Drained: node == "n1"})
				_ = b.nc.Publish(shardmap.AnswerOf(m.Reply, "stranger"), ack) // another's answer, which counts for nothing
				if late {
					_ = m.Respond(ack) // as a node of before does
					continue
				}
				_ = b.nc.Publish(shardmap.AnswerOf(m.Reply, node), ack)
			}
		})
		require.NoError(t, err)
		t.Cleanup(func() { _ = sub.Unsubscribe() })
	}
	answer("n1", false)
	answer("n2", true)
	answer("stranger", false)
	beat()
	started := time.Now()
	acks, expected = hold("first", 3*time.Second) // all of which it waits for n2
	require.Equal(t, []shardmap.HoldAck{{Node: "n1", ID: "first", Drained: true}}, acks)
	require.Equal(t, 2, expected)
	require.Less(t, time.Since(started), 30*time.Second)
	beat()
	acks, expected, err = p.Hold(ctx, shardmap.Hold{Tenant: "acme", ID: "hasty"}, time.Nanosecond)
	require.NoError(t, err, "who was alive a moment ago is known, though NATS has no time to say")
	require.Empty(t, acks)
	require.Equal(t, 2, expected)
	acks, _ = hold("second", time.Minute)
	require.Len(t, acks, 2)

	released, err := b.nc.SubscribeSync(shardmap.SubjectRelease + "acme")
	require.NoError(t, err)
	want := shardmap.Release{Tenant: "acme", ID: "second", Placement: &shardmap.Placement{Tenant: "acme", Epoch: 2}}
	reports, err := p.Release(ctx, want)
	require.NoError(t, err)
	m, err := released.NextMsgWithContext(ctx)
	require.NoError(t, err)
	var got shardmap.Release
	require.NoError(t, json.Unmarshal(m.Data, &got))
	require.Equal(t, want, got)
	for _, r := range []shardmap.HoldReport{{Node: "n1", ID: "first"}, {Node: "n1", ID: "second", Held: 3, Longest: time.Second}, {Node: "n1", ID: "second"}, {Node: "n2", ID: "second"}} {
		data, err := json.Marshal(r)
		require.NoError(t, err)
		require.NoError(t, b.nc.Publish(shardmap.AnswerOf(m.Reply, "stranger"), data))
		require.NoError(t, b.nc.Publish(shardmap.AnswerOf(m.Reply, r.Node), data)) // the first is of another hold, the third one too many
	}
	require.Equal(t, []shardmap.HoldReport{{Node: "n1", ID: "second", Held: 3, Longest: time.Second}, {Node: "n2", ID: "second"}}, reports(ctx, 2))
}

// Not parallel: it looks at the goroutines of the whole process.
func TestRunLeavesNothingBehind(t *testing.T) {
	_, dsn := catalogtest.OpenDSN(t)
	before := goleak.IgnoreCurrent()
	t.Run("run", func(t *testing.T) {
		b := newBus(t)
		ctx, stop := context.WithCancel(t.Context())
		store, err := catalog.Open(ctx, dsn)
		require.NoError(t, err)
		defer store.Close()
		catalogtest.AddShard(t, store, "s1")
		p := catalogtest.AddTenant(t, store, "acme", "s1", 1)
		done := make(chan error, 1)
		go func() { done <- publish.New(store, b.nc, publish.Options{Logger: quiet}).Run(ctx) }()
		b.shows(p)
		stop()
		require.NoError(t, <-done)
	})
	leaktest.None(t, before)
}
