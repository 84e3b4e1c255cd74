package limit

import (
	"context"
	"math"
	"time"

	"github.com/freehold-db/freehold/dataplane/gateway/limit/share"
)

const (
	// demandOver is the time over which demand is smoothed: what one request
	// makes of it, at a node that sees few, should not move rates around.
	demandOver = 400 * time.Millisecond
	// beyondChance is the square of how many standard deviations of requests
	// that come by chance make a change which is believed at once.
	beyondChance = 9
	// surveyEvery is the time between looks at all tenants.
	surveyEvery = 10 * time.Second
	// forgetAfter is how long a tenant without requests is remembered, at least.
	forgetAfter = time.Minute
)

// Run shares rates with the other nodes until ctx ends. Without it, a limiter
// reckons with Config.Nodes of them. Call it once.
func (l *Limiter) Run(ctx context.Context, link *share.Link) {
	link.Run(ctx,
		func(r share.Report) { l.hear(r, l.now()) },
		func() {
			now := l.now()
			if r, ok := l.tick(now); ok {
				link.Send(r)
			}
			if now-l.surveyed >= surveyEvery {
				l.survey(ctx, now)
			}
		})
}

// hear takes another node's report in, or the echo of this one's.
func (l *Limiter) hear(r share.Report, now time.Duration) {
	l.bookMu.Lock()
	l.book.Hear(r, now)
	l.bookMu.Unlock()
	for id := range r.Demand {
		l.mu.RLock()
		t := l.tenants[id]
		l.mu.RUnlock()
		if t != nil {
			t.divide(l, now)
		}
	}
}

// divide computes this node's part anew.
func (t *tenant) divide(l *Limiter, now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.active {
		t.bucket.divide(l.shareOf(t, now), now)
	}
}

// tick measures the demand since the last one, says what others need to know of
// it, and computes this node's parts.
func (l *Limiter) tick(now time.Duration) (report share.Report, ok bool) {
	elapsed := now - l.ticked
	l.ticked = now
	l.activeMu.Lock()
	active := l.active
	l.active = nil
	l.activeMu.Unlock()

	kept := active[:0]
	seen := make([]share.Demand, 0, len(active))
	for _, t := range active {
		d, still := t.measure(elapsed, now)
		if !still {
			continue
		}
		kept = append(kept, t)
		seen = append(seen, d)
	}
	l.bookMu.Lock()
	report, ok = l.book.Report(seen, now)
	l.bookMu.Unlock()
	for _, t := range kept {
		t.divide(l, now)
	}
	l.activeMu.Lock()
	l.active = append(kept, l.active...)
	l.activeMu.Unlock()
	return report, ok
}

// measure takes note of the requests since the last tick; still is false when
// the tenant has no demand worth speaking of any more and its bucket is full.
func (t *tenant) measure(elapsed, now time.Duration) (d share.Demand, still bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	seconds := max(elapsed.Seconds(), 1e-3)
	expected, came := t.demand*seconds, float64(t.came)
	weight := 1 - math.Exp(-seconds/demandOver.Seconds())
	if beyond(came, expected) {
		weight = 1
	}
	t.demand += weight * (came/seconds - t.demand)
	t.bucket.fill(now)
	if t.limits.Rate <= 0 || t.came == 0 && t.demand < t.limits.Rate/1000 && t.bucket.full() {
		t.active, t.demand = false, 0
	}
	t.came = 0
	return share.Demand{Tenant: t.id, Demand: t.demand, Rate: t.limits.Rate}, t.active
}

// beyond tells whether so many requests are another number than was expected by more than chance.
func beyond(came, expected float64) bool {
	off := came - expected
	return off*off > beyondChance*max(expected, 1)
}
