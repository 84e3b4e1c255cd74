package operation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
)

// keepClaim, as the wait of a write, keeps the claim.
const keepClaim time.Duration = -1

// change edits the operation's row inside the transaction that has locked it
// and checked the token, and says how long to wait before it is claimed again (or keepClaim).
type change func(ctx context.Context, tx pgx.Tx, r *record) (time.Duration, error)

// errApplied: an earlier write of ours whose outcome was unknown did take effect.
var errApplied = errors.New("already recorded")

// write applies ch to the operation's row, and returns the row as written. It
// changes nothing in c. Errors: ErrLeaseLost (another worker's token is there),
// errApplied with the row, those of ch.
func (c *claim) write(ctx context.Context, ch change) (*Operation, error) {
	var r *record
	var taken *report
	err := c.e.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		r, err = lockForRecord(ctx, tx, c.id, c.e.opt.LeaseFor)
		if err != nil {
			return err
		}
		if r.token != c.token {
			return ErrLeaseLost
		}
		// While the token is ours nobody else moves these on.
		if r.State != c.op.State || r.Step != c.op.Step || r.Attempt != c.op.Attempt || r.PastNoReturn != c.op.PastNoReturn {
			return errApplied
		}
		if taken = c.prog.take(); taken != nil {
			r.Progress = taken.Progress
		}
		wait, err := ch(ctx, tx, r)
		if err != nil {
			return err
		}
		if err := r.save(ctx, tx, wait); err != nil {
			return err
		}
		return c.e.auditEnd(ctx, tx, &r.Operation)
	})
	if err != nil {
		c.prog.putBack(taken)
	}
	if r == nil {
		return nil, err
	}
	return &r.Operation, err
}

// record writes until the outcome is known or the lease is lost.
func (c *claim) record(ch change) error {
	for n := 1; ; n++ {
		ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
		op, err := c.write(ctx, ch)
		cancel()
		if err == nil || errors.Is(err, errApplied) {
			c.op = op
			return nil
		}
		if errors.Is(err, ErrLeaseLost) || n >= 3 && !errors.Is(err, catalog.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		select {
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		case <-time.After(backoff(n, time.Second)):
		}
	}
}

// update is record for a change that writes no journal.
func (c *claim) update(fn func(r *record) (time.Duration, error)) error {
	return c.record(func(_ context.Context, _ pgx.Tx, r *record) (time.Duration, error) { return fn(r) })
}

// begin opens a line of the journal and counts the attempt.
func (c *claim) begin(t *try) error {
	return c.record(func(ctx context.Context, tx pgx.Tx, r *record) (time.Duration, error) {
		// A line that a dead worker left open is closed; one that waits is gone on with.
		_, err := tx.Exec(ctx, `update operation_steps set finished_at = clock_timestamp(), error = 'its worker was lost'
			where operation = $1 and finished_at is null and not (step = $2 and undo = $3 and attempt = $4)`,
			r.ID, r.Step, t.undo, r.Attempt+1)
		if err != nil {
			return 0, err
		}
		r.Attempt++
		goesOn, err := tx.Exec(ctx, `update operation_steps set worker = $5, token = $6, error = ''
			where operation = $1 and step = $2 and undo = $3 and attempt = $4 and finished_at is null`,
			r.ID, r.Step, t.undo, r.Attempt, c.e.opt.Worker, c.token)
		if err == nil && goesOn.RowsAffected() == 0 {
			_, err = tx.Exec(ctx, `insert into operation_steps (operation, step, undo, attempt, worker, token) values ($1, $2, $3, $4, $5, $6)`,
				r.ID, r.Step, t.undo, r.Attempt, c.e.opt.Worker, c.token)
		}
		// What was waited for stays in sight until the step reports anew.
		if r.Progress.Waiting == "" && goesOn.RowsAffected() == 0 {
			r.Progress = Progress{Phase: t.step.Title}
			if t.undo {
				r.Progress.Phase = "undoing: " + t.step.Title
			}
		}
		return keepClaim, err
	})
}

// closeStep closes the journal's line of the attempt under way.
func closeStep(ctx context.Context, tx pgx.Tx, r *record, step string, undo bool, failure string) error {
	_, err := tx.Exec(ctx, `update operation_steps set finished_at = clock_timestamp(), error = $5
		where operation = $1 and step = $2 and undo = $3 and attempt = $4 and finished_at is null`,
		r.ID, step, undo, r.Attempt, clip(failure))
	return err
}

// end records the attempt as done.
func (c *claim) end(t *try, i int) error {
	return c.record(func(ctx context.Context, tx pgx.Tx, r *record) (time.Duration, error) {
		if err := closeStep(ctx, tx, r, t.step.Name, t.undo, ""); err != nil {
			return 0, err
		}
		switch {
		case t.undo:
			if r.Data = t.data; t.receipt != nil {
				r.Receipt = t.receipt
			}
			c.undoNext(r, i-1)
		case r.CancelRequested && !r.PastNoReturn:
			r.Data = t.data // what the step learned, its Undo needs
			return keepClaim, c.beginUndo(ctx, tx, r, i)
		default:
			t.done(r, i)
		}
		return keepClaim, nil
	})
}

// done moves the row past step i.
func (t *try) done(r *record, i int) {
	r.Data, r.Attempt, r.Error, r.Progress.Waiting = t.data, 0, "", ""
	if t.receipt != nil {
		r.Receipt = t.receipt
	}
	r.PastNoReturn = r.PastNoReturn || t.step.NoReturn
	if steps := t.claim.kind.steps; i+1 < len(steps) {
		r.Step = steps[i+1].Name
		return
	}
	r.State, r.Step, r.Progress = Done, "", Progress{Percent: 100}
}

// beginUndo turns the operation round at step i, which is undone too if it was ever begun.
func (c *claim) beginUndo(ctx context.Context, tx pgx.Tx, r *record, i int) error {
	var begun bool
	err := tx.QueryRow(ctx, `select exists (select from operation_steps where operation = $1 and step = $2 and not undo)`,
		r.ID, c.kind.steps[i].Name).Scan(&begun)
	if err != nil {
		return err
	}
	r.State = Undoing
	if !begun {
		i--
	}
	c.undoNext(r, i)
	return nil
}

// undoNext moves the row to the nearest step at or before i that has something to undo, or to its end.
func (c *claim) undoNext(r *record, i int) {
	r.Attempt, r.Progress.Waiting = 0, ""
	if i = c.kind.undoFrom(i); i >= 0 {
		r.Step = c.kind.steps[i].Name
		return
	}
	r.State, r.Step, r.Progress = Failed, "", Progress{}
	if r.CancelRequested {
		r.State = Canceled
	}
}

// fail records an attempt that did not succeed, and what is to follow.
func (c *claim) fail(t *try, i int, failure error, stopping bool) (held bool, err error) {
	var wait *waitError
	var permanent *permanentError
	err = c.record(func(ctx context.Context, tx pgx.Tx, r *record) (time.Duration, error) {
		canceled := r.CancelRequested && !r.PastNoReturn && !t.undo
		if t.receipt != nil { // what was tried is worth knowing too
			r.Receipt = t.receipt
		}
		waits := errors.As(failure, &wait)
		if waits && wait.again != nil {
			r.Data = t.data
		}
		if waits && !canceled {
			return max(wait.after, 0), t.rest(ctx, tx, r, wait)
		}
		if err := closeStep(ctx, tx, r, t.step.Name, t.undo, failure.Error()); err != nil {
			return 0, err
		}
		switch {
		case canceled:
			return keepClaim, c.beginUndo(ctx, tx, r, i)
		case stopping:
			r.Attempt--
			return 0, nil
		case t.undo:
			r.Progress.Waiting = fmt.Sprintf("undoing %s failed and is tried again: %s", t.step.Name, clip(failure.Error()))
			return backoff(r.Attempt, mostBackoff), nil
		case !r.PastNoReturn && (errors.As(failure, &permanent) || r.Attempt >= t.step.maxAttempts):
			r.Error = failure.Error()
			return keepClaim, c.beginUndo(ctx, tx, r, i)
		}
		r.Error = failure.Error()
		return backoff(r.Attempt, mostBackoff), nil
	})
	return c.op.Worker != "", err
}

// rest records that the attempt goes on later: the journal's line stays open.
func (t *try) rest(ctx context.Context, tx pgx.Tx, r *record, w *waitError) error {
	if w.again != nil {
		r.Progress = *w.again
		if r.Progress.Phase == "" {
			r.Progress.Phase = t.step.Title
		}
		if !t.undo { // of one that is undone, it is the reason why
			r.Error = ""
		}
		if r.Attempt > 1 { // what failed before is made good: the next attempt is a first one
			err := closeStep(ctx, tx, r, t.step.Name, t.undo, w.Error())
			r.Attempt = 0
			return err
		}
	}
	r.Attempt--
	r.Progress.Waiting = w.why
	_, err := tx.Exec(ctx, `update operation_steps set error = $5
		where operation = $1 and step = $2 and undo = $3 and attempt = $4 and finished_at is null`,
		r.ID, t.step.Name, t.undo, r.Attempt+1, clip(w.Error()))
	return err
}
