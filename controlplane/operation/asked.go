package operation

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
)

// AskTx has change edit, as part of the caller's transaction, what is asked of
// an operation while it runs; nil is what nobody has asked. Its worker sees it
// when it looks ([Run.Asked]), and so does every later one.
// Errors: ErrFinal (also if it is being undone), ErrPastNoReturn, catalog.ErrNotFound, those of change.
func (e *Engine) AskTx(ctx context.Context, tx pgx.Tx, id string, change func(op *Operation) (json.RawMessage, error)) (*Operation, error) {
	r, err := readUnderWay(ctx, tx, id)
	if err != nil {
		return nil, err
	}
	asked, err := change(&r.Operation)
	if err != nil {
		return nil, err
	}
	r, err = readOne(ctx, tx, `update operations o set asked = $2 where id = $1 returning `+columns, id, nullJSON(asked))
	if err != nil {
		return nil, fmt.Errorf("ask of operation %s: %w", id, err)
	}
	return &r.Operation, nil
}

// Asked is what was asked of the operation last, since it began; nil: nothing.
func (t *try) Asked(ctx context.Context) (asked json.RawMessage, err error) {
	err = t.claim.e.store.Pool().QueryRow(ctx, `select asked from operations where id = $1`, t.claim.id).Scan(&asked)
	if err != nil {
		return nil, fmt.Errorf("what is asked of the operation: %w", catalog.Classify(err))
	}
	return asked, nil
}

// readUnderWay locks an operation that can still be told something.
func readUnderWay(ctx context.Context, tx pgx.Tx, id string) (*record, error) {
	r, err := readByID(ctx, tx, id, " for update")
	if err != nil {
		return nil, err
	}
	switch {
	case r.State.Final():
		return nil, fmt.Errorf("operation %s is %s: %w", id, r.State, ErrFinal)
	case r.State == Undoing || r.CancelRequested:
		return nil, fmt.Errorf("operation %s is being undone: %w", id, ErrFinal)
	case r.PastNoReturn:
		return nil, fmt.Errorf("operation %s: %w", id, ErrPastNoReturn)
	}
	return r, nil
}
