package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/shardmap"
)

// channel is notified when there may be something to claim (no payload) and
// when the operation in the payload was asked to cancel.
const channel = "freehold_operations"

const columns = `o.id::text, o.kind, coalesce(o.tenant, ''), o.state, o.step, o.past_no_return, o.cancel_requested, o.attempt, o.data,
	o.progress, o.receipt, o.error, o.created_by, o.actor, o.reason, o.created_at, o.started_at, o.finished_at, o.next_run, o.worker, o.asked, o.token`

// record is an operation and the token of its last claim.
type record struct {
	Operation
	token int64
}

// fields are where columns go.
func (r *record) fields() []any {
	return []any{&r.ID, &r.Kind, &r.Tenant, &r.State, &r.Step, &r.PastNoReturn, &r.CancelRequested, &r.Attempt, &r.Data,
		&r.Progress, &r.Receipt, &r.Error, &r.CreatedBy, &r.Actor, &r.Reason, &r.CreatedAt, &r.StartedAt, &r.FinishedAt, &r.NextRun, &r.Worker, &r.Asked, &r.token}
}

func scanRecord(row pgx.CollectableRow) (*record, error) {
	var r record
	err := row.Scan(r.fields()...)
	return &r, err
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func readOne(ctx context.Context, q querier, sql string, args ...any) (*record, error) {
	return readAs(ctx, q, scanRecord, sql, args...)
}

func readAs(ctx context.Context, q querier, scan pgx.RowToFunc[*record], sql string, args ...any) (*record, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, catalog.Classify(err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, scan)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, catalog.ErrNotFound
	}
	if err != nil {
		return nil, catalog.Classify(err)
	}
	return r, nil
}

func readByID(ctx context.Context, q querier, id, lock string) (*record, error) {
	if _, err := uuid.Parse(id); err != nil {
		return nil, fmt.Errorf("operation %.64q: %w", id, catalog.ErrNotFound)
	}
	r, err := readOne(ctx, q, `select `+columns+` from operations o where id = $1`+lock, id)
	if err != nil {
		return nil, fmt.Errorf("operation %s: %w", id, err)
	}
	return r, nil
}

// Get reads one operation. Errors: catalog.ErrNotFound (also for an ID that is no UUID).
func (e *Engine) Get(ctx context.Context, id string) (*Operation, error) {
	r, err := readByID(ctx, e.store.Pool(), id, "")
	if err != nil {
		return nil, err
	}
	return &r.Operation, nil
}

// FindRequest returns the operation that actor started with this request key,
// or catalog.ErrNotFound. For callers that must look before they do synchronous work.
func (e *Engine) FindRequest(ctx context.Context, actor, key string) (*Operation, error) {
	r, err := readOne(ctx, e.store.Pool(), `select `+columns+` from operations o where created_by = $1 and request_key = $2`, actor, key)
	if err != nil {
		return nil, fmt.Errorf("operation with request key: %w", err)
	}
	return &r.Operation, nil
}

// Filter narrows a list; zero fields don't.
type Filter struct {
	Kind       string
	Tenant     shardmap.TenantID
	States     []State
	Unfinished bool // only those that have not ended
	// Of narrows to those whose document names this operation as "of": what is asked of an operation, by another.
	Of string
	// Sight narrows to operations of these tenants; those of no tenant are in nobody's.
	Sight *catalog.Sight
}

// List lists newest first. next is the cursor of the following page, empty after the last.
func (e *Engine) List(ctx context.Context, f Filter, p catalog.Page) (ops []*Operation, next string, err error) {
	if p.After != "" && uuid.Validate(p.After) != nil {
		return nil, "", fmt.Errorf("list operations: cursor %.64q: %w", p.After, catalog.ErrNotFound)
	}
	states := f.States
	if states == nil {
		states = []State{}
	}
	seen, sight := f.Sight.Seen("o.tenant", 8)
	rows, err := e.store.Pool().Query(ctx, `select `+columns+` from operations o
		where ($1 = '' or id < nullif($1, '')::uuid) and ($2 = '' or kind = $2) and ($3 = '' or tenant = $3)
			and ($4::text[] = '{}' or state = any($4)) and (not $5 or finished_at is null) and ($7 = '' or data->>'of' = $7)
			and `+seen+`
		order by id desc limit $6`, append([]any{p.After, f.Kind, f.Tenant, states, f.Unfinished, p.Rows() + 1, f.Of}, sight...)...)
	if err != nil {
		return nil, "", fmt.Errorf("list operations: %w", catalog.Classify(err))
	}
	ops, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Operation, error) {
		r, err := scanRecord(row)
		return &r.Operation, err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list operations: %w", catalog.Classify(err))
	}
	ops, next = catalog.CutPage(p, ops, func(o *Operation) string { return o.ID })
	return ops, next, nil
}

// Steps reads the journal, oldest first. Errors: catalog.ErrNotFound.
func (e *Engine) Steps(ctx context.Context, id string) ([]StepRecord, error) {
	if _, err := e.Get(ctx, id); err != nil {
		return nil, err
	}
	rows, err := e.store.Pool().Query(ctx, `select step, undo, attempt, started_at, finished_at, error
		from operation_steps where operation = $1 order by id`, id)
	if err != nil {
		return nil, fmt.Errorf("steps of operation %s: %w", id, catalog.Classify(err))
	}
	steps, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (StepRecord, error) {
		var s StepRecord
		err := row.Scan(&s.Step, &s.Undo, &s.Attempt, &s.StartedAt, &s.FinishedAt, &s.Error)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("steps of operation %s: %w", id, catalog.Classify(err))
	}
	return steps, nil
}

// lockForRecord locks the row, and makes sure that a worker that falls asleep
// inside the transaction keeps nobody from taking over for longer than a lease.
func lockForRecord(ctx context.Context, tx pgx.Tx, id string, lease time.Duration) (*record, error) {
	return readOne(ctx, tx, `with bounded as (select set_config('idle_in_transaction_session_timeout', $2, true))
		select `+columns+` from operations o, bounded where o.id = $1 for update of o`, id, fmt.Sprint(lease.Milliseconds()))
}

// save writes what a worker may change. A wait of zero or more gives the claim
// back, to be taken again after it; a negative one keeps it.
func (r *record) save(ctx context.Context, tx pgx.Tx, wait time.Duration) error {
	give := wait >= 0 || r.State.Final()
	if give {
		r.Worker = ""
		if r.State == Running {
			r.State = Pending
		}
	}
	tag, err := tx.Exec(ctx, `update operations set state = $3, step = $4, past_no_return = $5, attempt = $6, data = $7, progress = $8,
			receipt = $9, error = $10, next_run = case when $11 then clock_timestamp() + make_interval(secs => $12) else next_run end,
			worker = $14, lease_until = case when $11 then null else lease_until end,
			finished_at = case when $13 then clock_timestamp() end
		where id = $1 and token = $2`,
		r.ID, r.token, r.State, r.Step, r.PastNoReturn, r.Attempt, r.Data, r.Progress, nullJSON(r.Receipt), clip(r.Error),
		give, max(wait, 0).Seconds(), r.State.Final(), r.Worker)
	if err == nil && tag.RowsAffected() == 0 {
		return ErrLeaseLost
	}
	return catalog.Classify(err)
}

func nullJSON(j json.RawMessage) any {
	if len(j) == 0 {
		return nil
	}
	return j
}

// clip bounds an error text, and keeps what Postgres can't hold out of it.
func clip(s string) string {
	const most = 4000
	clean := make([]rune, 0, min(len(s), most))
	for _, c := range s {
		if c == 0 {
			c = ' '
		}
		if len(clean) == most {
			return string(clean) + "…"
		}
		clean = append(clean, c)
	}
	return string(clean)
}
