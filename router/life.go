package router

import (
	"context"
	"fmt"
	"time"
)

// forgetAfter is how long an idle tenant is remembered; it is worth a read of its
// secret.
const forgetAfter = 10 * time.Minute

// reap closes connections that were idle for too long: one goroutine for all
// tenants, and each of its rounds looks at nothing that is not due.
func (r *Router) reap(ctx context.Context) {
	defer close(r.stopped)
	tick := time.NewTicker(max(r.cfg.IdleAfter/4, time.Millisecond))
	defer tick.Stop()
	sweep := time.NewTicker(forgetAfter / 4)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.reapIdle(time.Now().Add(-r.cfg.IdleAfter))
		case <-sweep.C:
			r.forget(time.Now().Add(-forgetAfter))
		}
	}
}

func (r *Router) reapIdle(before time.Time) {
	r.mu.Lock()
	var gone []*conn
	for _, s := range r.servers {
		for f := s.idle.Front(); f != nil && f.Value.(*conn).free.Before(before); f = s.idle.Front() {
			c := f.Value.(*conn)
			r.drop(c)
			gone = append(gone, c)
		}
	}
	r.stats.reaped.Add(uint64(len(gone)))
	if len(gone) > 0 {
		gone = append(gone, r.serve()...)
	}
	r.mu.Unlock()
	shut(gone)
}

func (r *Router) forget(before time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, t := range r.tenants {
		if t.open == 0 && t.busy == 0 && t.waiting == 0 && t.hold == nil && t.used.Before(before) {
			delete(r.tenants, id)
		}
	}
}

// Close refuses new requests, waits within ctx for those under way, and closes
// every connection; those still busy when ctx ends are cut off, and Close
// returns ctx's error. It may be called twice.
func (r *Router) Close(ctx context.Context) error {
	r.stop()
	<-r.stopped
	r.mu.Lock()
	var gone []*conn
	if !r.closing {
		r.closing = true
		for _, t := range r.tenants {
			if t.hold != nil {
				gone = append(gone, r.lift(t, false)...)
			}
			gone = append(gone, r.vacate(t, ErrClosed)...)
		}
		if r.open == 0 {
			r.announceEmpty()
		}
	}
	r.mu.Unlock()
	shut(gone)
	r.side.Wait() // r.stop ended what they wait for
	select {
	case <-r.empty:
		return r.awaitCleanUp(ctx)
	case <-ctx.Done():
	}
	r.mu.Lock()
	left := len(r.conns)
	for c := range r.conns {
		_ = c.wire.Close() // its user gets an error and gives it back
	}
	r.mu.Unlock()
	return fmt.Errorf("router: close: %d connections were cut off: %w", left, ctx.Err())
}

// announceEmpty tells Close that no connection is left. Called under mu.
func (r *Router) announceEmpty() {
	select {
	case <-r.empty:
	default:
		close(r.empty)
	}
}

// cleanUp has Close wait for what the driver still does, in the background and for
// seconds at most, about a connection that broke: it cancels the statement.
func (r *Router) cleanUp(c *conn) {
	if c.PG.IsClosed() {
		r.cleanups.Go(func() { <-c.PG.CleanupDone() })
	}
}

func (r *Router) awaitCleanUp(ctx context.Context) error {
	done := make(chan struct{})
	go func() { r.cleanups.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("router: close: broken connections are still being cleaned up: %w", ctx.Err())
	}
}
