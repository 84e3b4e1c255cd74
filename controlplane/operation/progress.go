package operation

import (
	"context"
	"sync"
	"time"
)

const progressEvery = 250 * time.Millisecond

// report is progress of a step.
type report struct {
	Progress
	step string
}

// reporter keeps the latest report and has it written at most every progressEvery.
type reporter struct {
	mu     sync.Mutex
	latest *report // not yet written; nil: nothing new
	news   chan struct{}
}

func newReporter() reporter { return reporter{news: make(chan struct{}, 1)} }

func (r *reporter) report(p report) {
	r.mu.Lock()
	r.latest = &p
	r.mu.Unlock()
	select {
	case r.news <- struct{}{}:
	default: // told already
	}
}

// take returns what is not yet written, for a journal write to bring along.
func (r *reporter) take() *report {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.latest
	r.latest = nil
	return p
}

// putBack undoes a take whose write failed.
func (r *reporter) putBack(p *report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.latest == nil {
		r.latest = p
	}
}

func (r *reporter) run(ctx context.Context, write func(report)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.news:
		}
		if p := r.take(); p != nil {
			write(*p)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(progressEvery):
		}
	}
}

// writeProgress never fails a step: what is lost, the next report makes good.
// A report that comes late for its step is dropped.
func (c *claim) writeProgress(p report) {
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
	defer cancel()
	_, _ = c.e.store.Pool().Exec(ctx, `update operations set progress = $3 where id = $1 and token = $2 and step = $4 and finished_at is null`,
		c.id, c.token, p.Progress, p.step)
}
