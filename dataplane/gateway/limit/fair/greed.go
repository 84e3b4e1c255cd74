package fair

import "time"

// greed tells whether a tenant takes more than a moment's rush of one place, and
// what it may have of a server while others are there.
//
// A server that works for one tenant with all of its processors lets everybody
// else wait for one, though nobody queues at the gate: most requests of the
// others find a processor soon, and the hundredth does not. So a greedy tenant
// may have as many requests under way as leave some of the server idle. How many
// that are is found out from below, since a flood is there at once, and finding
// out takes time.
type greed struct {
	greedy bool
	asOf   time.Duration
	area   float64 // place-seconds that it had, but for what is aside
	excess float64 // of these, what was beyond one place, of late
	room   *room   // nil: it never was greedy while others were there

	moved   time.Duration // when a request of its was let pass or left last
	aside   int           // its requests under way that take long: those that began before asideAt
	asideAt time.Duration
}

const (
	// rush is how many place-seconds beyond one place are nobody's business: a page
	// that asks for ten things at once is no flood.
	rush = 0.03
	// forgive is how many of them are forgotten in a second in which one place was
	// enough, mostExcess how many there are at most. Who floods again soon does not
	// begin with a rush.
	forgive    = 0.25
	mostExcess = 5
	// asideAfter is how long nothing may come or go at a tenant that is held back
	// until what it has under way is not counted any more: a report of half a minute
	// is no reason to let a page wait for as long, and nothing is learnt from it.
	asideAfter = 500 * time.Millisecond
)

// see notes that f is there.
func (g *Gate) see(f *Flow, now time.Duration) {
	f.note(now)
	g.recent.add(f, now)
	if f.underWay <= 1 && f.queue.len == 0 {
		g.modest.add(f, now)
	}
}

// modestThere tells whether somebody but f was content with a place or two of
// late, and has none waiting. Where all want more, the queue shares the places out.
func (g *Gate) modestThere(f *Flow, now time.Duration) bool {
	for i := range g.modest {
		if s := &g.modest[i]; s.other(f, now) && s.flow.queue.len == 0 {
			return true
		}
	}
	return false
}

// othersThere tells whether somebody but f was seen of late.
func (g *Gate) othersThere(f *Flow, now time.Duration) bool {
	return g.recent[0].other(f, now) || g.recent[1].other(f, now)
}

// sight is when a flow was seen last.
type sight struct {
	flow *Flow
	at   time.Duration
}

// seen is when those two were seen that were seen last.
type seen [2]sight

func (s *seen) add(f *Flow, now time.Duration) {
	if s[0].flow != f {
		s[1] = s[0]
	}
	s[0] = sight{f, now}
}

// othersFor is how long a tenant that is not there any more keeps others from having all places.
const othersFor = time.Second

func (s *sight) other(f *Flow, now time.Duration) bool {
	return s.flow != nil && s.flow != f && now-s.at < othersFor
}

// note takes note of what f had since the last time.
func (f *Flow) note(now time.Duration) {
	took := (now - f.asOf).Seconds()
	f.asOf = now
	f.area += took * float64(f.underWay-f.aside)
	switch {
	case f.underWay > 1:
		f.excess += took * float64(f.underWay-1)
	case f.queue.len > 0 && f.underWay == 1: // it would have more if it could
		f.excess += took
	case f.queue.len > 0: // it has nothing, and waits for others
	default:
		f.excess -= took * forgive
	}
	f.excess = min(max(f.excess, 0), mostExcess)
	f.greedy = f.excess >= rush || f.greedy && f.excess > 0
}

// pressed tells whether f is greedy while somebody modest is there.
func (g *Gate) pressed(f *Flow, now time.Duration) bool {
	f.note(now)
	if !f.greedy || !g.modestThere(f, now) {
		return false
	}
	if f.room == nil {
		f.room = &room{bound: 1}
	}
	return true
}

// half is what a tenant may have at most while others are there.
func (g *Gate) half(f *Flow) int {
	bound := (g.capacity.now() + 1) / 2
	if f.terms.Concurrency > 0 {
		bound = min(bound, f.terms.Concurrency)
	}
	return bound
}

// room finds how many requests of one tenant leave something of their server to
// others. Now and then two and a half times as many are let pass for a moment.
// How much more gets done then is how many the server can work on at once, or
// all that were under way; three quarters of that are the tenant's: of two
// processors one, of eight six. A tenant that wants less is not bounded by this,
// and one whose requests are so slow that nothing is learnt soon gets more by
// and by.
type room struct {
	bound   float64
	probing bool
	rest    time.Duration // no probe before that
	alone   float64       // what gets done in a second by one at once, as was seen before the probe

	begun bool // the phase: those of before are gone, down to its bound
	began time.Duration
	area  float64       // the tenant's, when it began
	done  int           // requests that left since
	hit   bool          // more wanted to pass
	used  time.Duration // when a request was let pass last
}

const (
	roomDone      = 64                     // requests that a phase has, at least
	roomFor       = 100 * time.Millisecond // that it lasts, at least
	roomProbeDone = 16                     // the same of a probe, which is in others' way
	roomProbeFor  = 30 * time.Millisecond
	roomAtMost    = 2 * time.Second  // that any of them lasts
	roomFew       = 16               // by then: fewer tell nothing
	roomEvery     = 30 * time.Second // between probes, when the last one said what there is
	roomProbe     = 2.5              // times the bound, at least three
	roomPart      = 0.75
	mostOfIt      = 0.75 // of those under way were of use: there may be room for still more
	noMore        = 1.15 // times the bound were: the server had no room before the probe either
)

// now is how many requests may be under way.
func (r *room) now() int {
	if r.probing {
		return int(max(3, roomProbe*r.bound))
	}
	return int(r.bound)
}

// pass notes that a request is let pass; area is the place-seconds that the tenant had so far.
func (r *room) pass(area float64, now time.Duration) {
	if now-r.used > roomAtMost { // the tenant was alone meanwhile, or content
		r.next(false)
	}
	r.used = now
	if !r.begun {
		r.begun, r.began, r.area = true, now, area
	}
}

// left counts a request, and ends the phase if it has seen enough. most is what the tenant may have.
func (r *room) left(area float64, most int, now time.Duration) {
	if !r.begun {
		return
	}
	r.done++
	age := now - r.began
	done, lasts := roomDone, roomFor
	if r.probing {
		done, lasts = roomProbeDone, roomProbeFor
	}
	if age < roomAtMost && (age < lasts || r.done < done) {
		return
	}
	under, rate := (area-r.area)/age.Seconds(), float64(r.done)/age.Seconds()
	probe := false
	switch {
	case r.done < roomFew:
		if r.hit {
			r.become(2*r.bound, most)
		}
	case r.probing:
		useful := min(under, rate/r.alone)
		found := useful < mostOfIt*under
		if !found && !r.hit { // it had all that it wanted, and nothing is known of what is beyond
			useful = max(useful, float64(r.now()))
		}
		if tooMany := r.bound > 1 && useful < noMore*r.bound; found && !tooMany {
			r.rest = now + roomEvery
		}
		r.become(roomPart*useful, most)
	case r.hit && int(r.bound) < most && now >= r.rest:
		r.alone = rate / under
		probe = true
	}
	r.next(probe)
}

// become leaves something to be tried out: who had all that it may could never be found to have too much.
func (r *room) become(bound float64, most int) { r.bound = max(1, min(bound, roomPart*float64(most))) }

func (r *room) next(probing bool) {
	r.probing, r.begun, r.done, r.hit = probing, false, 0, false
}
