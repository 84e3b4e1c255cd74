package operation

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
)

// GoAheadTx records, as part of the caller's transaction, that the operation
// may go on where it waits for somebody to say so ([Run.MayGo]); it looks at
// once. Said before it waits, it will not wait; said twice is no error.
// Errors: ErrFinal (also if it is being undone), ErrPastNoReturn, catalog.ErrNotFound.
func (e *Engine) GoAheadTx(ctx context.Context, tx pgx.Tx, id string) (*Operation, error) {
	if _, err := readUnderWay(ctx, tx, id); err != nil {
		return nil, err
	}
	r, err := readOne(ctx, tx, `update operations o set go_at = coalesce(go_at, clock_timestamp()), next_run = clock_timestamp()
		where id = $1 returning `+columns, id)
	if err != nil {
		return nil, fmt.Errorf("go-ahead for operation %s: %w", id, err)
	}
	if _, err := tx.Exec(ctx, `select pg_notify($1, '')`, channel); err != nil {
		return nil, fmt.Errorf("go-ahead for operation %s: %w", id, catalog.Classify(err))
	}
	return &r.Operation, nil
}

// MayGo tells whether somebody said that the operation may go on, and the
// time by the catalog's clock, which all workers share.
func (t *try) MayGo(ctx context.Context) (told bool, now time.Time, err error) {
	err = t.claim.e.store.Pool().QueryRow(ctx, `select go_at is not null, clock_timestamp() from operations where id = $1`, t.claim.id).Scan(&told, &now)
	if err != nil {
		return false, now, fmt.Errorf("may the operation go on: %w", catalog.Classify(err))
	}
	return told, now, nil
}

// WakeTx has an operation that rests ([Again], [Wait]) go on at once when the
// caller's transaction commits; one that works, or has ended, is left as it is.
func (e *Engine) WakeTx(ctx context.Context, tx pgx.Tx, id string) error {
	_, err := tx.Exec(ctx, `with woken as (
			update operations set next_run = clock_timestamp() where id = $2 and finished_at is null returning id)
		select pg_notify($1, '') from woken`, channel, id)
	if err != nil {
		return fmt.Errorf("wake operation %s: %w", id, catalog.Classify(err))
	}
	return nil
}
