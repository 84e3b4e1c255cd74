package fair

import "time"

type counts struct{ shed, gone uint64 }

// Stats is what a gate has now, and what it did since it was made.
type Stats struct {
	Bound    int    // requests that may be under way now
	UnderWay int    // requests that hold a place
	Waiting  int    // requests that wait for one
	Flows    int    // tenants with waiting requests
	Shed     uint64 // requests refused
	Gone     uint64 // clients that went away while they waited
}

// Stats returns a snapshot.
func (g *Gate) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Stats{Bound: g.capacity.now(), UnderWay: g.underWay, Waiting: g.waiting, Flows: len(g.backlog), Shed: g.counts.shed, Gone: g.counts.gone}
}

// Use is what one tenant had.
type Use struct {
	Spent   time.Duration // over all its requests, the time they held a place
	Refused uint64
	Idle    bool // nothing of it is under way or waits
}

// Use returns what f had since it was made.
func (g *Gate) Use(f *Flow) Use {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Use{Spent: f.spent, Refused: f.refused, Idle: f.underWay == 0 && f.yielded == 0 && f.queue.len == 0}
}
