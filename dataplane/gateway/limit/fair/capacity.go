package fair

import (
	"math"
	"time"
)

// capacity finds how many requests the node serves well at once, whatever it
// is that they wait for: its processors, Postgres' or a lock. The same is found
// for a tenant that asks for much: see [Gate.pressed].
//
// By Little's law the number under way is throughput × time. Up to the knee,
// more at once means more throughput at the same time each; beyond it, the same
// throughput at more time each. On which side the node is cannot be read off
// the times alone, for a time may be long because the tenants ask for more. So
// it is tried out: now and then, while requests wait, only half as many are let
// pass for a moment. If that makes them quicker, the bound was beyond the knee
// and shrinks; if not, it was not the number that made them slow, and the bound
// may grow. Gradient limiters compare with the quickest time ever seen or with
// a mean that drifts (Netflix' concurrency-limits, Envoy's adaptive concurrency,
// which re-measures the former in the same way); here each comparison is with a
// moment ago, under the same mix of requests.
//
// Times are averaged as logarithms, since one slow report must not weigh as
// much as a thousand look-ups.
type capacity struct {
	habits
	least, most float64
	bound       float64
	hit         bool // somebody waited for a place in this phase

	id       int // of the phase; never 0
	probing  bool
	drained  bool // the crowd from before the probe has gone, down to the probe's own bound
	began    time.Duration
	logs     float64 // sum over the phase's samples
	seen     int     // of these
	before   float64 // mean of the phase before the probe
	probed   time.Duration
	probedAt float64 // the bound at the last probe
	still    bool    // the last probe said: no further
}

// habits are how a bound is tried out.
type habits struct {
	quicker float64       // half as many helped if they took no more than that of the time before
	shrink  float64       // what is left of a bound then
	every   time.Duration // between probes, at most; they are sooner when the bound grew by probeGrowth
	atMost  time.Duration // that a probe lasts
	samples int           // that a phase has, at least
	again   bool          // after a probe that helped comes the next one at once
}

var (
	// A node's bound is moved with care, for what is above it waits.
	ofNode = habits{quicker: 0.8, shrink: 0.8, every: 5 * time.Second, atMost: 2 * time.Second, samples: 48}
	// A tenant's is found quickly, as a flood begins at once, and on better
	// evidence, since what is wrong costs throughput.
	ofTenant = habits{quicker: 0.6, shrink: 0.5, every: 10 * time.Second, atMost: time.Second, samples: 96, again: true}
)

const (
	initially   = 32
	phaseFor    = 200 * time.Millisecond // at least
	probeFor    = 100 * time.Millisecond // at least
	probeGrowth = 1.25
)

func newCapacity(h habits, least, most int) capacity {
	c := capacity{habits: h, least: float64(least), most: float64(most), id: 1}
	c.bound = min(max(initially, c.least), c.most)
	c.probedAt = c.bound
	if c.again {
		c.probed = -c.every
	}
	return c
}

// now is how many requests may be under way.
func (c *capacity) now() int {
	if c.probing {
		return int(max(c.least, c.bound/2))
	}
	return int(c.bound)
}

// phase is what a request that is let pass now is a sample of. That a probe
// lets the first one pass means that no more than it wants are under way.
func (c *capacity) phase(now time.Duration) int {
	if c.probing && !c.drained {
		c.drained, c.began = true, now
	}
	return c.id
}

// left takes the time that a request of a phase took.
func (c *capacity) left(phase int, seconds float64, now time.Duration) {
	if phase == c.id {
		c.logs += math.Log(seconds)
		c.seen++
	}
	c.turn(now)
}

// turn ends the phase if it has seen enough.
func (c *capacity) turn(now time.Duration) {
	age := now - c.began
	if c.probing {
		switch {
		case c.seen >= c.samples && age >= probeFor:
			c.judge(math.Exp(c.logs/float64(c.seen)-c.before) <= c.quicker)
			c.next(false, now)
		case age >= c.atMost: // nothing was learnt
			c.next(false, now)
		}
		return
	}
	if c.seen < c.samples || age < phaseFor {
		return
	}
	switch {
	case !c.hit:
		c.next(false, now)
	case c.bound > c.least && (now-c.probed >= c.every || c.bound >= c.probedAt*probeGrowth):
		c.before = c.logs / float64(c.seen)
		c.probed, c.probedAt = now, c.bound
		c.next(true, now)
	default:
		if !c.still || c.bound <= c.least {
			c.bound = min(c.most, c.bound+math.Sqrt(c.bound))
		}
		c.next(false, now)
	}
}

// judge draws the probe's conclusion.
func (c *capacity) judge(helped bool) {
	c.still = helped
	if helped {
		c.bound = max(c.least, c.bound*c.shrink)
		c.probedAt = c.bound
		if c.again {
			c.probed = -c.every
		}
	}
}

func (c *capacity) next(probing bool, now time.Duration) {
	c.id++
	c.probing, c.drained = probing, false
	c.began, c.logs, c.seen, c.hit = now, 0, 0, false
}
