package fair

import (
	"math"
	"time"
)

// capacity finds how many requests the node serves well at once, whatever it
// is that they wait for: its processors, Postgres' or a lock.
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
	least, most float64
	bound       float64
	hit         bool // somebody waited for a place in this phase

	id       int // of the phase; never 0
	probing  bool
	drained  bool // the crowd from before the probe has gone, down to the probe's own bound
	began    time.Duration
	logs     float64 // sum over the phase's samples
	samples  int
	before   float64 // mean of the phase before the probe
	probed   time.Duration
	probedAt float64 // the bound at the last probe
	still    bool    // the last probe said: no further
}

const (
	initially    = 32
	phaseFor     = 200 * time.Millisecond // at least, and
	phaseSamples = 48
	probeFor     = 100 * time.Millisecond // at least, and phaseSamples, but
	probeAtMost  = 2 * time.Second
	probeEvery   = 5 * time.Second // at most, and sooner when the bound grew by
	probeGrowth  = 1.25
	quicker      = 0.8 // of the time before: half as many helped
	shrink       = 0.8
)

func newCapacity(least, most int) capacity {
	c := capacity{least: float64(least), most: float64(most), id: 1}
	c.bound = min(max(initially, c.least), c.most)
	c.probedAt = c.bound
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
		c.samples++
	}
	c.turn(now)
}

// turn ends the phase if it has seen enough.
func (c *capacity) turn(now time.Duration) {
	age := now - c.began
	if c.probing {
		switch {
		case c.samples >= phaseSamples && age >= probeFor:
			c.judge(math.Exp(c.logs/float64(c.samples)-c.before) <= quicker)
			c.next(false, now)
		case age >= probeAtMost: // nothing was learnt
			c.next(false, now)
		}
		return
	}
	if c.samples < phaseSamples || age < phaseFor {
		return
	}
	switch {
	case !c.hit:
		c.next(false, now)
	case c.bound > c.least && (now-c.probed >= probeEvery || c.bound >= c.probedAt*probeGrowth):
		c.before = c.logs / float64(c.samples)
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
		c.bound = max(c.least, c.bound*shrink)
		c.probedAt = c.bound
	}
}

func (c *capacity) next(probing bool, now time.Duration) {
	c.id++
	c.probing, c.drained = probing, false
	c.began, c.logs, c.samples, c.hit = now, 0, 0, false
}
