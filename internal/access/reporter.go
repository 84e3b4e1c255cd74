package access

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/freehold-db/freehold/shardmap"
)

const (
	queued    = 1000 // events that wait for NATS
	reporters = 10_000
	flushFor  = 2 * time.Second
	// A tenant's events of one action: some at once, then few. Who is refused
	// all the time is counted, and does not fill the audit log.
	eventBurst = 10
	eventEvery = 10 * time.Second
	// Refused keys are the one event that takes no credential: whoever makes up
	// tenants makes up as many as wanted. New ones come in so often, at most.
	strangerBurst = 100
	strangerEvery = time.Second
)

// Reporter carries a node's audit events to the control plane, beside the
// requests that cause them. It never makes one wait, and never fails: what is
// too much is counted and left out, and said in the node's own log.
type Reporter struct {
	node    string
	publish func(context.Context, Event) error
	log     *slog.Logger
	queue   chan Event
	lost    atomic.Int64
	mu      sync.Mutex
	strange *rate.Limiter
	seen    *lru.Cache[reported, *quota]
}

type reported struct {
	tenant shardmap.TenantID
	action string
}

type quota struct {
	limit *rate.Limiter
	more  int
}

// NewReporter makes a reporter of events of this node. publish carries one
// event, and returns nil when it is safe; it is called by [Reporter.Run] alone.
func NewReporter(node string, publish func(context.Context, Event) error, log *slog.Logger) *Reporter {
	seen, _ := lru.New[reported, *quota](reporters) // fails for a size below 1 only
	return &Reporter{node: node, publish: publish, log: log, queue: make(chan Event, queued), seen: seen,
		strange: rate.NewLimiter(rate.Every(strangerEvery), strangerBurst)}
}

// Report takes an event, and returns at once.
func (r *Reporter) Report(e Event) {
	e.Node = r.node
	var ok bool
	if e.More, ok = r.admit(reported{e.Tenant, e.Action}); !ok {
		return
	}
	select {
	case r.queue <- e.Clip():
	default:
		r.lost.Add(1)
	}
}

func (r *Reporter) admit(what reported) (more int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q, known := r.seen.Get(what)
	if !known {
		if what.action == ActionKeyRefused && !r.strange.Allow() {
			return 0, false
		}
		q = &quota{limit: rate.NewLimiter(rate.Every(eventEvery), eventBurst)}
		r.seen.Add(what, q)
	}
	if !q.limit.Allow() {
		q.more++
		return 0, false
	}
	more, q.more = q.more, 0
	return more, true
}

// Run publishes events until ctx ends, and then, within bounds, those that wait.
func (r *Reporter) Run(ctx context.Context) {
	for {
		select {
		case e := <-r.queue:
			if !r.carry(ctx, e) {
				r.flush(context.WithoutCancel(ctx), e)
				return
			}
		case <-ctx.Done():
			r.flush(context.WithoutCancel(ctx))
			return
		}
		if lost := r.lost.Swap(0); lost > 0 {
			r.log.Error("audit events were lost: too many waited for NATS", "events", lost)
		}
	}
}

// carry tries until the event is safe; false when ctx ended before.
func (r *Reporter) carry(ctx context.Context, e Event) bool {
	const least, most = 100 * time.Millisecond, 10 * time.Second
	said := false
	for pause := least; ; pause = min(2*pause, most) {
		err := r.publish(ctx, e)
		if err == nil {
			return true
		}
		if !said && ctx.Err() == nil {
			r.log.Warn("audit event cannot be published, trying again", "action", e.Action, "tenant", e.Tenant, "error", err)
			said = true
		}
		timer := time.NewTimer(pause/2 + rand.N(pause/2)) //nolint:gosec // jitter
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false
		}
	}
}

func (r *Reporter) flush(ctx context.Context, first ...Event) {
	ctx, cancel := context.WithTimeout(ctx, flushFor)
	defer cancel()
	for _, e := range first {
		if r.publish(ctx, e) != nil {
			r.left(len(first) + len(r.queue))
			return
		}
	}
	for {
		select {
		case e := <-r.queue:
			if r.publish(ctx, e) != nil {
				r.left(1 + len(r.queue))
				return
			}
		default:
			return
		}
	}
}

func (r *Reporter) left(events int) {
	r.log.Error("audit events were lost: NATS was away to the end", "events", events)
}
