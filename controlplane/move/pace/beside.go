package pace

import (
	"context"
	"fmt"
	"time"

	"github.com/freehold-db/freehold/internal/sleep"
)

// Mode is how a copy behaves beside others who work on its servers.
type Mode string

const (
	// Considerate has a copy do one thing at a time for every two processors,
	// and rest as long as it works, while anybody else works on one of its
	// servers. The default.
	Considerate Mode = "considerate"
	// Full has it go on as if nobody else were there.
	Full Mode = "full"
)

// Known tells whether there is such a mode.
func (m Mode) Known() bool { return m == Considerate || m == Full }

const (
	// calmAfter is how long nobody else may have been seen until a copy goes on as if alone.
	calmAfter = 3 * time.Second
	// A rest is as long as the work before it. Work is counted up to worthARest,
	// so that a row at a time does not mean a timer for each; restMost bounds one rest.
	worthARest = time.Millisecond
	restMost   = 250 * time.Millisecond
	// widthUnknown is how many things a copy does at once beside others, on servers that don't tell their processors.
	widthUnknown = 2
)

// width is how many things a copy does at once beside others, on a server of so many processors.
func width(processors int) int {
	if processors == 0 {
		return widthUnknown
	}
	return max(1, processors/2)
}

// SetMode changes how the copy behaves; what is under way goes on as it began. "" is Considerate.
func (p *Pace) SetMode(m Mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = m
	p.turned()
}

// see takes what a look at the servers has shown: on which of them others
// work ("": on none), and how many things may be done at once beside them.
func (p *Pace) see(server string, width int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case server != "":
		p.beside, p.atOnce, p.besideAt = server, width, time.Now()
	case time.Since(p.besideAt) > calmAfter:
		p.beside = ""
	}
	p.turned()
}

// considerate tells whether the copy is to mind others now. p.mu is held.
func (p *Pace) considerate() bool { return p.mode != Full && p.beside != "" }

// Gentle tells whether the copy is to mind others now: that what can't be held
// back once it has begun is to be begun with one processor.
func (p *Pace) Gentle() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.considerate()
}

// turned has everybody look again who waits for a turn. p.mu is held.
func (p *Pace) turned() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// Turn waits until one thing more may be under way. end, which must be called, says that it is over.
func (p *Pace) Turn(ctx context.Context) (end func(), err error) {
	if p == nil {
		return func() {}, nil
	}
	for ctx.Err() == nil {
		p.mu.Lock()
		if !p.considerate() || p.working < p.atOnce {
			p.working++
			p.mu.Unlock()
			return p.endTurn, nil
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return nil, fmt.Errorf("wait for the copy's turn: %w", ctx.Err())
}

func (p *Pace) endTurn() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.working--
	p.turned()
}

// Rest waits as long as the work took, if the copy is to mind others now.
func (p *Pace) Rest(ctx context.Context, worked time.Duration) error {
	if !p.Gentle() {
		return ctx.Err()
	}
	p.note(&p.rested)
	if err := sleep.For(ctx, min(worked, restMost)); err != nil {
		return fmt.Errorf("rest from the copy: %w", err)
	}
	return nil
}

// Stream is one of the streams of a copy, which rests between its pieces. It is for one goroutine.
type Stream struct {
	pace  *Pace
	since time.Time // of the work under way
}

// Stream makes one, whose work begins now.
func (p *Pace) Stream() *Stream { return &Stream{p, time.Now()} }

// Take waits until n bytes more may be copied, after a rest from those before.
func (s *Stream) Take(ctx context.Context, n int) error {
	if s.pace == nil {
		return nil
	}
	begun := time.Now()
	worked := begun.Sub(s.since)
	if worked >= worthARest {
		if err := s.pace.Rest(ctx, worked); err != nil {
			return err
		}
	}
	err := s.pace.Take(ctx, n)
	if s.since = time.Now(); worked < worthARest {
		s.since = s.since.Add(-worked) // it is not rested from yet; what was waited for was no work
	}
	return err
}
