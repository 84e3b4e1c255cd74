package operation

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
)

// SupersedeTx ends an operation where it stands, as part of the caller's
// transaction: nothing of it is undone, and its worker has lost its lease, as after
// a takeover. It is Canceled before its point of no return, and Done after it,
// when it could only go forward. It is for a caller who begins an operation in the
// same transaction that does all that is left of this one, or makes good what it
// leaves behind. why is safe to show.
// Errors: ErrFinal, catalog.ErrNotFound.
func (e *Engine) SupersedeTx(ctx context.Context, tx pgx.Tx, id, why string) error {
	before, err := readByID(ctx, tx, id, " for update")
	if err != nil {
		return err
	}
	if before.State.Final() {
		return fmt.Errorf("operation %s is %s: %w", id, before.State, ErrFinal)
	}
	r, err := readOne(ctx, tx, `update operations o set state = case when past_no_return then 'done' else 'canceled' end, error = $2, token = token + 1, worker = '', lease_until = null,
			finished_at = clock_timestamp() where id = $1 returning `+columns, id, clip(why))
	if err != nil {
		return fmt.Errorf("supersede operation %s: %w", id, err)
	}
	_, err = tx.Exec(ctx, `update operation_steps set finished_at = clock_timestamp(), error = $2 where operation = $1 and finished_at is null`, id, clip(why))
	if err != nil {
		return fmt.Errorf("supersede operation %s: %w", id, catalog.Classify(err))
	}
	if err := e.auditEnd(ctx, tx, &r.Operation); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `select pg_notify($1, $2)`, channel, id); err != nil { // its worker looks at once
		return fmt.Errorf("supersede operation %s: %w", id, catalog.Classify(err))
	}
	return nil
}
