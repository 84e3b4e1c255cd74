package protocol_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/freehold-db/freehold/controlplane/move/protocol"
	"github.com/freehold-db/freehold/controlplane/operation"
)

// errFault is what an action returns that the model has fail.
var errFault = errors.New("fault")

// How an action that the model schedules comes out.
type outcome int8

const (
	works   outcome = iota
	fails           // with nothing done
	unheard         // done, but the answer is lost
	pends           // not done yet, and may be done later or never; no answer
	outcomes
)

func (o outcome) String() string {
	return [...]string{"", " fails", " is done, unheard", " is under way, unheard"}[o]
}

// result is what a worker is told of its action. All that it knows of the world are results.
type result struct {
	err error
	n   int16
}

// ask is a worker about to act. It is let, by whoever explores; then do changes
// the world, and its result is told to the worker.
type ask struct {
	what  string
	ready func(s *state) bool // can it come to its end now? nil: always
	do    func(s *state, how outcome) result
	may   []outcome // beside works
	// drop is what becomes of the world if the worker dies or gives up instead.
	drop func(s *state)
	// ctx of the action: when it has ended, the action fails with nothing done.
	ctx context.Context
	// mark names the worker's state here, where that is known: workers with the
	// same mark do the same from here on, whatever they went through before.
	mark string
}

// crashed unwinds a worker that is no more.
type crashed struct{}

// identity is who a worker is, and what it found when it claimed the operation.
type identity struct {
	id, move, token int8
	from            place
	row             row
}

// row is what a worker reads of its operation.
type row struct {
	step   int8
	cancel bool
	epoch  int8 // of the placement that the move starts from
}

// worker is one worker of one operation: a process that plays the engine, and
// protocol.World to the real protocol. It touches the world by asking only.
type worker struct {
	identity
	mutant mutant
	yield  func(ask) (result, bool)

	ctx      context.Context // ends when it notices that its lease is gone
	cancel   context.CancelFunc
	step     context.Context // of the step under way; ends when somebody asks to cancel, too
	stop     context.CancelFunc
	canceled bool
	mustered bool
	opened   bool
	// What the protocol remembers between attempts comes of these.
	musters, gaveUps, rests int
}

// act asks. Errors: ctx's; the result's.
func (w *worker) act(ctx context.Context, a ask) (int16, error) {
	a.ctx = ctx
	r, ok := w.yield(a)
	if !ok {
		panic(crashed{})
	}
	return r.n, r.err
}

// simply is the do of an action that has an effect and no result.
func simply(effect func(s *state)) func(s *state, how outcome) result {
	return func(s *state, how outcome) result {
		if how != fails {
			effect(s)
		}
		return told(how, nil)
	}
}

func told(how outcome, err error) result {
	if how != works && err == nil {
		err = errFault
	}
	return result{err: err}
}

func nothing(*state) {}

func (i identity) leads(s *state) bool {
	return s.moves == i.move && s.op.token == i.token && s.op.step != over
}

func unlocked(s *state) bool { return s.committing == none }

// run is what the engine does with an operation that it has claimed.
func (w *worker) run() {
	world := protocol.World(w)
	if w.mutant.wrap != nil {
		world = w.mutant.wrap(world)
	}
	for at := w.row; at.step != over; {
		if at.step == cutover && (at.cancel || w.canceled) {
			at = w.journal("begin to undo", func(s *state) { s.op.step = undo })
			continue
		}
		w.step, w.stop = context.WithCancel(w.ctx)
		next, err := w.perform(world, at.step)
		w.stop()
		switch {
		case errors.Is(err, operation.ErrLeaseLost) || w.ctx.Err() != nil:
			return // its lease runs out
		case err != nil && w.canceled && at.step == cutover:
			at.cancel = true
		case err != nil:
			w.giveBack()
			return
		default:
			was := at.step
			at = w.journal("record the step", func(s *state) {
				if s.op.step == was {
					s.op.step = next
				}
			})
		}
	}
}

// perform runs one step, and names the next.
func (w *worker) perform(world protocol.World, step int8) (next int8, err error) {
	switch step {
	case cutover:
		return open, protocol.Run(w.step, world, protocol.Bounds{MaxPause: time.Hour, Attempts: 2})
	case open:
		if w.opened {
			return clean, nil
		}
		w.mustered = false
		return clean, protocol.Open(w.step, world)
	case undo:
		return over, protocol.Undo(w.step, world)
	default:
		return over, errors.Join(w.unclaim(w.step, 0), w.unclaim(w.step, 1))
	}
}

// journal writes to the operation's row as the worker that has the lease, and
// reads it. A worker that has lost it finds the operation over.
func (w *worker) journal(what string, do func(s *state)) row {
	n, err := w.act(w.ctx, ask{what: what, ready: unlocked, do: func(s *state, _ outcome) result {
		if !w.leads(s) {
			return result{err: operation.ErrLeaseLost}
		}
		do(s)
		n := int16(s.op.step)
		if s.op.cancel {
			n |= 1 << 8
		}
		return result{n: n}
	}})
	if err != nil {
		return row{step: over}
	}
	return row{int8(n & 0xff), n>>8 == 1, w.row.epoch} //nolint:gosec // small
}

// giveBack is the engine's answer to an error: it tries again, with another
// claim, and in the end undoes what has no effect yet.
func (w *worker) giveBack() {
	_, _ = w.act(w.ctx, ask{what: "give the claim back", ready: unlocked, may: []outcome{fails}, do: func(s *state, how outcome) result {
		if w.leads(s) {
			if s.op.step == cutover && how == works {
				s.op.step = undo
			}
			s.op.worker = none
		}
		return result{}
	}})
}

func (w *worker) Held(ctx context.Context) error {
	_, err := w.act(ctx, ask{what: "ask whether it is held", may: []outcome{fails}, do: func(s *state, how outcome) result {
		if !w.leads(s) {
			return told(how, operation.ErrLeaseLost)
		}
		return told(how, nil)
	}})
	return err
}

func (w *worker) Flipped(ctx context.Context) (bool, error) {
	a := ask{what: "look where the tenant lives", ready: unlocked, may: []outcome{fails}, do: func(s *state, how outcome) result {
		r := told(how, nil)
		if s.home != w.from && how == works {
			r.n = 1
		}
		return r
	}}
	if w.mutant.plainRead {
		a.ready = nil
	}
	n, err := w.act(ctx, a)
	return n == 1, err
}

// claim makes this worker the one whom a place obeys, as guard.go does: others'
// sessions inside the guard are ended, and the catalog is asked while nobody else can claim.
func (w *worker) claim(ctx context.Context, at place, mark string) error {
	if w.mutant.noClaim {
		return nil
	}
	leave := func(s *state) { s.leave(at, w.id) }
	_, err := w.act(ctx, ask{what: fmt.Sprintf("lock the guard of %d", at), mark: mark, may: []outcome{fails}, do: simply(func(s *state) { s.places[at].locked = w.id })})
	if err != nil {
		return err
	}
	_, err = w.act(ctx, ask{what: "ask whether it is held, inside", may: []outcome{fails}, drop: leave, do: func(s *state, how outcome) result {
		switch {
		case how == works && s.places[at].locked != w.id:
			return result{err: errFault} // another one's claim ended the session
		case how == works && w.leads(s):
			return result{}
		case how == works:
			leave(s)
			return result{err: operation.ErrLeaseLost}
		}
		leave(s)
		return told(how, nil)
	}})
	if err != nil {
		return err
	}
	_, err = w.act(ctx, ask{what: fmt.Sprintf("claim %d", at), drop: leave, do: func(s *state, _ outcome) result {
		d := &s.places[at]
		defer leave(s)
		switch {
		case d.locked != w.id:
			return result{err: errFault}
		case d.move == w.move && d.token > w.token:
			return result{err: operation.ErrLeaseLost}
		}
		d.move, d.token = w.move, w.token
		return result{}
	}})
	return err
}

// guarded runs do as the worker whom the place obeys, or not at all.
func (w *worker) guarded(ctx context.Context, at place, what string, do func(s *state), ready func(s *state) bool) error {
	if w.mutant.noGuard {
		_, err := w.act(ctx, ask{what: what, ready: ready, do: simply(do), may: []outcome{fails, unheard}})
		return err
	}
	leave := func(s *state) { s.leave(at, w.id) }
	_, err := w.act(ctx, ask{what: "enter the guard to " + what, may: []outcome{fails},
		// Whoever claims this moment is waited for.
		ready: func(s *state) bool { return s.places[at].locked == none || s.places[at].locked == w.id },
		do: func(s *state, how outcome) result {
			d := &s.places[at]
			if how == works && (d.move != w.move || d.token != w.token) {
				return result{err: operation.ErrLeaseLost}
			}
			if how == works {
				d.locked = w.id
			}
			return told(how, nil)
		}})
	if err != nil {
		return err
	}
	_, err = w.act(ctx, ask{what: what, ready: ready, may: []outcome{fails, unheard}, drop: leave, do: func(s *state, how outcome) result {
		if s.places[at].locked != w.id {
			return result{err: errFault}
		}
		if how != fails {
			do(s)
		}
		leave(s)
		return told(how, nil)
	}})
	return err
}

func (w *worker) Muster(ctx context.Context) error {
	w.mustered = false
	w.musters++
	mark := fmt.Sprint("muster ", w.musters, w.gaveUps, w.rests, w.canceled, w.ctx.Err() != nil)
	for _, at := range []place{w.from, 1 - w.from} {
		if err := w.claim(ctx, at, mark); err != nil {
			return err
		}
		mark = ""
	}
	w.mustered = true
	return nil
}

func (w *worker) Dismiss()                      { w.mustered = false }
func (w *worker) Prelude(context.Context) error { return nil }

func (w *worker) Hold(ctx context.Context) error {
	_, err := w.act(ctx, ask{what: "have nodes hold", do: simply(func(s *state) { s.send(message{holdMessage, w.id, s.epoch, none}) })})
	return err
}

func (w *worker) Pause(ctx context.Context) error {
	_, err := w.act(ctx, ask{what: "pause", may: []outcome{fails, unheard}, do: simply(func(s *state) { s.paused = [2]bool{true, true} })})
	if err != nil {
		return err
	}
	_, err = w.act(ctx, ask{what: "wait until all is paused", may: []outcome{fails}, do: simply(nothing),
		ready: func(s *state) bool { return !s.through(0) && !s.through(1) }})
	return err
}

func (w *worker) Fence(ctx context.Context) error {
	return w.guarded(ctx, w.from, "fence", func(s *state) { s.places[w.from].fenced = true }, nil)
}

func (w *worker) Drain(ctx context.Context) error {
	_, err := w.act(ctx, ask{what: "drain", may: []outcome{fails, unheard}, do: simply(func(s *state) { s.drain(w.from) })})
	return err
}

func (w *worker) Barrier(ctx context.Context) error {
	n, err := w.act(ctx, ask{what: "write the barrier", may: []outcome{fails}, do: func(s *state, how outcome) result {
		d := &s.places[w.from]
		return result{told(how, nil).err, int16(d.has) | int16(d.next)<<8}
	}})
	if err != nil {
		return err
	}
	before, next := uint8(n&0xff), int8(n>>8) //nolint:gosec // small
	arrived := func(s *state) bool { return before&^s.places[1-w.from].has == 0 }
	set := func(s *state) { s.places[1-w.from].next = next }
	if w.mutant.looseSequences {
		_, err := w.act(ctx, ask{what: "set the sequences", ready: arrived, do: simply(set), may: []outcome{fails, unheard}})
		return err
	}
	return w.guarded(ctx, 1-w.from, "set the sequences", set, arrived)
}

func (w *worker) Settle(context.Context) error { return nil }

func (w *worker) Flip(ctx context.Context) error {
	_, err := w.act(ctx, ask{what: "begin the flip", ready: unlocked, may: []outcome{fails}, do: func(s *state, how outcome) result {
		if how == works && (!w.leads(s) || s.op.step != cutover || s.op.cancel) {
			return result{err: operation.ErrLeaseLost}
		}
		if how == works {
			s.committing = w.id
		}
		return told(how, nil)
	}})
	if err != nil {
		return err
	}
	unknown := func(s *state) { s.sent = s.sent || s.committing == w.id }
	_, err = w.act(ctx, ask{what: "commit the flip", may: []outcome{fails, unheard, pends}, drop: unknown, do: func(s *state, how outcome) result {
		switch {
		case s.committing != w.id: // the server ended the transaction
			return result{err: errFault}
		case how == fails:
			s.committing = none // the server rolls back
		case how == pends:
			unknown(s)
		default:
			s.commitFlip()
		}
		return told(how, nil)
	}})
	return err
}

func (w *worker) Unfence(ctx context.Context, side protocol.Side) error {
	at := w.from
	if side == protocol.Target {
		at = 1 - at
	}
	if side == protocol.Source || !w.mustered {
		if err := w.claim(ctx, at, ""); err != nil {
			return err
		}
	}
	return w.guarded(ctx, at, "unfence", func(s *state) { s.places[at].fenced = false }, nil)
}

func (w *worker) Resume(ctx context.Context) error {
	_, err := w.act(ctx, ask{what: "resume", may: []outcome{fails, unheard}, do: simply(func(s *state) { s.paused = [2]bool{} })})
	return err
}

func (w *worker) Release(ctx context.Context, side protocol.Side) {
	m := message{releaseMessage, w.id, 0, none}
	if side == protocol.Target {
		m = message{placementMessage, w.id, w.row.epoch + 1, 1 - w.from}
	}
	_, _ = w.act(ctx, ask{what: "release nodes", do: simply(func(s *state) { s.send(m) })})
}

func (w *worker) Route(ctx context.Context) error {
	_, err := w.act(ctx, ask{what: "route", may: []outcome{fails, unheard}, do: simply(func(s *state) {
		s.routes, s.paused = [2]place{1 - w.from, 1 - w.from}, [2]bool{}
	})})
	return err
}

func (w *worker) Publish(context.Context) {}

func (w *worker) Unclaim(ctx context.Context) error { return w.unclaim(ctx, w.from) }

// unclaim drops the guard's table, once nobody is inside.
func (w *worker) unclaim(ctx context.Context, at place) error {
	_, err := w.act(ctx, ask{what: fmt.Sprintf("take the guard of %d away", at), may: []outcome{fails},
		ready: func(s *state) bool { return s.places[at].locked == none },
		do:    simply(func(s *state) { s.places[at].move, s.places[at].token = none, 0 })})
	return err
}

func (w *worker) Lap(string) error   { return nil }
func (w *worker) GaveUp(error) error { w.gaveUps++; return nil }
func (w *worker) Made(left error)    { w.opened = left == nil }

func (w *worker) Rest(ctx context.Context, _ time.Duration, why string) error {
	if why != "" {
		w.rests++
	}
	_, err := w.act(ctx, ask{what: "rest", may: []outcome{fails}, do: simply(nothing)})
	return err
}
