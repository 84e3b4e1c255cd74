// Package pace has a copy go no faster than it was asked to, slower while one
// of its servers, or who follows one of them, has trouble keeping up, and
// considerately while others work there.
//
// Import law: of this module, pace imports internal packages only.
package pace

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/freehold-db/freehold/internal/sleep"
)

const (
	// Least is how many bytes a second pass whatever the load: a copy that
	// stands still keeps its snapshot, and its WAL, for as long.
	Least = 4 << 20
	// burst is what may pass at once. A small tenant's copy is that and no more.
	burst = 8 << 20
	// shown is how long a wait is told of after it: waits are short and many.
	shown = 3 * time.Second
	// readShare of the bytes that are only read to be compared count: no network, no writes.
	readShare = 4
)

// Pace is one copy's. A nil *Pace holds nothing back. All methods are safe for concurrent use.
type Pace struct {
	asked, load *rate.Limiter

	mu                sync.Mutex
	taken             int64 // since the last look
	reason            string
	waitedFor, waited time.Time // for the rate asked for, for the load
	mode              Mode
	beside            string    // a server where others work; "": nobody does
	besideAt          time.Time // when they were last seen
	atOnce            int       // things that may be under way beside them
	working           int       // things under way
	changed           chan struct{}
	rested            time.Time
}

// New makes a pace that goes as fast as the load allows.
func New() *Pace {
	return &Pace{asked: rate.NewLimiter(rate.Inf, burst), load: rate.NewLimiter(rate.Inf, burst), changed: make(chan struct{})}
}

// SetMax changes the rate asked for; 0: none. What waits already goes on as it was.
func (p *Pace) SetMax(max int64) {
	limit := rate.Inf
	if max > 0 {
		limit = rate.Limit(max)
	}
	p.asked.SetLimit(limit)
	p.asked.SetBurst(int(min(float64(limit)/4+1, burst))) // a quarter of a second at once
}

// Take waits until n bytes more may be copied.
func (p *Pace) Take(ctx context.Context, n int) error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	p.taken += int64(n)
	p.mu.Unlock()
	if err := p.wait(ctx, p.asked, n, &p.waitedFor); err != nil {
		return err
	}
	return p.wait(ctx, p.load, n, &p.waited)
}

// Look waits until n bytes more may be read to be compared. The rate asked for does not bind that.
func (p *Pace) Look(ctx context.Context, n int64) error {
	if p == nil {
		return nil
	}
	return p.wait(ctx, p.load, int(n/readShare), &p.waited)
}

// wait takes n from the limiter, and notes in last when it had to wait.
func (p *Pace) wait(ctx context.Context, from *rate.Limiter, n int, last *time.Time) error {
	for n > 0 && ctx.Err() == nil {
		some := min(n, from.Burst())
		turn := from.ReserveN(time.Now(), some)
		if !turn.OK() {
			continue // it became more than may pass at once: somebody wants the copy slower
		}
		n -= some
		wait := turn.Delay()
		if wait == 0 {
			continue
		}
		p.note(last)
		if err := sleep.For(ctx, wait); err != nil {
			turn.Cancel()
			return fmt.Errorf("wait for the copy's turn: %w", err)
		}
		p.note(last)
	}
	return ctx.Err()
}

func (p *Pace) note(last *time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*last = time.Now()
}

// Waiting says what the copy waits for, or did a moment ago; "" if for nothing.
func (p *Pace) Waiting() string {
	if p == nil {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case time.Since(p.waited) < shown && p.reason != "":
		return fmt.Sprintf("%s; the copy goes at %s until that is better", p.reason, perSecond(float64(p.load.Limit())))
	case time.Since(p.waitedFor) < shown && p.asked.Limit() < rate.Inf:
		return "so as to copy no more than the " + perSecond(float64(p.asked.Limit())) + " asked for"
	case time.Since(p.rested) < shown && p.considerate():
		return "now and then, for others who work on " + p.beside + " (tenant-ops op pace OP --pace full: for nobody)"
	}
	return ""
}

func perSecond(v float64) string {
	if v < 10e6 {
		return fmt.Sprintf("%.1f MB/s", v/1e6)
	}
	return fmt.Sprintf("%.0f MB/s", v/1e6)
}

// adapt sets the rate that the load allows, from what was taken in the time
// since the last look and why that is too much ("": it isn't).
func (p *Pace) adapt(since time.Duration, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	observed := float64(p.taken) / since.Seconds()
	p.taken = 0
	if reason != "" {
		p.reason = reason
	}
	p.load.SetLimit(rate.Limit(next(float64(p.load.Limit()), observed, reason != "")))
}

// next halves the rate under load, and raises it slowly when there is none,
// until it binds no more: many who copy share a server that way without
// knowing of each other.
func next(limit, observed float64, loaded bool) float64 {
	const free = float64(rate.Inf)
	switch {
	case loaded:
		return max(Least, min(limit, observed)/2)
	case limit >= free:
		return free
	case limit > 4*observed && limit > 1e9:
		return free
	}
	return min(limit*1.15, math.MaxFloat64/2)
}
