// Package limit bounds what one tenant may take of the fleet and of a node:
// requests per second over all nodes together (share), requests that are served
// at once, and its turn when the node is busy (fair). Plans and tenants say how
// much; the node's configuration is what is left when they say nothing.
//
// Import law: of this module, limit imports internal packages, shardmap and its
// own sub-packages only.
package limit

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freehold-db/freehold/dataplane/gateway/limit/fair"
	"github.com/freehold-db/freehold/dataplane/gateway/limit/share"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/config"
	"github.com/freehold-db/freehold/shardmap"
)

// Config bounds a node. Zero fields take the defaults.
type Config struct {
	// NodeConcurrencyLeast and NodeConcurrency bound the requests that the node serves at once; between them it finds out by itself.
	NodeConcurrencyLeast int `yaml:"node_concurrency_least" env:"FREEHOLD_LIMITS_NODE_CONCURRENCY_LEAST"`
	NodeConcurrency      int `yaml:"node_concurrency" env:"FREEHOLD_LIMITS_NODE_CONCURRENCY"`
	// TenantConcurrency bounds the requests of one tenant that the node serves at once, where its plan says nothing.
	TenantConcurrency int `yaml:"tenant_concurrency" env:"FREEHOLD_LIMITS_TENANT_CONCURRENCY"`
	// Waiting bounds the requests that wait for their turn, WaitingPerTenant those of one tenant.
	Waiting          int `yaml:"waiting" env:"FREEHOLD_LIMITS_WAITING"`
	WaitingPerTenant int `yaml:"waiting_per_tenant" env:"FREEHOLD_LIMITS_WAITING_PER_TENANT"`
	// QueueFor is the longest wait for a turn, QueueTarget that of a tenant of whom somebody has been waiting for a quarter of it all the time.
	QueueFor    time.Duration `yaml:"queue_for" env:"FREEHOLD_LIMITS_QUEUE_FOR"`
	QueueTarget time.Duration `yaml:"queue_target" env:"FREEHOLD_LIMITS_QUEUE_TARGET"`
	// BodyMemory bounds the memory of requests' bodies, in bytes, BodyMemoryPerTenant that of one tenant's;
	// answers that clients are slow to take may have as much.
	BodyMemory          int64 `yaml:"body_memory" env:"FREEHOLD_LIMITS_BODY_MEMORY"`
	BodyMemoryPerTenant int64 `yaml:"body_memory_per_tenant" env:"FREEHOLD_LIMITS_BODY_MEMORY_PER_TENANT"`
	// Nodes is how many nodes to reckon with, at least, while NATS is away.
	Nodes int `yaml:"nodes" env:"FREEHOLD_LIMITS_NODES"`
}

// Defaults fills what is zero.
func (c *Config) Defaults() {
	config.Default(&c.NodeConcurrencyLeast, 64)
	config.Default(&c.NodeConcurrency, 256)
	config.Default(&c.TenantConcurrency, 16)
	config.Default(&c.Waiting, 4000)
	config.Default(&c.WaitingPerTenant, 1000)
	config.Default(&c.QueueFor, 15*time.Second)
	config.Default(&c.QueueTarget, 5*time.Second)
	config.Default(&c.BodyMemory, 512<<20)
	config.Default(&c.BodyMemoryPerTenant, 128<<20)
	config.Default(&c.Nodes, 1)
}

// Validate refuses what no node can run on.
func (c *Config) Validate() error {
	switch {
	case min(c.NodeConcurrencyLeast, c.NodeConcurrency, c.TenantConcurrency, c.Waiting, c.WaitingPerTenant, c.Nodes) <= 0,
		min(c.QueueFor, c.QueueTarget) <= 0, min(c.BodyMemory, c.BodyMemoryPerTenant) <= 0:
		return errors.New("limits: all must be positive")
	case c.NodeConcurrencyLeast > c.NodeConcurrency:
		return errors.New("limits: node_concurrency_least: must not be more than node_concurrency")
	}
	return nil
}

// Reason is why a request was refused; it is the refusal's stable code.
type Reason string

// The reasons. After each of them nothing was executed.
const (
	RateLimited       Reason = "rate_limited"
	TooManyConcurrent Reason = "too_many_concurrent"
	Overloaded        Reason = "overloaded"
)

// Refused is the error of a request that may not pass now.
type Refused struct {
	Reason Reason
	// RetryAfter is when to try again. For what is not the tenant's own rate it
	// has jitter, so that those refused together do not come back together.
	RetryAfter time.Duration
}

// Error says why.
func (r *Refused) Error() string { return string(r.Reason) }

// Limiter bounds the requests of one node. It is safe for concurrent use. It has
// no goroutine but the one that calls Run, whatever the number of tenants.
type Limiter struct {
	of       func(shardmap.TenantID) access.Limits
	defaults access.Limits
	gate     *fair.Gate
	bodies   memory
	answers  memory
	log      *slog.Logger
	born     time.Time

	mu      sync.RWMutex
	tenants map[shardmap.TenantID]*tenant

	activeMu sync.Mutex
	active   []*tenant // those with requests since the last tick, or with demand left of before

	bookMu sync.Mutex
	book   *share.Book

	// Of Run's goroutine alone.
	ticked, surveyed time.Duration

	refused atomic.Uint64 // for their rate
	top     [topRanks]atomic.Uint64
}

// Options of [New].
type Options struct {
	Config Config
	// Node is this node's name.
	Node string
	// Of returns what a tenant's plan and the tenant itself say; it must not wait. nil: nothing.
	Of func(shardmap.TenantID) access.Limits
	// Defaults is what holds where Of says nothing; a Rate of 0 is unlimited.
	Defaults access.Limits
	Log      *slog.Logger
}

// New returns a limiter.
func New(o Options) *Limiter {
	o.Config.Defaults()
	if o.Of == nil {
		o.Of = func(shardmap.TenantID) access.Limits { return access.Limits{} }
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	c := o.Config
	if o.Defaults.Concurrency == 0 {
		o.Defaults.Concurrency = c.TenantConcurrency
	}
	return &Limiter{
		of: o.Of, defaults: o.Defaults, log: o.Log, born: time.Now(),
		gate: fair.New(fair.Config{
			Least: c.NodeConcurrencyLeast, Most: c.NodeConcurrency, Waiting: c.Waiting, WaitingPerTenant: c.WaitingPerTenant,
			QueueFor: c.QueueFor, QueueTarget: c.QueueTarget,
		}),
		bodies:  memory{most: c.BodyMemory, each: c.BodyMemoryPerTenant},
		answers: memory{most: c.BodyMemory, each: c.BodyMemoryPerTenant},
		tenants: map[shardmap.TenantID]*tenant{},
		// A node that starts again is another one: what it said before ends by itself.
		book: share.NewBook(o.Node+"/"+strconv.FormatUint(rand.Uint64(), 36), c.Nodes), //nolint:gosec // a name, no secret
	}
}

// Pass is a request on its way through a limiter: Look, Admit, Hold as its body
// comes, Enter. The zero value is ready for one such way.
type Pass struct {
	// Limits is what holds for the tenant; zero where nobody says anything.
	Limits access.Limits
	// Policy is the value of RateLimit-Policy, shared by all of the tenant's answers; nil without a rate.
	Policy []string
	// Left is how many more requests this node would let pass now, Reset the
	// seconds until it is as many as can be, or until one is left.
	Left, Reset int

	tenant *tenant
	slot   fair.Slot
	held   int64 // of the memory for bodies
	answer int64 // of that for answers
}

// Look notes a request of a tenant and what holds for it.
func (l *Limiter) Look(p *Pass, id shardmap.TenantID) {
	now := l.now()
	p.tenant = l.tenant(id, now)
	p.Limits = p.tenant.look(l, now)
}

// Admit counts the request of p, after [Limiter.Look], against its tenant's
// rate, and tells p what is left of that. The error is a *[Refused].
func (l *Limiter) Admit(p *Pass) error {
	ok, wait := p.tenant.take(l, p, l.now())
	if !ok {
		l.refused.Add(1)
		return &Refused{RateLimited, max(wait, time.Second)}
	}
	return nil
}

// Enter lets the request of p, which was admitted, be served, maybe after a
// wait. From here to Leave it shall depend on this node and what is behind it
// alone: that time tells how busy the node is. The error is a *[Refused], or
// ctx's. After nil, call Leave.
func (l *Limiter) Enter(ctx context.Context, p *Pass) error {
	t := p.tenant
	if l.drowned(t) {
		t.giveBack()
		return &Refused{TooManyConcurrent, jitter()}
	}
	terms := fair.Terms{Weight: p.Limits.Weight, Concurrency: p.Limits.Concurrency}
	err := l.gate.Enter(ctx, &p.slot, &t.flow, terms)
	if err == nil {
		return nil
	}
	t.giveBack()
	switch {
	case errors.Is(err, fair.ErrConcurrent):
		return &Refused{TooManyConcurrent, jitter()}
	case errors.Is(err, fair.ErrOverloaded):
		return &Refused{Overloaded, jitter()}
	}
	return err
}

// Leave ends the request's part in what is served at once; a second time it does nothing.
func (p *Pass) Leave() { p.slot.Leave() }

// Yield lets others have the request's place while it waits for something that
// is not this node's business; see [fair.Slot.Yield].
func (p *Pass) Yield() { p.slot.Yield() }

// jitter is one to four seconds: those refused together come back apart.
func jitter() time.Duration { return time.Second + rand.N(3*time.Second) } //nolint:gosec // jitter

func (l *Limiter) now() time.Duration { return time.Since(l.born) }
