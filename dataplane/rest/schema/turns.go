package schema

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"
)

// turns let one at a time do what all who come for the same thing want done;
// who was waiting meanwhile finds it done.
type turns[K comparable] struct {
	patience time.Duration // 0: the usual
	mu       sync.Mutex
	busy     map[K]*turn
}

type turn struct {
	free   chan struct{} // holds one when nobody is at it
	wanted int           // who is at it, or waits
}

// patience is how long somebody waits for his turn: the one before him may be
// asking a server that hangs, while his own does not.
const patience = 2 * time.Second

// take waits for one's turn for key, and no longer than patience, after which one
// goes on beside who is at it. Call done when it is over. The error is ctx's.
func (t *turns[K]) take(ctx context.Context, key K) (done func(), err error) {
	t.mu.Lock()
	of := t.busy[key]
	if of == nil {
		if t.busy == nil {
			t.busy = map[K]*turn{}
		}
		of = &turn{free: make(chan struct{}, 1)}
		of.free <- struct{}{}
		t.busy[key] = of
	}
	of.wanted++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if of.wanted--; of.wanted == 0 {
			delete(t.busy, key)
		}
	}
	late := time.NewTimer(cmp.Or(t.patience, patience))
	defer late.Stop()
	select {
	case <-of.free:
		return func() { of.free <- struct{}{}; leave() }, nil
	case <-late.C:
		return leave, nil
	case <-ctx.Done():
		leave()
		return nil, fmt.Errorf("wait for the schema: %w", ctx.Err())
	}
}
