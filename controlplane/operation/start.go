package operation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
)

// Start records a new operation; a worker takes it up at once.
// Errors: ErrUnknownKind, catalog.ErrBusy, catalog.ErrKeyReused.
func (e *Engine) Start(ctx context.Context, s Spec) (op *Operation, err error) {
	err = e.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		op, err = e.StartTx(ctx, tx, s)
		return err
	})
	if err != nil {
		return nil, err
	}
	return op, nil
}

// StartTx is Start as part of the caller's transaction.
func (e *Engine) StartTx(ctx context.Context, tx pgx.Tx, s Spec) (*Operation, error) {
	op, fresh, err := e.insert(ctx, tx, s)
	if err != nil || !fresh {
		return op, err
	}
	if _, err := tx.Exec(ctx, `select pg_notify($1, '')`, channel); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Kind, catalog.Classify(err))
	}
	return op, nil
}

// RecordDone records, as part of the caller's transaction, an operation whose
// whole work is done in that transaction; it is Done from the start.
// Errors as Start's (ErrBusy too: it must not pass by an unfinished operation of the tenant).
func (e *Engine) RecordDone(ctx context.Context, tx pgx.Tx, s Spec, receipt any) (*Operation, error) {
	// Pending for an instant, so that it meets the rule of one unfinished operation per tenant.
	op, fresh, err := e.insert(ctx, tx, s)
	if err != nil || !fresh {
		return op, err
	}
	doc, err := json.Marshal(receipt)
	if err != nil {
		return nil, fmt.Errorf("receipt of a %s: %w", s.Kind, err)
	}
	r, err := readOne(ctx, tx, `update operations o set state = 'done', step = '', receipt = $2, worker = '', progress = '{"percent": 100}',
			started_at = o.created_at, finished_at = clock_timestamp()
		where id = $1 returning `+columns, op.ID, doc)
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", s.Kind, err)
	}
	e.finished(ctx, &r.Operation) // counted a moment too early, should the caller's transaction fail
	return &r.Operation, nil
}

// insert writes the row, or finds the one that the same request wrote before.
func (e *Engine) insert(ctx context.Context, tx pgx.Tx, s Spec) (op *Operation, fresh bool, err error) {
	k, data, err := e.document(s)
	if err != nil {
		return nil, false, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, false, fmt.Errorf("start %s: %w", s.Kind, err)
	}
	actor, err := json.Marshal(s.Actor)
	if err != nil {
		return nil, false, fmt.Errorf("start %s: %w", s.Kind, err)
	}
	hash := requestHash(s, data)
	r, err := readOne(ctx, tx, `insert into operations as o (id, kind, tenant, state, step, data, created_by, actor, reason, request_key, request_hash)
		values ($1, $2, nullif($3, ''), 'pending', $4, $5, $6, $7, $8, nullif($9, ''), $10)
		on conflict do nothing returning `+columns,
		id, s.Kind, s.Tenant, k.steps[0].Name, data, s.Actor.Name, actor, s.Actor.Reason, s.RequestKey, hash)
	if err == nil {
		return &r.Operation, true, nil
	}
	if !errors.Is(err, catalog.ErrNotFound) {
		return nil, false, fmt.Errorf("start %s: %w", s.Kind, err)
	}
	op, err = e.inTheWay(ctx, tx, s, hash)
	return op, false, err
}

// inTheWay finds out why a new operation met a row that is there already.
func (e *Engine) inTheWay(ctx context.Context, tx pgx.Tx, s Spec, hash []byte) (*Operation, error) {
	r, err := readOne(ctx, tx, `select `+columns+` from operations o where created_by = $1 and request_key = $2`, s.Actor.Name, s.RequestKey)
	if err == nil {
		var before []byte
		if err := tx.QueryRow(ctx, `select request_hash from operations where id = $1`, r.ID).Scan(&before); err != nil {
			return nil, fmt.Errorf("start %s: %w", s.Kind, catalog.Classify(err))
		}
		if !bytes.Equal(before, hash) {
			return nil, fmt.Errorf("start %s: %w", s.Kind, catalog.ErrKeyReused)
		}
		return &r.Operation, nil
	}
	if !errors.Is(err, catalog.ErrNotFound) {
		return nil, fmt.Errorf("start %s: %w", s.Kind, err)
	}
	r, err = readOne(ctx, tx, `select `+columns+` from operations o where tenant = $1 and finished_at is null`, s.Tenant)
	if errors.Is(err, catalog.ErrNotFound) { // it ended this very moment
		return nil, fmt.Errorf("tenant %s: %w", s.Tenant, catalog.ErrBusy)
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Kind, err)
	}
	return nil, fmt.Errorf("tenant %s: %w: %s %s", s.Tenant, catalog.ErrBusy, r.Kind, r.ID)
}

// requestHash tells two requests with the same key apart.
func requestHash(s Spec, data []byte) []byte {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00", s.Kind, s.Tenant)
	h.Write(data)
	return h.Sum(nil)
}

// Cancel asks to end an operation. One that no worker took up yet is Canceled
// at once, else its worker stops the step and undoes what was done. Once Cancel
// has returned nil, the operation ends as Canceled and not otherwise, unless
// it was being undone because of an error already.
// Errors: ErrPastNoReturn, ErrFinal, catalog.ErrNotFound.
func (e *Engine) Cancel(ctx context.Context, id string, actor catalog.Actor) (op *Operation, err error) {
	err = e.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		op, err = e.CancelTx(ctx, tx, id, actor)
		return err
	})
	if err != nil {
		return nil, err
	}
	return op, nil
}

// CancelTx is Cancel as part of the caller's transaction.
func (e *Engine) CancelTx(ctx context.Context, tx pgx.Tx, id string, actor catalog.Actor) (*Operation, error) {
	r, err := readByID(ctx, tx, id, " for update")
	if err != nil {
		return nil, err
	}
	switch {
	case r.State.Final():
		return nil, fmt.Errorf("operation %s is %s: %w", id, r.State, ErrFinal)
	case r.PastNoReturn:
		return nil, fmt.Errorf("operation %s: %w", id, ErrPastNoReturn)
	case r.State == Undoing || r.CancelRequested:
		return &r.Operation, nil
	}
	why := "canceled by " + actor.Name
	if actor.Reason != "" {
		why += ": " + actor.Reason
	}
	// What never started leaves nothing to undo.
	r, err = readOne(ctx, tx, `update operations o set cancel_requested = true, error = $2, next_run = clock_timestamp(),
			state = case when started_at is null then 'canceled' else state end,
			finished_at = case when started_at is null then clock_timestamp() end
		where id = $1 returning `+columns, id, clip(why))
	if err != nil {
		return nil, fmt.Errorf("cancel operation %s: %w", id, err)
	}
	if err := e.auditEnd(ctx, tx, &r.Operation); err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, `select pg_notify($1, $2)`, channel, id); err != nil {
		return nil, fmt.Errorf("cancel operation %s: %w", id, catalog.Classify(err))
	}
	return &r.Operation, nil
}
