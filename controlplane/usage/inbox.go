package usage

import (
	"sync"
	"time"

	"github.com/freehold-db/freehold/internal/traffic"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	// keptFor is how long what nodes told is kept for who measures the tenant's
	// shard; at most of so many tenants. Another replica may be the one to take it.
	keptFor     = time.Minute
	keptTenants = 200_000
)

// inbox is what nodes told of requests and nobody has taken yet.
type inbox struct {
	mu    sync.Mutex
	sums  map[shardmap.TenantID]*told
	swept time.Time
}

type told struct {
	traffic.Sum
	at time.Time
}

// hear takes a node's report in.
func (b *inbox) hear(r traffic.Report, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sums == nil {
		b.sums = map[shardmap.TenantID]*told{}
	}
	if now.Sub(b.swept) > keptFor {
		b.swept = now
		for id, t := range b.sums {
			if now.Sub(t.at) > keptFor {
				delete(b.sums, id)
			}
		}
	}
	for id, sum := range r.Tenants {
		t := b.sums[id]
		switch {
		case t == nil && len(b.sums) >= keptTenants:
			continue
		case t == nil:
			t = &told{}
			b.sums[id] = t
		case now.Sub(t.at) > keptFor: // so it was of another time
			t.Sum = traffic.Sum{}
		}
		t.Add(sum)
		t.at = now
	}
}

// take hands out what was told of a shard's tenants.
func (b *inbox) take(databases map[string]*database) map[shardmap.TenantID]*traffic.Sum {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := map[shardmap.TenantID]*traffic.Sum{}
	for _, d := range databases {
		if t := b.sums[d.tenant]; t != nil && d.tenant != "" {
			taken[d.tenant] = &t.Sum
			delete(b.sums, d.tenant)
		}
	}
	return taken
}
