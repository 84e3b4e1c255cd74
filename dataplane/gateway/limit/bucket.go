package limit

import (
	"math"
	"time"
)

// bucket is a token bucket of which this node has a part. With all of it, it is
// an exact token bucket.
type bucket struct {
	rate, burst float64 // of the tenant, over all nodes
	part        float64 // of both that is this node's; 0: nothing was said yet, so all
	tokens      float64
	at          time.Duration
}

func (b *bucket) share() float64 {
	if b.part == 0 {
		return 1
	}
	return b.part
}

// depth is the most it holds: one request at least, or nobody could ever pass.
func (b *bucket) depth() float64 { return max(1, b.burst*b.share()) }

func (b *bucket) perSecond() float64 { return b.rate * b.share() }

// become sets the tenant's limits. A bucket that had none is full.
func (b *bucket) become(rate, burst float64, now time.Duration) {
	b.fill(now)
	fresh := b.rate == 0
	b.rate, b.burst = rate, burst
	if fresh {
		b.tokens = b.depth()
	}
	b.tokens = min(b.tokens, b.depth())
}

// divide sets this node's part.
func (b *bucket) divide(part float64, now time.Duration) {
	if part == b.part {
		return
	}
	b.fill(now)
	b.part = part
	b.tokens = min(b.tokens, b.depth())
}

func (b *bucket) fill(now time.Duration) {
	if now > b.at {
		b.tokens = min(b.depth(), b.tokens+b.perSecond()*(now-b.at).Seconds())
		b.at = now
	}
}

func (b *bucket) full() bool { return b.tokens >= b.depth() }

// almost keeps rounding from making a request wait for a billionth of a token.
const almost = 1 - 1e-9

func (b *bucket) take(now time.Duration) bool {
	b.fill(now)
	if b.tokens < almost {
		return false
	}
	b.tokens--
	return true
}

func (b *bucket) giveBack() { b.tokens = min(b.depth(), b.tokens+1) }

// left is how many requests would pass now.
func (b *bucket) left() int { return int(max(0, b.tokens+1-almost)) }

// wait is how long until one would.
func (b *bucket) wait() time.Duration {
	if b.tokens >= almost || b.rate <= 0 {
		return 0
	}
	return time.Duration((1 - b.tokens) / b.perSecond() * float64(time.Second))
}

// reset is the seconds until it is full, rounded up.
func (b *bucket) reset() int {
	return int(math.Ceil((b.depth() - b.tokens) / b.perSecond()))
}
