// Package usage measures what shards and tenants use, at the servers
// themselves: size, connections, execution time, write-ahead log, transactions
// and rows from Postgres' shared statistics, requests and their time from the
// data-plane nodes. What it finds is kept in the catalog, smoothed, for people
// (`shard top`, `tenant top`), for the planner, and for who is about to burden a shard.
//
// Nothing that must be right depends on it: figures may be old, or not there.
//
// A shard is measured by one replica at a time, with one connection, to the
// maintenance database: no tenant's database is ever connected to, so that no
// move or drop waits for a measurement. A look costs the shard a few statements,
// however many databases it has, and the catalog one row of the shard and, every
// so often, those tenants whose figures have changed.
//
// Import law: of this module, usage imports shardmap, internal packages, and
// controlplane/catalog, balance and move/pace.
package usage

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/sleep"
	"github.com/freehold-db/freehold/internal/traffic"
	"github.com/freehold-db/freehold/shardmap"
)

// Shards is what the service needs of a *shard.Fleet.
type Shards interface {
	Session(ctx context.Context, on shardmap.ShardID, database, application string) (*pgx.Conn, error)
}

// Options of [New]. Zero values mean the default in brackets.
type Options struct {
	// Keeper names this replica, unlike any other.
	Keeper string
	// Every is the time between looks at a shard [10 s].
	Every time.Duration
	// LookFor bounds one look, with connecting to the shard [15 s].
	LookFor time.Duration
	Logger  *slog.Logger // [slog.Default()]
}

// Service measures.
type Service struct {
	store *catalog.Store
	fleet Shards
	nats  *nats.Conn
	opt   Options
	inbox inbox
}

const (
	defaultEvery = 10 * time.Second
	defaultLook  = 15 * time.Second
	// claimEvery is how often shards that nobody measures are looked for.
	claimEvery = 5 * time.Second
	claimFor   = 10 * time.Second
)

// New makes the service of one replica. nc may be away, or nil: then nothing is known of requests.
func New(store *catalog.Store, fleet Shards, nc *nats.Conn, opt Options) *Service {
	if opt.Every <= 0 {
		opt.Every = defaultEvery
	}
	if opt.LookFor <= 0 {
		opt.LookFor = defaultLook
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	return &Service{store: store, fleet: fleet, nats: nc, opt: opt}
}

// right is how long the right to measure a shard lasts unless it is renewed,
// which every look does, also one that fails.
func (s *Service) right() time.Duration {
	return 2*(s.opt.LookFor+saveFor) + max(longestWait, s.opt.Every)
}

// Run measures the shards that no other replica measures until ctx ends; then
// it returns nil. Shards don't wait for each other: one that is away, or hangs, keeps nobody.
func (s *Service) Run(ctx context.Context) error {
	defer s.listen()()
	k := keeper{Service: s, watched: map[shardmap.ShardID]context.CancelFunc{}}
	defer k.running.Wait()
	for ctx.Err() == nil {
		if err := k.round(ctx); err != nil && ctx.Err() == nil {
			s.opt.Logger.WarnContext(ctx, "shards are not measured", "error", err)
		}
		wait := min(claimEvery, s.opt.Every)
		_ = sleep.For(ctx, wait*3/4+rand.N(wait/2)) //nolint:gosec // jitter; replicas share the shards by chance
	}
	return nil
}

// listen takes in what nodes tell of requests. It returns what ends that.
func (s *Service) listen() (stop func()) {
	if s.nats == nil {
		return func() {}
	}
	// Made without a connection too; the server hears of it when there is one.
	sub, err := s.nats.Subscribe(traffic.Subject+"*", func(msg *nats.Msg) {
		r, err := traffic.Decode(msg.Data)
		if err != nil || !shardmap.Spoke(msg.Subject, r.Node) {
			s.opt.Logger.Warn("a report of traffic that is malformed, or not the node's own, is ignored", "subject", msg.Subject)
			return
		}
		s.inbox.hear(r, time.Now())
	})
	if err != nil {
		s.opt.Logger.Error("nodes' traffic cannot be heard", "error", err)
		return func() {}
	}
	return func() { _ = sub.Unsubscribe() } // it ends with the connection, too
}

// keeper is the memory of Run.
type keeper struct {
	*Service
	running sync.WaitGroup
	mu      sync.Mutex
	watched map[shardmap.ShardID]context.CancelFunc
}

// round takes on the shards that nobody measures, and lets go of those that are gone.
func (k *keeper) round(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, claimFor)
	defer cancel()
	shards, err := k.store.ListShardReadings(asking)
	if err != nil {
		return err
	}
	there := map[shardmap.ShardID]bool{}
	for _, s := range shards {
		if s.State == catalog.ShardDown {
			continue
		}
		there[s.Shard] = true
		if k.has(s.Shard) || s.Keeper != "" && s.Keeper != k.opt.Keeper {
			continue
		}
		mine, err := k.store.KeepShardUsage(asking, s.Shard, k.opt.Keeper, k.right())
		if err != nil {
			return err
		}
		if mine {
			k.begin(ctx, s.Shard)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, stop := range k.watched {
		if !there[id] {
			stop()
		}
	}
	return nil
}

func (k *keeper) has(id shardmap.ShardID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.watched[id] != nil
}

func (k *keeper) begin(ctx context.Context, id shardmap.ShardID) {
	ctx, stop := context.WithCancel(ctx)
	k.mu.Lock()
	k.watched[id] = stop
	k.mu.Unlock()
	k.running.Go(func() {
		defer func() {
			stop()
			k.mu.Lock()
			delete(k.watched, id)
			k.mu.Unlock()
		}()
		k.newWatch(id).run(ctx)
	})
}
