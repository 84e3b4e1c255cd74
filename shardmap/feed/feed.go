// Package feed keeps a node's shard map fed: it follows the placements and
// shards in JetStream's KV buckets, answers the map's misses from there and
// from the control plane's API, passes holds on to the router, and tells the
// fleet that this node is alive.
//
// All of it may fail for as long as it likes: a node starts and serves known
// tenants without NATS and without a control plane.
//
// Import law: of this module, feed imports shardmap and internal packages only.
package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/clienttls"
	"github.com/freehold-db/freehold/internal/natslink"
	"github.com/freehold-db/freehold/internal/natsrole"
	"github.com/freehold-db/freehold/shardmap"
)

// Config says whom to listen to and whom to ask.
type Config struct {
	// Node is this node's name, unique in the fleet: letters, digits, '-', '_' and '.'.
	Node string
	// NATS says where NATS is and who we are there.
	NATS natslink.Config
	// Control holds the admin API's base URLs; each is asked until one answers.
	Control []string
	// ControlToken is the bearer token (role node) for Control, ControlTLS whom we believe there and what we show.
	ControlToken string
	ControlTLS   clienttls.Files
	// Log takes what an operator should know; default slog.Default().
	Log *slog.Logger
}

// Holder keeps a tenant's requests back while its placement flips.
type Holder interface {
	// Hold begins a hold; the channel is closed when no request of the tenant is under way.
	Hold(h shardmap.Hold) (drained <-chan struct{})
	// Release ends the hold with that ID, and reports what requests saw of it.
	Release(r shardmap.Release) shardmap.HoldReport
}

// Feed is a [shardmap.Loader] from the start, and feeds a map while [Feed.Run]
// runs. Close it when done.
type Feed struct {
	cfg  Config
	nc   *nats.Conn
	js   jetstream.JetStream
	http *http.Client
	// asking holds one for each question to the control plane under way.
	asking chan struct{}

	placements, shards, access bucket
	holds                      sync.WaitGroup
	mu                         sync.Mutex
	reconnect                  chan struct{} // closed at the next reconnection
}

// bucket is what is known of one KV bucket.
type bucket struct {
	name   string
	kv     atomic.Pointer[jetstream.KeyValue] // nil: never seen
	synced atomic.Bool                        // its state as of some moment was taken in whole
	sink   Sink                               // only Take is required
}

// New returns at once, whether NATS is there or not: the connection is made,
// and made again whenever it is lost, in the background. It fails only for a
// configuration that can never work.
func New(cfg Config) (*Feed, error) {
	if err := shardmap.CheckNode(cfg.Node); err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	secure, err := clienttls.Load(cfg.ControlTLS)
	if err != nil {
		return nil, fmt.Errorf("feed: control plane: %w", err)
	}
	f := &Feed{
		cfg:       cfg,
		http:      newHTTPClient(secure),
		asking:    make(chan struct{}, asksAtOnce),
		reconnect: make(chan struct{}),
	}
	f.placements.name, f.shards.name, f.access.name = shardmap.BucketPlacements, shardmap.BucketShards, access.Bucket
	nc, err := natslink.Connect(cfg.NATS, natsrole.Node(cfg.Node), "freehold node "+cfg.Node, cfg.Log,
		nats.ReconnectBufSize(-1), // news that can't be sent now is worth nothing later
		nats.ReconnectHandler(func(*nats.Conn) { f.reconnected() }),
		nats.ConnectHandler(func(*nats.Conn) { f.reconnected() }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				cfg.Log.Warn("NATS connection lost; known tenants are served from memory", "error", err)
			}
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	if f.js, err = jetstream.New(nc); err != nil {
		nc.Close()
		return nil, fmt.Errorf("feed: JetStream: %w", err)
	}
	f.nc = nc
	return f, nil
}

// Run feeds m and passes holds on to h until ctx ends. Call it once.
func (f *Feed) Run(ctx context.Context, m *shardmap.Map, h Holder) {
	unlisten := f.listen(ctx, m, h)
	var wg sync.WaitGroup
	f.placements.sink.Take = func(key string, value []byte) bool { return applyPlacement(m, key, value) }
	f.shards.sink.Take = func(key string, value []byte) bool { return applyShard(m, key, value) }
	wg.Go(func() { f.follow(ctx, &f.placements) })
	wg.Go(func() { f.follow(ctx, &f.shards) })
	wg.Go(func() { f.heartbeat(ctx) })
	wg.Wait()
	unlisten()
	f.holds.Wait()
}

// Synced tells whether the whole of the placements and shards was taken in at least once
// since the start. A node may serve before that.
func (f *Feed) Synced() bool { return f.placements.synced.Load() && f.shards.synced.Load() }

// Connected tells whether NATS can be heard right now.
func (f *Feed) Connected() bool { return f.nc.IsConnected() }

// NATS is the feed's connection, for others to use as long as the feed is not closed.
func (f *Feed) NATS() *nats.Conn { return f.nc }

// Close ends the connection to NATS; end Run first.
func (f *Feed) Close() {
	f.nc.Close()
	f.http.CloseIdleConnections()
}

// onReconnect returns a channel that is closed at the next reconnection.
func (f *Feed) onReconnect() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reconnect
}

func (f *Feed) reconnected() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.reconnect)
	f.reconnect = make(chan struct{})
}

const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

// pacer spaces retries out, with jitter.
type pacer struct{ pause time.Duration }

// wait returns after the next pause, earlier when sooner is closed; false when ctx ended.
func (p *pacer) wait(ctx context.Context, sooner <-chan struct{}) bool {
	p.pause = min(max(2*p.pause, firstPause), longestPause)
	timer := time.NewTimer(p.pause/2 + rand.N(p.pause/2)) //nolint:gosec // jitter
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-sooner:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

func (p *pacer) reset() { p.pause = 0 }

// quiet tells whether err is only about ctx having ended or NATS being away,
// which is said elsewhere.
func quiet(err error) bool {
	return err == nil || errors.Is(err, context.Canceled) || errors.Is(err, nats.ErrConnectionClosed)
}
