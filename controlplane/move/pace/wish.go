package pace

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Wish is what is asked of a copy. What it leaves out stays as the copy began.
type Wish struct {
	MaxRate *int64 `json:"max_rate,omitempty"` // bytes a second over the wire; 0: as fast as the servers bear
	Mode    Mode   `json:"pace,omitempty"`
}

// ReadWish reads a wish as it is stored; nothing is none.
func ReadWish(stored []byte) (w Wish, err error) {
	if len(stored) > 0 {
		if err := json.Unmarshal(stored, &w); err != nil {
			return w, fmt.Errorf("what was asked of a copy: %w", err)
		}
	}
	return w, nil
}

// Over is the wish, and where it says nothing the one before it.
func (w Wish) Over(before Wish) Wish {
	if w.MaxRate == nil {
		w.MaxRate = before.MaxRate
	}
	if w.Mode == "" {
		w.Mode = before.Mode
	}
	return w
}

// wishEvery is how often a copy looks whether somebody wants it faster or slower.
const wishEvery = time.Second

// Follow has the copy go as it began, and from now on as it is asked to, until
// stopped. asked gives the wish as it is stored; where it fails, all stays as it was.
func (p *Pace) Follow(ctx context.Context, began Wish, asked func(context.Context) (json.RawMessage, error)) (stop func()) {
	p.set(began)
	follow := func(ctx context.Context, _ string) {
		stored, err := asked(ctx)
		if err != nil {
			return
		}
		if wish, err := ReadWish(stored); err == nil {
			p.set(wish.Over(began))
		}
	}
	follow(ctx, "")
	return p.Telling(ctx, wishEvery, follow)
}

func (p *Pace) set(w Wish) {
	most := int64(0)
	if w.MaxRate != nil {
		most = *w.MaxRate
	}
	p.SetMax(most)
	p.SetMode(w.Mode)
}
