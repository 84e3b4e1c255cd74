package limit

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freehold-db/freehold/dataplane/gateway/limit/fair"
	"github.com/freehold-db/freehold/dataplane/gateway/limit/share"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	// maxTenants bounds the tenants remembered. Beyond it, one that is idle is
	// forgotten, and starts with a full bucket again.
	maxTenants = 100_000
	// lookEvery is how long limits are believed.
	lookEvery = time.Second
)

// tenant is what a node keeps of one tenant that had a request lately.
type tenant struct {
	id   shardmap.TenantID
	flow fair.Flow    // the gate's
	held atomic.Int64 // bytes of its requests' bodies
	// answers are bytes of answers that its clients have not taken yet.
	answers atomic.Int64

	mu      sync.Mutex
	limits  access.Limits
	looked  time.Duration // when limits were asked for; 0: never
	policy  []string
	bucket  bucket
	came    int     // requests since the last tick
	demand  float64 // requests per second, smoothed
	active  bool    // in Limiter.active
	seen    time.Duration
	refused uint64 // for its rate

	// Of the survey alone.
	spentBefore   time.Duration
	refusedBefore uint64
}

// tenant finds or makes a tenant's entry.
func (l *Limiter) tenant(id shardmap.TenantID, now time.Duration) *tenant {
	l.mu.RLock()
	t := l.tenants[id]
	l.mu.RUnlock()
	if t != nil {
		return t
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if t = l.tenants[id]; t != nil {
		return t
	}
	if len(l.tenants) >= maxTenants {
		for other, old := range l.tenants { // any that is idle
			if l.gate.Use(&old.flow).Idle {
				delete(l.tenants, other)
				break
			}
		}
	}
	t = &tenant{id: id, seen: now}
	l.tenants[id] = t
	return t
}

// look returns the tenant's limits, which may be a second old.
func (t *tenant) look(l *Limiter, now time.Duration) access.Limits {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.looked == 0 || now-t.looked > lookEvery {
		t.looked = max(now, 1)
		t.adopt(l.of(t.id).Over(l.defaults), now)
	}
	return t.limits
}

func (t *tenant) adopt(limits access.Limits, now time.Duration) {
	if limits.Rate > 0 && limits.Burst <= 0 {
		limits.Burst = max(1, int(math.Ceil(limits.Rate)))
	}
	if limits.Rate != t.limits.Rate || limits.Burst != t.limits.Burst {
		t.bucket.become(limits.Rate, float64(limits.Burst), now)
		t.policy = nil
		if limits.Rate > 0 {
			t.policy = []string{fmt.Sprintf(`"tenant";q=%d;w=%d`, limits.Burst, int(math.Ceil(float64(limits.Burst)/limits.Rate)))}
		}
	}
	t.limits = limits
}

// take asks for one request now, and tells p what is left. wait is, when
// refused, how long until one is there.
func (t *tenant) take(l *Limiter, p *Pass, now time.Duration) (ok bool, wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen = now
	t.came++
	if t.limits.Rate <= 0 {
		return true, 0
	}
	if !t.active {
		t.active = true
		t.bucket.divide(l.shareOf(t, now), now)
		l.activeMu.Lock()
		l.active = append(l.active, t)
		l.activeMu.Unlock()
	}
	ok = t.bucket.take(now)
	wait = t.bucket.wait()
	p.Policy, p.Left, p.Reset = t.policy, t.bucket.left(), t.bucket.reset()
	if !ok {
		t.refused++
		p.Reset = int(math.Ceil(wait.Seconds()))
	}
	return ok, wait
}

// giveBack returns what take took for a request that was refused afterwards.
func (t *tenant) giveBack() {
	t.mu.Lock()
	t.bucket.giveBack()
	t.mu.Unlock()
}

// shareOf is this node's part of t's rate. t.mu is held.
func (l *Limiter) shareOf(t *tenant, now time.Duration) float64 {
	l.bookMu.Lock()
	defer l.bookMu.Unlock()
	return l.book.Share(t.id, t.limits.Rate, t.wants(), now)
}

// wants is the demand to divide by: what was measured, or what came since when
// that alone is beyond chance. Without the latter a node whose rush is younger
// than its last tick would be taken for idle and lose its part of the burst to
// the first that speaks. t.mu is held.
func (t *tenant) wants() float64 {
	if over := share.Every.Seconds(); beyond(float64(t.came), t.demand*over) {
		return max(t.demand, float64(t.came)/over)
	}
	return t.demand
}
