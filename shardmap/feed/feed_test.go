package feed_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/leaktest"
	"github.com/freehold-db/freehold/internal/natslink"
	"github.com/freehold-db/freehold/internal/natsserver"
	"github.com/freehold-db/freehold/internal/process"
	"github.com/freehold-db/freehold/shardmap"
	"github.com/freehold-db/freehold/shardmap/feed"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m.Run)) }

const acme shardmap.TenantID = "acme"

var silent = slog.New(slog.NewTextHandler(io.Discard, nil))

func at(tenant shardmap.TenantID, shard shardmap.ShardID, epoch shardmap.Epoch) shardmap.Placement {
	return shardmap.Placement{Tenant: tenant, Shard: shard, Database: "t_0123456789abcdef", Epoch: epoch, State: shardmap.Active}
}

// bus is a NATS server and a client of it that plays the control plane.
type bus struct {
	t    *testing.T
	srv  *natsserver.Server
	nc   *nats.Conn
	js   jetstream.JetStream
	stop func()
}

func startBus(t *testing.T, dir string, port int) *bus {
	if port == 0 { // not one that the system gives to the next who asks for any: some tests come back to it
		var err error
		port, err = process.FreePort()
		require.NoError(t, err)
	}
	srv, err := natsserver.Start(t.Context(), natsserver.Config{Dir: dir, Port: port, Log: silent})
	require.NoError(t, err)
	nc, err := nats.Connect(srv.URL(), nats.Timeout(20*time.Second))
	require.NoError(t, err)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(time.Minute))
	require.NoError(t, err)
	b := &bus{t: t, srv: srv, nc: nc, js: js}
	b.stop = sync.OnceFunc(func() {
		nc.Close()
		_ = srv.Stop(context.Background())
	})
	t.Cleanup(b.stop)
	return b
}

func (b *bus) buckets() {
	for _, c := range []jetstream.KeyValueConfig{
		{Bucket: shardmap.BucketPlacements}, {Bucket: shardmap.BucketShards},
		{Bucket: shardmap.BucketNodes, TTL: shardmap.NodeTTL},
	} {
		_, err := b.js.CreateOrUpdateKeyValue(b.t.Context(), c)
		require.NoError(b.t, err)
	}
}

func (b *bus) put(bucket, key string, value any) {
	b.t.Helper()
	kv, err := b.js.KeyValue(b.t.Context(), bucket)
	require.NoError(b.t, err)
	data, err := json.Marshal(value)
	require.NoError(b.t, err)
	_, err = kv.Put(b.t.Context(), key, data)
	require.NoError(b.t, err)
}

func (b *bus) place(p shardmap.Placement) { b.put(shardmap.BucketPlacements, string(p.Tenant), p) }

// control is the control plane's API.
type control struct {
	mu     sync.Mutex
	places map[string]shardmap.Placement
	shards map[string]shardmap.Shard
	status int
	asked  int
}

func (c *control) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if r.Header.Get("Authorization") != "Bearer node-token" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if c.status != 0 {
		w.WriteHeader(c.status)
		return
	}
	var answer any
	found := false
	if id, ok := strings.CutPrefix(r.URL.Path, "/v1/placements/"); ok {
		answer, found = c.places[id], c.places[id].Epoch > 0
	} else if id, ok := strings.CutPrefix(r.URL.Path, "/v1/shards/"); ok {
		id = strings.TrimSuffix(id, "/address")
		answer, found = c.shards[id], c.shards[id].Version > 0
	}
	if !found {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (c *control) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// holder notes what it is told.
type holder struct {
	mu       sync.Mutex
	held     []shardmap.Hold
	released []string
	drained  chan struct{}
}

func (h *holder) Hold(hold shardmap.Hold) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = append(h.held, hold)
	return h.drained
}

func (h *holder) Release(r shardmap.Release) shardmap.HoldReport {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.released = append(h.released, r.ID)
	return shardmap.HoldReport{ID: r.ID, Held: 7, Longest: time.Second}
}

func (h *holder) count() (held, released int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.held), len(h.released)
}

// node runs a feed and its map until the test ends, or stop is called.
func node(t *testing.T, natsURL string, c *control) (f *feed.Feed, m *shardmap.Map, h *holder, stop func()) {
	api := httptest.NewServer(c)
	f, err := feed.New(feed.Config{Node: "n1", NATS: natslink.Config{URL: natsURL}, Control: []string{api.URL}, ControlToken: "node-token", Log: silent})
	require.NoError(t, err)
	m = shardmap.NewMap(shardmap.MapConfig{NegativeFor: time.Millisecond}, f)
	h = &holder{drained: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { f.Run(ctx, m, h); close(done) }()
	stop = sync.OnceFunc(func() { cancel(); <-done; f.Close(); api.Close() })
	t.Cleanup(stop)
	return f, m, h, stop
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	require.Eventually(t, f, time.Minute, 5*time.Millisecond, what)
}

func knows(m *shardmap.Map, p shardmap.Placement) func() bool {
	return func() bool { got, ok := m.Known(p.Tenant); return ok && got == p }
}

func TestFollowsPlacementsAndShards(t *testing.T) {
	b := startBus(t, t.TempDir(), 0)
	b.buckets()
	b.place(at(acme, "s1", 3))
	shard := shardmap.Shard{ID: "s1", Host: "127.0.0.1", Port: 6432, Version: 2}
	b.put(shardmap.BucketShards, "s1", shard)
	c := &control{status: http.StatusServiceUnavailable}
	f, m, _, _ := node(t, b.srv.URL(), c)
	eventually(t, "initial state", f.Synced)
	require.True(t, knows(m, at(acme, "s1", 3))())
	got, err := m.Shard(t.Context(), "s1")
	require.NoError(t, err)
	require.Equal(t, shard, got)

	b.place(at(acme, "s2", 4))
	eventually(t, "a change", knows(m, at(acme, "s2", 4)))

	// Late, malformed and misfiled entries do nothing.
	b.place(at(acme, "s1", 3))
	b.put(shardmap.BucketPlacements, "acme", "not a placement")
	b.put(shardmap.BucketPlacements, "acme", at("other", "s1", 9))
	evil := at(acme, "s1", 9)
	evil.Database = "postgres"
	b.place(evil)
	b.place(at("last", "s1", 1))
	eventually(t, "what came after them", knows(m, at("last", "s1", 1)))
	require.True(t, knows(m, at(acme, "s2", 4))())
	_, ok := m.Known("other")
	require.False(t, ok)
}

func TestStartsWithoutNATS(t *testing.T) {
	dir := t.TempDir()
	first := startBus(t, dir, 0)
	port := first.srv.Port()
	url := first.srv.URL()
	first.stop()

	c := &control{places: map[string]shardmap.Placement{"acme": at(acme, "s1", 1)}}
	f, m, _, _ := node(t, url, c)
	p, err := m.Get(t.Context(), acme)
	require.NoError(t, err, "a miss must be answered without NATS")
	require.Equal(t, at(acme, "s1", 1), p)
	require.False(t, f.Synced())
	require.False(t, f.Connected())

	b := startBus(t, dir, port)
	eventually(t, "connected", f.Connected)
	require.False(t, f.Synced(), "there are no buckets yet")
	b.buckets()
	b.place(at(acme, "s2", 2))
	eventually(t, "the buckets", knows(m, at(acme, "s2", 2)))

	// A restart that loses the store: the control plane fills it again.
	b.stop()
	eventually(t, "disconnected", func() bool { return !f.Connected() })
	_, err = m.Get(t.Context(), acme)
	require.NoError(t, err)
	b = startBus(t, t.TempDir(), port)
	b.buckets()
	b.place(at("new", "s1", 1))
	b.place(at(acme, "s3", 3))
	eventually(t, "the new store", knows(m, at(acme, "s3", 3)))
	eventually(t, "the new store", knows(m, at("new", "s1", 1)))
}

// A bucket deleted and made anew under a living connection is noticed.
func TestBucketMadeAnew(t *testing.T) {
	b := startBus(t, t.TempDir(), 0)
	b.buckets()
	f, m, _, _ := node(t, b.srv.URL(), &control{})
	eventually(t, "synced", f.Synced)
	require.NoError(t, b.js.DeleteKeyValue(t.Context(), shardmap.BucketPlacements))
	b.buckets()
	b.place(at(acme, "s1", 1))
	eventually(t, "the new bucket", knows(m, at(acme, "s1", 1)))
}

func TestWhomAMissAsks(t *testing.T) {
	b := startBus(t, t.TempDir(), 0)
	b.buckets()
	c := &control{
		places: map[string]shardmap.Placement{"acme": at(acme, "s2", 5)},
		shards: map[string]shardmap.Shard{"s2": {ID: "s2", Host: "h", Port: 1, Version: 1}},
	}
	api := httptest.NewServer(c)
	defer api.Close()
	f, err := feed.New(feed.Config{Node: "n1", NATS: natslink.Config{URL: b.srv.URL()}, ControlToken: "node-token", Log: silent,
		Control: []string{"http://127.0.0.1:1", api.URL}}) // the first one is away
	require.NoError(t, err)
	defer f.Close()
	eventually(t, "connected", f.Connected)
	ctx := t.Context()

	p, err := f.LoadPlacement(ctx, acme, 0)
	require.NoError(t, err)
	require.Equal(t, at(acme, "s2", 5), p, "not in the bucket: the control plane knows")
	require.Equal(t, 1, c.asked)

	b.place(at(acme, "s1", 4))
	p, err = f.LoadPlacement(ctx, acme, 0)
	require.NoError(t, err)
	require.Equal(t, at(acme, "s1", 4), p, "the copy answers a miss")
	require.Equal(t, 1, c.asked)

	p, err = f.LoadPlacement(ctx, acme, 4)
	require.NoError(t, err)
	require.Equal(t, at(acme, "s2", 5), p, "after a refusal at the copy's epoch the catalog is read")

	_, err = f.LoadPlacement(ctx, "nobody", 0)
	require.ErrorIs(t, err, shardmap.ErrUnknownTenant)
	s, err := f.LoadShard(ctx, "s2")
	require.NoError(t, err)
	require.Equal(t, "h", s.Host)
	_, err = f.LoadShard(ctx, "s9")
	require.ErrorIs(t, err, shardmap.ErrUnknownShard)

	for _, status := range []int{http.StatusNotFound, http.StatusUnauthorized, http.StatusBadGateway, http.StatusFound} {
		c.set(func() { c.status = status })
		_, err = f.LoadPlacement(ctx, "nobody", 0)
		require.Error(t, err)
		require.False(t, errors.Is(err, shardmap.ErrUnknownTenant), "status %d is nobody's word", status)
		require.NotContains(t, err.Error(), "node-token")
		p, err = f.LoadPlacement(ctx, acme, 4)
		require.NoError(t, err)
		require.Equal(t, at(acme, "s1", 4), p, "nobody to ask: the copy has to do")
	}
}

func TestHolds(t *testing.T) {
	b := startBus(t, t.TempDir(), 0)
	b.buckets()
	f, m, h, _ := node(t, b.srv.URL(), &control{})
	eventually(t, "synced", f.Synced)
	request := func(subject string, data []byte) *nats.Msg {
		reply, all := shardmap.AnswersTo("q1")
		sub, err := b.nc.SubscribeSync(all)
		require.NoError(t, err)
		defer func() { _ = sub.Unsubscribe() }()
		require.NoError(t, b.nc.PublishRequest(subject, reply, data))
		msg, err := sub.NextMsg(30 * time.Second)
		require.NoError(t, err)
		require.True(t, shardmap.Spoke(msg.Subject, "n1"), msg.Subject)
		return msg
	}
	ask := func(d time.Duration) shardmap.HoldAck {
		data, err := json.Marshal(shardmap.Hold{Tenant: acme, Epoch: 1, ID: "h1", For: d})
		require.NoError(t, err)
		msg := request(shardmap.SubjectHold+"acme", data)
		var ack shardmap.HoldAck
		require.NoError(t, json.Unmarshal(msg.Data, &ack))
		return ack
	}
	require.Equal(t, shardmap.HoldAck{Node: "n1", ID: "h1"}, ask(20*time.Millisecond), "the bound passed first")
	close(h.drained)
	require.Equal(t, shardmap.HoldAck{Node: "n1", ID: "h1", Drained: true}, ask(time.Minute))

	for _, bad := range []string{`{`, `{"tenant":"other","id":"x","for":1}`, `{"tenant":"acme","for":1}`, `{"tenant":"acme","id":"x"}`} {
		require.NoError(t, b.nc.Publish(shardmap.SubjectHold+"acme", []byte(bad)))
	}
	moved := at(acme, "s2", 2)
	data, err := json.Marshal(shardmap.Release{Tenant: acme, ID: "h1", Placement: &moved})
	require.NoError(t, err)
	require.NoError(t, b.nc.Publish(shardmap.SubjectRelease+"acme", data)) // by a control plane that does not ask
	eventually(t, "released", func() bool { _, released := h.count(); return released == 1 })
	require.True(t, knows(m, moved)(), "the placement comes before the release")
	msg := request(shardmap.SubjectRelease+"acme", data)
	var report shardmap.HoldReport
	require.NoError(t, json.Unmarshal(msg.Data, &report))
	require.Equal(t, shardmap.HoldReport{Node: "n1", ID: "h1", Held: 7, Longest: time.Second}, report)
	held, _ := h.count()
	require.Equal(t, 2, held)
}

// A node beats as soon as there is a bucket, and again in one made anew; one that stops says so.
func TestHeartbeat(t *testing.T) {
	b := startBus(t, t.TempDir(), 0)
	_, _, _, stop := node(t, b.srv.URL(), &control{})
	nodes := func() int {
		kv, err := b.js.KeyValue(t.Context(), shardmap.BucketNodes)
		if err != nil {
			return -1
		}
		keys, _ := kv.Keys(t.Context())
		return len(keys)
	}
	b.buckets()
	eventually(t, "a heartbeat", func() bool { return nodes() == 1 })

	require.NoError(t, b.js.DeleteKeyValue(t.Context(), shardmap.BucketNodes))
	b.buckets()
	eventually(t, "a heartbeat in a bucket made anew", func() bool { return nodes() == 1 })
	stop()
	require.Zero(t, nodes())
}

func TestNodeNameIsChecked(t *testing.T) {
	for _, name := range []string{"", "a b", "a*", ".", ">"} {
		_, err := feed.New(feed.Config{Node: name, NATS: natslink.Config{URL: "nats://127.0.0.1:1"}})
		require.Error(t, err, name)
	}
}
