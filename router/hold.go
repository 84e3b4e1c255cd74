package router

import (
	"container/list"
	"context"
	"fmt"
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// hold keeps a tenant's requests at the gate while its placement flips. It
// ends at its release, a moment after a placement newer than epoch came, or when
// its bound has passed; never is it needed for truth. Guarded by Router.mu.
type hold struct {
	id      string
	epoch   shardmap.Epoch
	until   time.Time // the bound's
	bound   *time.Timer
	over    chan struct{} // closed when the hold ends
	drained chan struct{} // closed when no request of the tenant is under way
	quiet   bool          // drained is closed
	// waiting are the requests at the gate, by when they came (time.Time), the oldest first.
	waiting *list.List
	// seen is what requests saw of the hold; Longest is that of those that left before its end.
	seen shardmap.HoldReport
}

const (
	// newsFor is how long a hold waits for its release when its news came
	// another way: the new place is opened in that time, and who comes before is refused there.
	newsFor = 100 * time.Millisecond
	// ledFor is how long a connection is used that a PgBouncer leads to the new place.
	ledFor = time.Second
)

func (h *hold) drain() {
	if !h.quiet {
		h.quiet = true
		close(h.drained)
	}
}

// Hold keeps new requests of a tenant back, closes its idle connections but one
// of each login, and
// returns a channel that is closed when no request of it is under way. A hold
// for an epoch that is history holds nothing; one that is there already, by its
// ID, is not prolonged; another ID takes its place.
func (r *Router) Hold(h shardmap.Hold) (drained <-chan struct{}) {
	known, _ := r.shards.Known(h.Tenant)
	r.mu.Lock()
	t := r.tenant(h.Tenant)
	gone := r.advance(t, known.Epoch)
	done := make(chan struct{})
	switch {
	case t.epoch > h.Epoch || h.For <= 0 || r.closing:
		close(done)
		drained = done
	case t.hold != nil && t.hold.id == h.ID:
		drained = t.hold.drained
	default:
		gone = append(gone, r.holdTenant(t, h, done)...)
		drained = done
	}
	r.mu.Unlock()
	shut(gone)
	return drained
}

func (r *Router) holdTenant(t *tenant, h shardmap.Hold, drained chan struct{}) (gone []*conn) {
	next := &hold{id: h.ID, epoch: h.Epoch, over: make(chan struct{}), drained: drained, waiting: list.New()}
	if was := t.hold; was != nil { // who waits at the gate waits on
		was.bound.Stop()
		next.over, next.waiting, next.seen = was.over, was.waiting, was.seen
	} else {
		r.stats.holds.Add(1)
	}
	patience := min(h.For, r.cfg.HoldFor)
	next.until = time.Now().Add(patience)
	next.bound = time.AfterFunc(patience, func() { r.liftIf(t, next) })
	t.hold = next
	if t.busy == 0 {
		next.drain()
	}
	for _, p := range t.pools {
		if p != nil && p.kept == nil {
			p.kept = r.popIdle(p)
		}
	}
	return r.vacate(t, errHeld)
}

// Release ends the hold that it names, if there is one, and reports what
// requests saw of it; also if it was the last that ended, by whatever. Of any
// other the report is empty. The placement that came with it is known already.
func (r *Router) Release(release shardmap.Release) shardmap.HoldReport {
	r.mu.Lock()
	t := r.tenants[release.Tenant]
	if t == nil {
		r.mu.Unlock()
		return shardmap.HoldReport{ID: release.ID}
	}
	var gone []*conn
	if t.hold != nil && t.hold.id == release.ID {
		gone = r.lift(t, release.Follow && release.Placement != nil && release.Placement.Epoch == t.epoch)
	}
	seen := t.seen
	r.mu.Unlock()
	shut(gone)
	if seen.ID != release.ID {
		return shardmap.HoldReport{ID: release.ID}
	}
	return seen
}

func (r *Router) liftIf(t *tenant, h *hold) {
	r.mu.Lock()
	var gone []*conn
	if t.hold == h {
		gone = r.lift(t, false)
	}
	r.mu.Unlock()
	shut(gone)
}

// expectRelease bounds t's hold now that its placement is a newer one.
func (t *tenant) expectRelease() {
	if time.Until(t.hold.until) > newsFor {
		t.hold.until = time.Now().Add(newsFor)
		t.hold.bound.Reset(newsFor)
	}
}

// lift ends t's hold. led: the PgBouncer of the place where it was leads who is
// logged in to where t lives now. Called under mu.
func (r *Router) lift(t *tenant, led bool) (gone []*conn) {
	t.hold.bound.Stop()
	close(t.hold.over)
	t.seen = t.hold.seen
	t.seen.ID = t.hold.id
	if oldest := t.hold.waiting.Front(); oldest != nil {
		t.seen.Longest = max(t.seen.Longest, waited(oldest))
	}
	t.hold = nil
	for _, p := range t.pools {
		if p != nil && p.kept != nil {
			gone = append(gone, r.goOn(p, led)...)
		}
	}
	return gone
}

// goOn has the connection that a pool kept during a hold be used again: where
// it was made, if nothing came of the hold; or led to the new place, which
// spares the first requests there a login while it is warmed by theirs.
func (r *Router) goOn(p *pool, led bool) (gone []*conn) {
	c := p.kept
	p.kept = nil
	switch {
	case c.outdated():
		r.drop(c)
		return append(r.serve(), c)
	case c.Placement.Epoch == p.of.epoch && !r.closing:
	case c.Placement.Epoch+1 == p.of.epoch && led && !r.closing:
		c.Placement.Epoch = p.of.epoch // its shard stays that of the PgBouncer
		c.led = time.Now().Add(ledFor)
		r.startNew(c)
	default:
		r.drop(c)
		return append(r.serve(), c)
	}
	return r.park(c)
}

// outlived tells whether a connection was led to another place some time ago:
// one that is made there is to take its place.
func (c *conn) outlived() bool { return !c.led.IsZero() && time.Now().After(c.led) }

// waited is for how long a request has been at the gate.
func waited(at *list.Element) time.Duration {
	came, _ := at.Value.(time.Time)
	return time.Since(came)
}

// gate lets a request of a tenant pass, after its hold if there is one. until
// is when the request's patience ends, over all holds that it meets; the first sets it.
func (r *Router) gate(ctx context.Context, tenant shardmap.TenantID, until *time.Time) error {
	r.mu.Lock()
	t := r.tenants[tenant]
	if t == nil || t.hold == nil {
		r.mu.Unlock()
		return nil
	}
	if t.hold.waiting.Len() >= r.cfg.HeldMax {
		r.mu.Unlock()
		r.stats.busy.Add(1)
		return fmt.Errorf("tenant %s: %w: %d requests are held while it is moved", tenant, ErrBusy, r.cfg.HeldMax)
	}
	came := t.hold.waiting.PushBack(time.Now())
	t.hold.seen.Held++
	over := t.hold.over
	r.mu.Unlock()
	r.stats.held.Add(1)
	defer r.stats.held.Add(-1)
	yield(ctx)

	if until.IsZero() {
		*until = time.Now().Add(r.cfg.HoldFor)
	}
	patience := time.NewTimer(time.Until(*until))
	defer patience.Stop()
	var err error
	select {
	case <-over:
		return nil
	case <-patience.C:
		err = fmt.Errorf("tenant %s: %w: held for %v", tenant, ErrHoldExpired, r.cfg.HoldFor)
	case <-ctx.Done():
		err = fmt.Errorf("tenant %s: %w: %w", tenant, ErrHoldExpired, ctx.Err())
	}
	r.mu.Lock()
	if t.hold != nil && t.hold.over == over {
		t.hold.seen.Longest = max(t.hold.seen.Longest, waited(came))
		t.hold.waiting.Remove(came)
	}
	r.mu.Unlock()
	return err
}
