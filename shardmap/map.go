package shardmap

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
)

// Errors a caller of [Map] decides on.
var (
	// ErrUnknownTenant: the control plane, a moment ago at most, knew no such tenant.
	ErrUnknownTenant = errors.New("unknown tenant")
	// ErrUnknownShard: the control plane knows no such shard.
	ErrUnknownShard = errors.New("unknown shard")
	// ErrUnresolved: what is asked for is not cached and nobody could be asked.
	ErrUnresolved = errors.New("cannot be looked up now")
)

// Loader asks outside what the map does not know. Both methods are called from
// goroutines of the map, at most one at a time per tenant and epoch, under a
// context of [MapConfig.LoadTimeout].
type Loader interface {
	// LoadPlacement returns the newest placement to be had. A source whose
	// answer is not newer than `than` (0: any will do) may be late, so the
	// next, more authoritative one is asked too. It returns an error wrapping
	// ErrUnknownTenant only on the control plane's word; any other error means
	// that nobody could be asked.
	LoadPlacement(ctx context.Context, tenant TenantID, than Epoch) (Placement, error)
	// LoadShard returns a shard's address; ErrUnknownShard on the control plane's word.
	LoadShard(ctx context.Context, id ShardID) (Shard, error)
}

// MapConfig sizes a map. Zero fields take the defaults.
type MapConfig struct {
	Size        int           // tenants remembered; default 100,000 (about 25 MB)
	NegativeFor time.Duration // life of "there is no such tenant"; default 2 s
	LoadTimeout time.Duration // longest a look-up outside may take; default 3 s
}

func (c MapConfig) withDefaults() MapConfig {
	if c.Size <= 0 {
		c.Size = 100_000
	}
	if c.NegativeFor <= 0 {
		c.NegativeFor = 2 * time.Second
	}
	if c.LoadTimeout <= 0 {
		c.LoadTimeout = 3 * time.Second
	}
	return c
}

// negatives bounds the remembered unknown tenants; they never crowd out known ones.
const negatives = 4096

// Map remembers where tenants live. Placements come in by [Map.Apply] (the
// watch, a release), by a miss, or by [Map.Refresh] after a refusal; on each of
// these ways only a greater epoch replaces a smaller one, so that late, doubled
// and reordered news do no harm. It is safe for concurrent use, owns no
// lasting goroutine and needs no closing.
type Map struct {
	cfg    MapConfig
	loader Loader

	known   *lru.Cache[TenantID, *entry]
	unknown *lru.Cache[TenantID, time.Time] // until when
	stats   mapCounters

	mu       sync.Mutex // writers of placements, flights and waiters
	flights  map[flightKey]*flight
	waiters  map[TenantID]*waiter
	watchers []func(Placement)

	shardsMu    sync.RWMutex
	shards      map[ShardID]Shard
	shardMisses singleflight.Group
}

// entry is one tenant's slot. Its placement is replaced whole, without moving
// the slot in the order of use: news of a tenant is no use of it.
type entry struct{ placement atomic.Pointer[Placement] }

// NewMap returns an empty map that asks loader for what it misses.
func NewMap(cfg MapConfig, loader Loader) *Map {
	cfg = cfg.withDefaults()
	known, _ := lru.New[TenantID, *entry](cfg.Size) // fails for a size below 1 only
	unknown, _ := lru.New[TenantID, time.Time](negatives)
	return &Map{
		cfg: cfg, loader: loader, known: known, unknown: unknown,
		flights: map[flightKey]*flight{},
		waiters: map[TenantID]*waiter{},
		shards:  map[ShardID]Shard{},
	}
}

// Get returns the placement of a tenant, from memory if it is there. Otherwise
// it is loaded, once for all who ask meanwhile. It returns an error wrapping
// ErrUnknownTenant, ErrUnresolved (with the cause), or ctx's error. A placement
// may be suspended or deleted: that is the caller's to judge.
func (m *Map) Get(ctx context.Context, tenant TenantID) (Placement, error) {
	if e, ok := m.known.Get(tenant); ok {
		m.stats.hits.Add(1)
		return *e.placement.Load(), nil
	}
	if until, ok := m.unknown.Get(tenant); ok && time.Now().Before(until) {
		m.stats.negativeHits.Add(1)
		return Placement{}, fmt.Errorf("tenant %s: %w", tenant, ErrUnknownTenant)
	}
	m.stats.misses.Add(1)
	return m.load(ctx, tenant, 0)
}

// Refresh looks again for a tenant whose placement of epoch `than` was refused.
// It returns the remembered placement at once if that is newer by now, else
// loads afresh (once for all who ask meanwhile), or takes what Apply brings
// first. newer tells whether the placement's epoch is greater than `than`.
// Errors are those of [Map.Get]; the remembered placement stays after ErrUnresolved.
func (m *Map) Refresh(ctx context.Context, tenant TenantID, than Epoch) (p Placement, newer bool, err error) {
	if p, ok := m.peek(tenant); ok && p.Epoch > than {
		return p, true, nil
	}
	m.stats.refreshes.Add(1)
	p, err = m.load(ctx, tenant, than)
	return p, err == nil && p.Epoch > than, err
}

// Newer returns a channel that is closed as soon as the map learns of a
// placement of the tenant newer than `than`. Call stop when done waiting.
func (m *Map) Newer(tenant TenantID, than Epoch) (news <-chan struct{}, stop func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.await(tenant, than)
}

// await is Newer, called under mu.
func (m *Map) await(tenant TenantID, than Epoch) (news <-chan struct{}, stop func()) {
	if p, ok := m.peek(tenant); ok && p.Epoch > than {
		return closed, func() {}
	}
	w := m.waiters[tenant]
	if w == nil {
		w = &waiter{news: make(chan struct{})}
		m.waiters[tenant] = w
	}
	w.count++
	var once sync.Once
	return w.news, func() { once.Do(func() { m.leave(tenant, w) }) }
}

type waiter struct {
	news  chan struct{}
	count int
}

var closed = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

func (m *Map) leave(tenant TenantID, w *waiter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w.count--; w.count == 0 && m.waiters[tenant] == w {
		delete(m.waiters, tenant)
	}
}

// OnChange has f called after each placement that is news to the map, from the
// goroutine that brought it and in no certain order; f must be quick. Register
// before the map is in use.
func (m *Map) OnChange(f func(Placement)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watchers = append(m.watchers, f)
}

// Apply takes a placement in if it is newer than the remembered one, and tells
// whether it was. A placement that [Placement.Validate] refuses is never taken.
// When the map is full, a tenant that nobody asked for takes no one's place.
func (m *Map) Apply(p Placement) bool {
	if p.Validate() != nil {
		m.stats.invalid.Add(1)
		return false
	}
	m.mu.Lock()
	_, missed := m.unknown.Peek(p.Tenant)
	fresh := m.store(p, missed || m.waiters[p.Tenant] != nil)
	m.mu.Unlock()
	if fresh {
		m.announce(p)
	}
	return fresh
}

// store keeps p if it is newer; asked tells whether somebody asked for the
// tenant, so that it may displace another. Called under mu.
func (m *Map) store(p Placement, asked bool) (fresh bool) {
	if e, ok := m.known.Peek(p.Tenant); ok {
		if p.Epoch <= e.placement.Load().Epoch {
			m.stats.late.Add(1)
			return false
		}
		e.placement.Store(&p)
	} else if asked || m.known.Len() < m.cfg.Size {
		e := &entry{}
		e.placement.Store(&p)
		m.known.Add(p.Tenant, e)
	}
	m.unknown.Remove(p.Tenant)
	m.stats.applied.Add(1)
	if w := m.waiters[p.Tenant]; w != nil {
		close(w.news)
		delete(m.waiters, p.Tenant)
	}
	return true
}

func (m *Map) announce(p Placement) {
	for _, f := range m.watchers {
		f(p)
	}
}

// Known returns the remembered placement of a tenant, asking nobody.
func (m *Map) Known(tenant TenantID) (Placement, bool) { return m.peek(tenant) }

// peek reads a slot without counting as a use of it.
func (m *Map) peek(tenant TenantID) (Placement, bool) {
	e, ok := m.known.Peek(tenant)
	if !ok {
		return Placement{}, false
	}
	return *e.placement.Load(), true
}

// Len returns the number of tenants remembered.
func (m *Map) Len() int { return m.known.Len() }
