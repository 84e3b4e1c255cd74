package diff

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/sleep"
)

// errNotStill: writers kept the table for themselves.
var errNotStill = errors.New("the table could not be held still")

// stillTries bounds the tries to hold a table still.
const stillTries = 12

// still runs fn while nobody writes to the table at the serving side, for as
// long as a barrier takes. It gives way where it would have to wait for long,
// or have others wait, and tries again. fn reads that side on c.lock.
// Errors: errNotStill; those of fn.
func (c *Comparison) still(ctx context.Context, t table, fn func(ctx context.Context) error) error {
	for try, pause := 0, 50*time.Millisecond; try < stillTries; try, pause = try+1, min(2*pause, 2*time.Second) {
		err := c.stillOnce(ctx, t, fn)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil, errors.Is(err, ErrNoBarrier):
			return err
		case c.lock.IsClosed(): // it took too long, and the server let the writers go on
			if err := c.relock(ctx); err != nil {
				return err
			}
		case errors.Is(err, errSlow), errors.Is(err, errBusyTable), pg.Code(err) == pgerrcode.QueryCanceled:
		default:
			return err
		}
		c.waiting("for a moment in which nobody writes to " + t.ident())
		if err := sleep.For(ctx, pause); err != nil {
			return err
		}
	}
	return errNotStill
}

// relock opens the connection anew that keeps writers off.
func (c *Comparison) relock(ctx context.Context) (err error) {
	if c.lock, err = c.pair.Serving.Reader(ctx); err != nil {
		return err
	}
	_, err = c.lock.Exec(ctx, settings+lockSettings, pgx.QueryExecModeSimpleProtocol)
	return err
}

var errBusyTable = errors.New("somebody else has the table locked")

func (c *Comparison) stillOnce(ctx context.Context, t table, fn func(ctx context.Context) error) (err error) {
	if err := c.barrier(ctx, c.opt.Patience); err != nil { // nobody is kept waiting for what is far behind
		return err
	}
	if _, err = c.lock.Exec(ctx, "BEGIN", pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("hold %s still: %w", t.ident(), err)
	}
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeFor)
		defer cancel()
		if _, rollback := c.lock.Exec(clean, "ROLLBACK", pgx.QueryExecModeSimpleProtocol); rollback != nil && err == nil {
			err = fmt.Errorf("let go of %s: %w", t.ident(), rollback)
		}
	}()
	_, err = c.lock.Exec(ctx, "LOCK TABLE ONLY "+t.ident()+" IN SHARE MODE", pgx.QueryExecModeSimpleProtocol)
	switch pg.Code(err) {
	case "":
	case pgerrcode.LockNotAvailable, pgerrcode.DeadlockDetected:
		return errBusyTable
	default:
	}
	if err != nil {
		return fmt.Errorf("hold %s still: %w", t.ident(), err)
	}
	return fn(ctx)
}
