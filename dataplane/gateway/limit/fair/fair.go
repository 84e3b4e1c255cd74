// Package fair decides which request a busy node serves next, and which it
// refuses. So many requests are served at once as the node has been seen to
// serve well ([Config.Least] to [Config.Most], see capacity); those beyond wait
// in a queue per tenant.
//
// Which queue is next follows start-time fair queueing (Goyal, Vin, Cheng:
// "Start-Time Fair Queueing", SIGCOMM 1996) in the form for a server that works
// on several requests at a time, SFQ(D) (Jin, Chase, Kaur: "Interposed
// Proportional Sharing for a Storage Service Utility", SIGMETRICS 2004). What a
// tenant is charged is the time that its requests held a place, divided by its
// weight; that is known only at their end, so that each is charged at its
// tenant's mean and put right afterwards. A tenant of slow requests therefore
// does not get more of the node than one of quick ones.
//
// On top of that, a tenant may have no more than half of the places while
// others are being served, and three quarters while it is alone: so there is a
// place at once for those whose requests are few, also when somebody's hang.
// And a tenant that takes more than a moment's rush leaves room at its server
// while somebody modest is there: see greed.
//
// A queue is bounded in number and in time. How long is controlled delay
// (Nichols, Jacobson: "Controlling Queue Delay", ACM Queue 2012; RFC 8289), in
// the variant for servers with adaptive LIFO (Maurer: "Fail at Scale", ACM
// Queue 2015), for each tenant by itself as in FQ-CoDel (RFC 8290): in a queue
// that is short now and then a request may wait QueueFor. What counts is how
// long its oldest has waited, not whether it empties: a crowd of clients who
// wait for their answers and ask again always leaves some waiting, each for a
// few milliseconds. A queue that has been long for an interval is none that a
// little patience will clear: there a request may wait QueueTarget only, and the
// newest is served first, since its client is the most likely to be still there.
//
// Import law: fair imports no other package of this module.
package fair

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Errors of [Gate.Enter]. After each of them nothing was executed.
var (
	// ErrConcurrent: the tenant has as many requests under way as it may, and too many wait already, or this one waited too long.
	ErrConcurrent = errors.New("the tenant has too many requests under way")
	// ErrOverloaded: the node is busy, and too many requests wait already, or this one waited too long.
	ErrOverloaded = errors.New("the node is overloaded")
)

// Config bounds a gate. All of it must be positive, and Least at most Most.
type Config struct {
	// Least and Most bound the requests that are served at once.
	Least, Most int
	// Waiting bounds the requests that wait, in all, WaitingPerTenant those of one tenant.
	Waiting, WaitingPerTenant int
	// QueueFor is the longest wait; QueueTarget that in a queue which does not become short any more.
	QueueFor, QueueTarget time.Duration
}

// A queue is short when its oldest has waited less than a part of QueueTarget,
// and a standing one when it has not been that for standingAfter.
const (
	shortPart     = 4
	standingAfter = 500 * time.Millisecond
)

// Gate lets requests pass. It is safe for concurrent use and has no goroutine.
type Gate struct {
	cfg  Config
	born time.Time

	mu       sync.Mutex // all below, and all of every Flow and Slot
	capacity capacity
	underWay int
	waiting  int
	virtual  float64            // SFQ's virtual time: the start tag of what was let pass last
	line     line               // flows of which a request may be let pass, the smallest start tag first
	backlog  map[*Flow]struct{} // flows with waiting requests
	recent   seen               // of all flows
	modest   seen               // of those that were content with few places then
	counts   counts
}

// New returns a gate.
func New(cfg Config) *Gate {
	return &Gate{cfg: cfg, born: time.Now(), capacity: newCapacity(cfg.Least, cfg.Most), backlog: map[*Flow]struct{}{}}
}

// Terms are what a tenant may have at this gate.
type Terms struct {
	// Weight is its share against other tenants'; at least 1.
	Weight int
	// Concurrency bounds its requests that are served at once; 0: the gate's bound alone.
	Concurrency int
}

// Flow is one tenant at a gate. The zero value is ready for use, at one gate.
type Flow struct {
	terms    Terms
	underWay int
	yielded  int           // requests that gave their places back and are still being served
	queue    queue         // waiting requests, the oldest first
	since    time.Duration // when the queue was last empty or short
	finish   float64       // SFQ's finish tag of the request let pass last
	start    float64       // the start tag of the next one
	floor    float64       // what start was at least when the flow was put into the line
	index    int           // in the line, plus 1; 0: not there
	mean     float64       // of the time its requests hold a place, in seconds; 0: none did
	spent    time.Duration // the time that places were held for it
	refused  uint64
	greed
}

// Slot is a request's place behind the gate. The zero value is ready for one Enter.
type Slot struct {
	gate    *Gate
	flow    *Flow
	began   time.Duration
	charged float64 // seconds
	sample  int     // the phase of the capacity's measurement it belongs to; 0: none
	pressed bool    // it was let pass while its flow was
	held    bool
	yielded bool
	// While waiting:
	arrived    time.Duration
	granted    chan error // holds one
	next, prev *Slot      // in the flow's queue
}

// Enter gives s a place, at once or after a wait. The time from here to Leave
// tells how busy the node is. The error is ErrConcurrent, ErrOverloaded or
// ctx's; it leaves nothing to be done. After nil, call Leave.
func (g *Gate) Enter(ctx context.Context, s *Slot, f *Flow, terms Terms) error {
	s.gate, s.flow = g, f
	g.mu.Lock()
	passed, err := g.arrive(s, terms, g.now())
	g.mu.Unlock()
	if passed || err != nil {
		return err
	}
	patience, look := time.NewTimer(g.cfg.QueueFor), time.NewTicker(lookEvery)
	defer patience.Stop()
	defer look.Stop()
	for waits := true; waits; {
		select {
		case err := <-s.granted:
			return err
		case <-look.C:
			g.look(s)
		case <-patience.C:
			waits = false
		case <-ctx.Done():
			err, waits = ctx.Err(), false
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case err := <-s.granted: // at the last moment
		return err
	default:
	}
	if err == nil {
		err = g.refusal(f)
		g.counts.shed++
		f.refused++
	} else {
		g.counts.gone++
	}
	g.forget(s)
	return err
}

// Leave gives the place back; a second time it does nothing.
func (s *Slot) Leave() {
	g := s.gate
	if g == nil {
		return
	}
	g.mu.Lock()
	if s.held {
		g.leave(s, g.now())
	}
	if s.yielded {
		s.yielded = false
		s.flow.yielded--
	}
	g.mu.Unlock()
}

// Yield gives the place back for good, while the request goes on: it waits for
// something that has nothing to do with how busy the node is, such as its
// tenant's move. It does nothing when too many of the tenant's requests did so.
func (s *Slot) Yield() {
	g := s.gate
	if g == nil {
		return
	}
	g.mu.Lock()
	if s.held && s.flow.yielded < g.cfg.WaitingPerTenant {
		s.sample, s.pressed = 0, false
		g.leave(s, g.now())
		s.yielded = true
		s.flow.yielded++
	}
	g.mu.Unlock()
}

// lookEvery is how often who waits longest of its tenant looks whether time
// alone has made room: that others were there is over, or what is under way takes long.
const lookEvery = 250 * time.Millisecond

func (g *Gate) look(s *Slot) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := s.flow; f.queue.front == s {
		now := g.now()
		g.enlist(f, now)
		g.serve(now)
	}
}

func (g *Gate) now() time.Duration { return time.Since(g.born) }

// arrive lets s pass or queues it; passed is false and err nil when it has to wait.
func (g *Gate) arrive(s *Slot, terms Terms, now time.Duration) (passed bool, err error) {
	f := s.flow
	f.terms = terms
	g.see(f, now)
	if f.queue.len == 0 && g.underWay < g.capacity.now() && g.mayPass(f, now) {
		f.since = now
		g.pass(s, max(g.virtual, f.finish), now)
		return true, nil
	}
	g.shed(f, now)
	if !g.room(f) {
		g.counts.shed++
		f.refused++
		return false, g.refusal(f)
	}
	if f.queue.len == 0 {
		f.since = now
		g.backlog[f] = struct{}{}
	}
	s.arrived, s.granted = now, make(chan error, 1)
	f.queue.push(s)
	g.waiting++
	g.enlist(f, now)
	return false, nil
}

// pass gives s a place at that start tag.
func (g *Gate) pass(s *Slot, start float64, now time.Duration) {
	f := s.flow
	f.note(now)
	f.moved = now
	s.held, s.began = true, now
	s.charged = max(f.mean, leastCharge)
	f.finish = start + s.charged/f.weight()
	g.virtual = max(g.virtual, start)
	f.underWay++
	g.underWay++
	s.sample, s.pressed = g.capacity.phase(now), g.pressed(f, now)
	if s.pressed {
		f.room.pass(f.area, now)
	}
}

// leave takes the place back, puts the charge right, and lets others pass.
func (g *Gate) leave(s *Slot, now time.Duration) {
	f, took := s.flow, now-s.began
	f.note(now)
	f.moved = now
	if f.aside > 0 && s.began < f.asideAt {
		f.aside--
	}
	s.held = false
	f.underWay--
	g.underWay--
	f.spent += took
	seconds := max(took.Seconds(), leastCharge)
	f.finish += (seconds - s.charged) / f.weight()
	if f.mean == 0 {
		f.mean = seconds
	} else {
		f.mean += (seconds - f.mean) / meanOver
	}
	if s.sample != 0 {
		g.capacity.left(s.sample, seconds, now)
	}
	if s.pressed {
		f.room.left(f.area, g.half(f), now)
	}
	g.enlist(f, now)
	g.serve(now)
}

// serve lets waiting requests pass while there are places.
func (g *Gate) serve(now time.Duration) {
	for len(g.line) > 0 && g.underWay < g.capacity.now() {
		f := g.line.pop()
		g.shed(f, now)
		if f.queue.len == 0 || !g.mayPass(f, now) {
			continue // it is enlisted again when one of its own leaves
		}
		s := f.queue.front
		if g.standing(f, now) {
			s = f.queue.back
		}
		g.unqueue(s)
		g.pass(s, f.start, now)
		s.granted <- nil
		g.enlist(f, now)
	}
	if len(g.line) > 0 {
		g.capacity.hit = true
	}
}

const (
	leastCharge = 50e-6 // seconds
	meanOver    = 16    // requests
)

func (f *Flow) weight() float64 { return float64(max(1, f.terms.Weight)) }

// enlist puts f where its next request's turn comes, if it has one that may be let pass.
func (g *Gate) enlist(f *Flow, now time.Duration) {
	if f.queue.len == 0 || !g.mayPass(f, now) {
		if f.index > 0 && f.queue.len == 0 {
			g.line.remove(f)
		}
		return
	}
	if f.index == 0 {
		f.floor = g.virtual
	}
	f.start = max(f.floor, f.finish)
	g.line.put(f)
}

// mayPass tells whether f may have one more place, if there is one.
func (g *Gate) mayPass(f *Flow, now time.Duration) bool {
	if g.othersThere(f, now) {
		bound := g.half(f)
		if g.pressed(f, now) {
			if f.underWay >= f.aside+f.room.now() && now-f.moved >= asideAfter {
				f.aside, f.asideAt, f.moved = f.underWay, now, now
			}
			bound = min(bound, f.aside+f.room.now())
			f.room.hit = f.room.hit || f.underWay >= bound
		}
		return f.underWay < bound
	}
	if f.terms.Concurrency > 0 && f.underWay >= f.terms.Concurrency {
		return false
	}
	if f.underWay < (3*g.capacity.now()+3)/4 {
		return true
	}
	g.capacity.hit = true // it alone could use more
	return false
}

// refusal says whose fault it is that f's requests wait.
func (g *Gate) refusal(f *Flow) error {
	if g.underWay < g.capacity.now() || f.terms.Concurrency > 0 && f.underWay >= f.terms.Concurrency {
		return ErrConcurrent
	}
	return ErrOverloaded
}
