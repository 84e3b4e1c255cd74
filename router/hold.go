package router

import (
	"container/list"
	"context"
	"fmt"
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// hold keeps a tenant's requests at the gate while its placement flips. It
// ends at its release, at a placement newer than epoch, or when its bound has
// passed; never is it needed for truth. Guarded by Router.mu.
type hold struct {
	id      string
	epoch   shardmap.Epoch
	bound   *time.Timer
	over    chan struct{} // closed when the hold ends
	drained chan struct{} // closed when no request of the tenant is under way
	quiet   bool          // drained is closed
	// waiting are the requests at the gate, by when they came (time.Time), the oldest first.
	waiting *list.List
	// seen is what requests saw of the hold; Longest is that of those that left before its end.
	seen shardmap.HoldReport
}

func (h *hold) drain() {
	if !h.quiet {
		h.quiet = true
		close(h.drained)
	}
}

// Hold keeps new requests of a tenant back, closes its idle connections, and
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
	next.bound = time.AfterFunc(min(h.For, r.cfg.HoldFor), func() { r.liftIf(t, next) })
	t.hold = next
	if t.busy == 0 {
		next.drain()
	}
	return r.vacate(t, errHeld)
}

// Release ends the hold with that ID, if there is one, and reports what
// requests saw of it; also if it was the last that ended, by whatever. Of any
// other the report is empty.
func (r *Router) Release(tenant shardmap.TenantID, id string) shardmap.HoldReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tenants[tenant]
	if t == nil {
		return shardmap.HoldReport{ID: id}
	}
	if t.hold != nil && t.hold.id == id {
		r.lift(t)
	}
	if t.seen.ID != id {
		return shardmap.HoldReport{ID: id}
	}
	return t.seen
}

func (r *Router) liftIf(t *tenant, h *hold) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.hold == h {
		r.lift(t)
	}
}

// lift ends t's hold. Called under mu.
func (r *Router) lift(t *tenant) {
	t.hold.bound.Stop()
	close(t.hold.over)
	t.seen = t.hold.seen
	t.seen.ID = t.hold.id
	if oldest := t.hold.waiting.Front(); oldest != nil {
		t.seen.Longest = max(t.seen.Longest, waited(oldest))
	}
	t.hold = nil
}

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
