package bearer

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"
)

const (
	gateFor     = 2 * time.Second // longest wait to be verified
	gateWaiting = 1000            // tokens that wait for it
)

// gate bounds the signatures that are checked at once to half of the
// processors: that is what a request costs most of them, and anybody can send
// tokens that were never seen before. Those that are remembered don't come here.
type gate struct {
	places  chan struct{}
	waiting atomic.Int64
}

func newGate() *gate { return &gate{places: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))} }

// enter waits for a place; its error is [ErrBusy]. After nil, call leave.
func (g *gate) enter(ctx context.Context) error {
	select {
	case g.places <- struct{}{}:
		return nil
	default:
	}
	if g.waiting.Add(1) > gateWaiting {
		g.waiting.Add(-1)
		return ErrBusy
	}
	defer g.waiting.Add(-1)
	ctx, cancel := context.WithTimeout(ctx, gateFor)
	defer cancel()
	select {
	case g.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ErrBusy
	}
}

func (g *gate) leave() { <-g.places }
