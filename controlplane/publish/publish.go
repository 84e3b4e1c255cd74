// Package publish carries placements, shards and access documents from the
// catalog to the data-plane nodes over NATS, and asks nodes to hold a tenant's
// requests during a cutover. Everything there is a copy; losing all of it loses nothing.
//
// Import law: of this module, publish imports shardmap, internal packages,
// controlplane/catalog and controlplane/access only.
package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/shardmap"
)

// ErrUnavailable: NATS can't be reached now. Nothing depends on it for truth; go on without.
var ErrUnavailable = errors.New("nats is unavailable")

const (
	defaultReconcile   = time.Minute
	defaultRemoveAfter = 10 * time.Minute
	// lookEvery is how often the buckets are looked at for having been emptied.
	lookEvery = 5 * time.Second
	// pollEvery bounds how late the relay sees what no notification told it.
	pollEvery = time.Second
	// callTimeout bounds one call to NATS or the catalog.
	callTimeout = 5 * time.Second
)

// Options of a publisher. Zero values mean the default in brackets.
type Options struct {
	Replicas       int           // of the KV buckets [1]
	ReconcileEvery time.Duration // how often catalog and buckets are compared in full [1 min]
	RemoveAfter    time.Duration // how long a document that says nothing any more stays [10 min; no publisher is ever as late]
	Logger         *slog.Logger  // [slog.Default()]
}

// Publisher is one replica's. Any number may run at once.
type Publisher struct {
	store *catalog.Store
	nc    *nats.Conn
	opt   Options

	mu   sync.Mutex
	open map[*topic]*bucket // nil: to be looked for (again)
	// filled: all of the catalog was in the buckets since they were opened.
	filled bool
	// nodes had a heartbeat at nodesAt.
	nodes   map[string]bool
	nodesAt time.Time
}

// New makes a publisher on nc, which should be made with RetryOnFailedConnect
// and unlimited reconnects. The caller closes nc.
func New(store *catalog.Store, nc *nats.Conn, opt Options) *Publisher {
	if opt.Replicas <= 0 {
		opt.Replicas = 1
	}
	if opt.ReconcileEvery <= 0 {
		opt.ReconcileEvery = defaultReconcile
	}
	if opt.RemoveAfter <= 0 {
		opt.RemoveAfter = defaultRemoveAfter
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	return &Publisher{store: store, nc: nc, opt: opt}
}

// Run relays until ctx ends, then returns nil. NATS or the catalog being away is waited out.
func (p *Publisher) Run(ctx context.Context) error {
	changed, connected := make(chan struct{}, 1), p.nc.StatusChanged(nats.CONNECTED)
	defer p.nc.RemoveStatusListener(connected)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { p.store.Listen(ctx, "freehold_outbox", func(string) { wake(changed) }) })
	wg.Go(func() { p.relay(ctx, changed) })
	p.reconcile(ctx, connected, changed)
	return nil
}

func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is awake already
	}
}

// Flush publishes the tenant's committed placement now, without waiting for
// the relay; used right after a flip. Errors: ErrUnavailable, catalog.ErrNotFound.
func (p *Publisher) Flush(ctx context.Context, tenant shardmap.TenantID) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	b, err := p.buckets(ctx)
	if err != nil {
		return err
	}
	i, err := placementTopic.get(ctx, p.store, string(tenant))
	if err != nil {
		return err
	}
	return p.unavailable(b[&placementTopic].put(ctx, i))
}

// buckets opens the buckets, and makes those that are missing.
func (p *Publisher) buckets(ctx context.Context) (map[*topic]*bucket, error) {
	if !p.nc.IsConnected() {
		return nil, ErrUnavailable
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open != nil {
		return p.open, nil
	}
	js, err := jetstream.New(p.nc)
	if err != nil {
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	open := map[*topic]*bucket{}
	for _, t := range topics {
		kv, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: t.bucket, History: 1, Replicas: p.opt.Replicas})
		if err != nil {
			return nil, fmt.Errorf("%w: bucket %s: %w", ErrUnavailable, t.bucket, err)
		}
		open[t] = &bucket{topic: t, kv: kv}
	}
	// The nodes' own bucket is made here, too: no node may make or alter one.
	if _, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: shardmap.BucketNodes, Description: "heartbeats of data-plane nodes", TTL: shardmap.NodeTTL, Replicas: p.opt.Replicas,
	}); err != nil {
		return nil, fmt.Errorf("%w: bucket %s: %w", ErrUnavailable, shardmap.BucketNodes, err)
	}
	p.open = open
	return open, nil
}

// unavailable has the buckets looked for again after err, which may mean that they are gone.
func (p *Publisher) unavailable(err error) error {
	if err == nil {
		return nil
	}
	p.forget()
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

func (p *Publisher) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open, p.filled = nil, false
}

// fill notes that all of the catalog was put into these buckets.
func (p *Publisher) fill(b map[*topic]*bucket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.filled = len(b) > 0 && p.open[topics[0]] == b[topics[0]]
}

func (p *Publisher) isFilled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.filled
}
