package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/failpoint"
)

const (
	// mostBackoff bounds the wait between tries.
	mostBackoff = 15 * time.Second
	// unknownStepWait: another replica, of the version that knows the step, may take it.
	unknownStepWait = 5 * time.Second
)

// try is one attempt at a step, going forward or being undone. It is the core
// of the Run that the step sees.
type try struct {
	claim     *claim
	step      *step
	undo, dry bool
	data      json.RawMessage // the document as the step left it
	receipt   json.RawMessage
	committed bool // Commit has recorded the step
}

// next works on the operation's current step. held is false if the claim was
// given back; an error means that the worker can't go on with it.
func (c *claim) next(stop context.Context) (held bool, err error) {
	i := c.kind.index(c.op.Step)
	if i < 0 {
		return false, c.update(func(r *record) (time.Duration, error) {
			r.Progress.Waiting = fmt.Sprintf("a control plane that knows step %q", r.Step)
			return unknownStepWait, nil
		})
	}
	undoing := c.op.State == Undoing
	switch {
	case undoing && c.kind.undoFrom(i) != i:
		return true, c.update(func(r *record) (time.Duration, error) { c.undoNext(r, i); return keepClaim, nil })
	case !undoing && !c.op.PastNoReturn && c.cancelRequested():
		return true, c.record(func(ctx context.Context, tx pgx.Tx, r *record) (time.Duration, error) {
			return keepClaim, c.beginUndo(ctx, tx, r, i)
		})
	case stop.Err() != nil:
		return false, c.update(func(*record) (time.Duration, error) { return 0, nil })
	}
	t := &try{claim: c, step: &c.kind.steps[i], undo: undoing}
	if err := c.begin(t); err != nil {
		return false, err
	}
	started := time.Now()
	ctx, span := startSpan(c.ctx, t)
	err = t.perform(ctx, stop)
	endSpan(ctx, span, t, time.Since(started), err)
	if c.ctx.Err() != nil {
		return false, context.Cause(c.ctx)
	}
	switch {
	case t.committed && err != nil:
		c.e.opt.Logger.WarnContext(ctx, "step failed after it had committed; going on", slog.String("operation", c.id),
			slog.String("step", t.step.Name), slog.Any("error", err))
		return true, nil
	case t.committed:
		return true, nil
	case errors.Is(err, ErrLeaseLost):
		return false, err
	case err == nil:
		err = c.end(t, i)
	default:
		held, err = c.fail(t, i, err, stop.Err() != nil)
		return held, err
	}
	return true, err
}

// perform runs the step's function within its time, until the worker is asked to stop
// or (going forward) the operation to cancel.
func (t *try) perform(ctx, stop context.Context) error {
	c := t.claim
	ctx, timeUp := context.WithTimeoutCause(ctx, t.step.timeout, fmt.Errorf("step took longer than %v: %w", t.step.timeout, context.DeadlineExceeded))
	defer timeUp()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(stop, func() { cancel(errStopping) })()

	do, name := t.step.do, c.kind.name+"/"+t.step.Name
	if t.undo {
		do, name = t.step.undo, name+"/undo"
	} else if !c.op.PastNoReturn {
		c.mu.Lock()
		c.cancelStep = cancel
		if c.canceled {
			cancel(errCanceled)
		}
		c.mu.Unlock()
		defer func() {
			c.mu.Lock()
			c.cancelStep = nil
			c.mu.Unlock()
		}()
	}
	if err := failpoint.Hit(name + "/begin"); err != nil {
		return err
	}
	err := guard(c.e.opt.Logger, func() error { return do(ctx, t) })
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w (%w)", cause, err)
		}
		return err
	}
	if t.committed {
		return nil // Commit has hit the point already
	}
	return failpoint.Hit(name + "/end")
}

// guard turns a panic into an error.
func guard(log *slog.Logger, fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			log.Error("panic in a step", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			err = fmt.Errorf("bug: panic in a step: %v", v)
		}
	}()
	return fn()
}

// Report publishes progress; cheap, throttled, never fails the step.
func (t *try) Report(p Progress) {
	if t.dry {
		return
	}
	if p.Phase == "" {
		p.Phase = t.step.Title
	}
	t.claim.prog.report(report{p, t.step.Name})
}

// SetReceipt sets the receipt that is stored with the next journal write.
func (t *try) SetReceipt(v any) error {
	doc, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("receipt: %w", err)
	}
	t.receipt = doc
	return nil
}

// Token is the lease's fencing token: greater for every later worker.
func (t *try) Token() int64 { return t.claim.token }

// Held asks the catalog whether the operation still is this worker's. Errors: ErrLeaseLost.
func (t *try) Held(ctx context.Context) error {
	var held bool
	err := t.claim.e.store.Pool().QueryRow(ctx, `select exists (select from operations where id = $1 and token = $2 and finished_at is null)`,
		t.claim.id, t.claim.token).Scan(&held)
	if err != nil {
		return fmt.Errorf("is the operation still ours: %w", catalog.Classify(err))
	}
	if !held {
		return ErrLeaseLost
	}
	return nil
}

// CancelRequested tells whether someone asked to cancel.
func (t *try) CancelRequested() bool { return !t.dry && t.claim.cancelRequested() }

func (t *try) save(data any) error {
	if t.dry {
		return nil
	}
	doc, err := json.Marshal(data)
	if err != nil {
		return Permanent(fmt.Errorf("document: %w", err))
	}
	return t.claim.update(func(r *record) (time.Duration, error) {
		r.Data = doc
		if t.receipt != nil {
			r.Receipt = t.receipt
		}
		return keepClaim, nil
	})
}

// Tx runs fn in a transaction that checks the lease's token.
func (t *try) Tx(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error {
	if t.dry {
		return Permanent(errors.New("bug: a dry run changes nothing"))
	}
	_, err := t.claim.write(ctx, func(ctx context.Context, tx pgx.Tx, r *record) (time.Duration, error) {
		if r.CancelRequested && !r.PastNoReturn && !t.undo {
			return 0, errCanceled
		}
		return keepClaim, fn(ctx, tx)
	})
	return err
}

func (t *try) commit(ctx context.Context, data any, fn func(ctx context.Context, tx pgx.Tx) error) error {
	if t.dry || t.undo {
		return Permanent(errors.New("bug: Commit belongs into Do"))
	}
	doc, err := json.Marshal(data)
	if err != nil {
		return Permanent(fmt.Errorf("document: %w", err))
	}
	t.data = doc
	c := t.claim
	i := c.kind.index(t.step.Name)
	written, err := c.write(ctx, func(ctx context.Context, tx pgx.Tx, r *record) (time.Duration, error) {
		if r.CancelRequested && !r.PastNoReturn {
			return 0, errCanceled
		}
		if err := fn(ctx, tx); err != nil {
			return 0, err
		}
		if err := failpoint.Hit(c.kind.name + "/" + t.step.Name + "/end"); err != nil {
			return 0, err
		}
		if err := closeStep(ctx, tx, r, t.step.Name, false, ""); err != nil {
			return 0, err
		}
		t.done(r, i)
		return keepClaim, nil
	})
	if errors.Is(err, errApplied) { // Do calls again after an unknown outcome
		err = nil
	}
	if err != nil {
		return err
	}
	t.committed = true
	c.op = written
	return failpoint.Hit(c.kind.name + "/" + t.step.Name + "/committed")
}
