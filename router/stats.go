package router

import "sync/atomic"

// Stats is what a router has now, and what it did since it was made.
type Stats struct {
	Open    int   // connections open or being opened
	Idle    int   // of those, idle
	Pools   int   // tenants remembered
	Waiting int64 // requests waiting for a connection
	Held    int64 // requests held during a cutover

	Dials      uint64 // connections tried to open
	DialErrors uint64 // of those, in vain
	Stale      uint64 // idle connections found dead when they were wanted
	Evicted    uint64 // idle connections closed to make room for another tenant
	Reaped     uint64 // idle connections closed for their age
	Refused    uint64 // attempts turned away or cut off, to be tried again
	Retries    uint64 // further attempts
	Busy       uint64 // requests that found a bound exhausted
	Unknown    uint64 // writes whose outcome is unknown
	Holds      uint64 // cutovers that held requests
}

type counters struct {
	waiting, held                                                                     atomic.Int64
	dials, dialErrors, stale, evicted, reaped, refused, retries, busy, unknown, holds atomic.Uint64
}

// Stats returns a snapshot.
func (r *Router) Stats() Stats {
	r.mu.Lock()
	open, pools, idle := r.open, len(r.tenants), 0
	for _, s := range r.servers {
		idle += s.idle.Len()
	}
	r.mu.Unlock()
	s := &r.stats
	return Stats{
		Open: open, Idle: idle, Pools: pools, Waiting: s.waiting.Load(), Held: s.held.Load(),
		Dials: s.dials.Load(), DialErrors: s.dialErrors.Load(), Stale: s.stale.Load(), Evicted: s.evicted.Load(),
		Reaped: s.reaped.Load(), Refused: s.refused.Load(), Retries: s.retries.Load(), Busy: s.busy.Load(),
		Unknown: s.unknown.Load(), Holds: s.holds.Load(),
	}
}
