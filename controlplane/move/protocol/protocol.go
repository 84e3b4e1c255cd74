// Package protocol is the cutover of a move: the order of its actions, and
// every decision in it. It is the specification, and what runs. What an action
// does to servers is behind [World], of which there are two: package move acts
// on real ones; this package's tests simulate them, and explore what crashes,
// lost, doubled and late messages and expired leases make of it.
//
// Truth is the fence in the source's Postgres: it is up before the barrier is
// written, and comes down only if the placement's committed row still names the
// source. Holds at nodes and PAUSE at PgBouncers only spare clients errors and
// time. Recovery from a crash anywhere is one rule: read the placement's row;
// the side it names is opened.
//
// Import law: of this module, protocol imports controlplane/operation only.
package protocol

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/freehold-db/freehold/controlplane/operation"
)

// Side of a move.
type Side int

// The sides: where the tenant comes from, and where it goes.
const (
	Source Side = iota
	Target
)

// World is what a cutover acts on, as one worker of one operation. Every
// action may be taken again. One that fails may have had its effect or not,
// and may have it later still; those said to be guarded have none once a later
// worker has claimed that side.
type World interface {
	// Flipped tells whether the placement names the target. It waits for a flip
	// whose commit is under way: nothing may be decided on what a mere reader sees.
	Flipped(ctx context.Context) (bool, error)
	// Held asks the catalog whether the operation is this worker's still. Errors: operation.ErrLeaseLost.
	Held(ctx context.Context) error

	// Muster gets ready all that an attempt needs, and claims both sides for
	// this worker. Dismiss lets it go. Errors: operation.ErrLeaseLost.
	Muster(ctx context.Context) error
	Dismiss()
	// Prelude brings over what the stream does not carry, and waits for a
	// moment at which the pause can be kept. It holds nobody back.
	Prelude(ctx context.Context) error

	// Hold asks nodes to keep requests back. It is a hint, and does not fail for want of answers.
	Hold(ctx context.Context) error
	// Pause has every PgBouncer on the way finish what runs and keep the rest.
	Pause(ctx context.Context) error
	// Fence refuses every new login at the source; guarded.
	Fence(ctx context.Context) error
	// Drain ends the sessions that were at the source before the fence, and waits until none is left.
	Drain(ctx context.Context) error
	// Barrier waits until all that was committed at the source is at the
	// target, and gives the target what the stream does not carry; guarded.
	Barrier(ctx context.Context) error
	// Settle keeps the target as it is at the barrier, to be compared later.
	Settle(ctx context.Context) error
	// Flip commits the new placement, as the worker that has the lease or not
	// at all. If it fails it may have been committed, or may yet be.
	Flip(ctx context.Context) error

	// Unfence lets logins in at one side; guarded.
	Unfence(ctx context.Context, side Side) error
	// Resume has every PgBouncer on the way let clients go on where they went before.
	Resume(ctx context.Context) error
	// Release tells nodes to go on, at that side. It is a hint.
	Release(ctx context.Context, side Side)
	// Route has clients at every PgBouncer go on at the target.
	Route(ctx context.Context) error
	// Publish spreads the new placement now; somebody else does it later otherwise.
	Publish(ctx context.Context)
	// Unclaim has the source obey nobody any more.
	Unclaim(ctx context.Context) error

	// Lap is told the name of each point passed; an error stands for one of the phase before it.
	Lap(name string) error
	// GaveUp is told that an attempt was taken back, Made that the flip was
	// made, and why opening the target is left to the step after it, if it is.
	GaveUp(reason error) error
	Made(left error)
	// Rest waits about as long as d. why, if there is a reason, is for people.
	Rest(ctx context.Context, d time.Duration, why string) error
}

// Bounds of a cutover.
type Bounds struct {
	// MaxPause is how long an attempt may hold anybody back before the flip.
	MaxPause time.Duration
	// Attempts is how many that held somebody back are made in all; Before were made before.
	Attempts, Before int
}

var (
	// ErrFlipped: the placement names the target already; nothing may be taken back.
	ErrFlipped = errors.New("the placement is flipped already")
	// ErrUndecided: whether the flip was committed could not be found out, and so nothing may be opened.
	ErrUndecided = errors.New("the outcome of the flip is unknown")
	// ErrOverrun: the pause budget was used up before the flip.
	ErrOverrun = errors.New("the pause budget is used up")
)

// Final marks an error of an action that another attempt can't mend.
func Final(err error) error { return &finalError{err} }

type finalError struct{ err error }

func (e *finalError) Error() string { return e.err.Error() }
func (e *finalError) Unwrap() error { return e.err }

const (
	// cleanFor bounds what must be taken back or finished whatever became of the step's context.
	cleanFor = 15 * time.Second
	// The wait between attempts grows from firstRest to longestRest.
	firstRest, longestRest = 250 * time.Millisecond, 10 * time.Second
)

// Run is the step cutover: it flips the placement and opens the target. An
// attempt that can't keep the pause budget is taken back whole, and made again.
func Run(ctx context.Context, w World, b Bounds) error {
	// A worker before us may have died with everybody held back.
	err := reopen(ctx, w)
	if errors.Is(err, ErrFlipped) {
		return nil // the commit's answer was lost, not the commit
	}
	if err != nil {
		return err
	}
	for n, rest := b.Before, firstRest; ; rest = min(2*rest, longestRest) {
		held, err := attempt(ctx, w, b.MaxPause)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if final(err) {
			return err
		}
		why := fmt.Sprintf("for a moment to cut over: %v", err)
		if held {
			n++
			why = fmt.Sprintf("attempt %d was given up, and is made again: %v", n, err)
		}
		if n >= b.Attempts {
			return operation.Permanent(fmt.Errorf("gave up after %d attempts, each taken back whole; the last: %w", n, err))
		}
		if err := w.Rest(ctx, rest, why); err != nil {
			return err
		}
	}
}

// final tells errors that another attempt can't mend.
func final(err error) bool {
	var f *finalError
	return errors.As(err, &f) || errors.Is(err, operation.ErrLeaseLost) || errors.Is(err, ErrUndecided)
}

// attempt is one try. held tells whether anybody was held back by it.
func attempt(ctx context.Context, w World, maxPause time.Duration) (held bool, err error) {
	if err := w.Muster(ctx); err != nil {
		return false, err
	}
	if err := w.Prelude(ctx); err != nil {
		w.Dismiss()
		return false, err
	}
	if reason := section(ctx, w, maxPause); reason != nil {
		flipped, err := giveUp(ctx, w, reason)
		if !flipped {
			w.Dismiss()
			return true, err
		}
	}
	// From here on there is no way back, whoever asks for it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanFor)
	defer cancel()
	_ = w.Lap("after-flip") // an error here is for tests; a kill needs no answer
	w.Made(Open(ctx, w))
	return true, nil
}

// critical is the section in which clients are held back, in its order.
var critical = []struct {
	name string // of the point after it
	do   func(w World, ctx context.Context) error
}{
	{"hold", World.Hold},
	{"paused", World.Pause},
	{"fenced", func(w World, ctx context.Context) error {
		if err := w.Fence(ctx); err != nil {
			return err
		}
		return w.Drain(ctx)
	}},
	{"barrier", World.Barrier},
	{"before-flip", World.Settle},
}

// section holds everybody back, makes sure that all is at the target, and flips
// the placement. Until it returns nil nothing is decided: see giveUp.
func section(ctx context.Context, w World, maxPause time.Duration) error {
	start := time.Now()
	bounded, cancel := context.WithTimeoutCause(ctx, maxPause, ErrOverrun)
	defer cancel()
	for _, phase := range critical {
		err := phase.do(w, bounded)
		if err == nil {
			err = w.Lap(phase.name)
		}
		if err == nil {
			err = bounded.Err()
		}
		switch {
		case err != nil && ctx.Err() == nil && errors.Is(context.Cause(bounded), ErrOverrun):
			return fmt.Errorf("%w at %q after %v", ErrOverrun, phase.name, time.Since(start).Round(time.Millisecond))
		case err != nil:
			return fmt.Errorf("%s: %w", phase.name, err)
		}
	}
	return w.Flip(ctx) // with time of its own: the budget was checked before it
}

// giveUp takes an attempt back. If the flip may have been committed it asks the
// catalog, as long as there is time: nothing is opened on a guess.
func giveUp(ctx context.Context, w World, reason error) (flipped bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanFor)
	defer cancel()
	err = reopen(ctx, w)
	for rest := 20 * time.Millisecond; err != nil && !errors.Is(err, ErrFlipped) && !errors.Is(err, operation.ErrLeaseLost); rest = min(2*rest, time.Second) {
		if w.Rest(ctx, rest, "") != nil {
			break
		}
		err = reopen(ctx, w)
	}
	if errors.Is(err, ErrFlipped) {
		if err = w.Held(ctx); err == nil {
			return true, nil
		} // else a later worker flipped it, and opens it
	}
	if errors.Is(err, operation.ErrLeaseLost) {
		// We were stopped for so long that another worker took over. It undid or
		// used what we had done by then, but perhaps our PAUSE came after that.
		return false, errors.Join(err, w.Resume(ctx))
	}
	if gerr := w.GaveUp(reason); gerr != nil {
		return false, gerr
	}
	if err != nil {
		return false, errors.Join(ErrUndecided, err, reason)
	}
	return false, reason
}

// reopen opens the source again, if the placement still names it: the fence
// first, so that who goes on after it is not refused. It may be called at any
// time before the flip. Errors: ErrFlipped; anything else: call it again.
func reopen(ctx context.Context, w World) error {
	flipped, err := w.Flipped(ctx)
	if err != nil {
		return err
	}
	if flipped {
		return ErrFlipped
	}
	if err := w.Unfence(ctx, Source); err != nil {
		return err
	}
	if err := w.Resume(ctx); err != nil {
		return err
	}
	w.Release(ctx, Source)
	return nil
}

// Open opens the target, once the flip is committed: right after it, and as the
// step open where that was not to be. Clients at PgBouncers are led there before
// nodes go on, so that these may come that way, too.
func Open(ctx context.Context, w World) error {
	if err := w.Unfence(ctx, Target); err != nil {
		return err
	}
	if err := w.Lap("unfenced"); err != nil {
		return err
	}
	err := w.Route(ctx)
	if err == nil {
		err = w.Lap("routed")
	}
	w.Release(ctx, Target) // whatever came of that
	if lerr := w.Lap("released"); err == nil {
		err = lerr
	}
	w.Publish(ctx)
	return err
}

// Undo leaves the source served, whatever an attempt left.
func Undo(ctx context.Context, w World) error {
	err := reopen(ctx, w)
	if errors.Is(err, ErrFlipped) {
		return operation.Permanent(err)
	}
	if err != nil {
		return err
	}
	return w.Unclaim(ctx)
}
