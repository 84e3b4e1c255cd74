package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freehold-db/freehold/dataplane/rest/pgrst"
	"github.com/freehold-db/freehold/dataplane/rest/plan"
	"github.com/freehold-db/freehold/dataplane/timing"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/router"
)

// undoing is a statement that fails, so that all before it is undone: within a
// batch that is one implicit transaction nothing else undoes and leaves the
// session as it was in the same round trip.
const (
	undoing     = "SELECT '" + undoingText + "'::int8"
	undoingText = "freehold:rollback"
	// checking lets deferred constraints speak although nothing is committed. By
	// itself the statement has Postgres log a warning, each time, in a transaction
	// that no BEGIN began.
	checking = "DO 'BEGIN SET CONSTRAINTS ALL IMMEDIATE; END'"
)

// What a tenant's own SQL may leave behind in a session is undone at the end of
// the transaction that it ran in, before the session is somebody else's: settings
// (`set_config(…, false)`), temporary tables, advisory locks, the role. Deferred
// constraints speak first, for their triggers are to find the request's settings.
// Locks of a transaction that failed are released by the prologue of the next.
const (
	unset  = "RESET ALL"
	untemp = "DISCARD TEMP"
	unlock = "SELECT pg_catalog.pg_advisory_unlock_all(), pg_catalog.set_config('role', NULL, false)," +
		" pg_catalog.set_config('application_name', '" + pg.ApplicationName + "', false)"
)

// execute runs the settings and the statement as one batch with one Sync, which
// makes them one transaction and one round trip. The row is copied, so that the
// connection is free before the client has read a byte.
//
// A stamp that is not nil is the schema's, to be checked before.
func (h *Handler) execute(ctx context.Context, c *router.Conn, id Identity, req *request, out *outcome, stamp []byte) error {
	p := prologue{stamped: stamp != nil, reads: out.plan.ReadOnly}
	explained := out.plan.Explain != nil
	p.plain = p.stamped && req.document == nil && !explained && out.plan.Plain()
	sql, params := h.settings(c.Placement.Database, id, req, p, stamp)
	up := h.hoist(ctx, id, out.plan)
	var stmt, count plan.Statement
	if req.document != nil {
		stmt = *req.document
	} else {
		stmt, count = plan.Render(out.plan), plan.RenderCount(out.plan)
	}
	if explained {
		stmt, count = out.plan.Explain.Statement(stmt), plan.Statement{}
	}
	var batch pgconn.Batch
	before := 1
	if up.isolation != "" {
		batch.ExecParams("BEGIN ISOLATION LEVEL "+up.isolation, nil, nil, nil, nil)
		before++
	}
	batch.ExecParams(sql, params, nil, nil, nil)
	for _, setting := range up.settings {
		batch.ExecParams(hoist, setting, nil, nil, nil)
	}
	batch.ExecParams(stmt.SQL, stmt.Params, nil, nil, nil)
	if count.SQL != "" {
		batch.ExecParams(count.SQL, count.Params, nil, nil, nil)
	}
	foreign := !p.plain && req.document == nil && !out.plan.Calm() // the tenant's own SQL may have run
	if req.rollback || foreign && !p.reads {
		batch.ExecParams(checking, nil, nil, nil, nil)
	}
	if foreign && !p.reads { // a transaction that reads makes none
		batch.ExecParams(untemp, nil, nil, nil, nil)
	}
	if foreign {
		batch.ExecParams(unset, nil, nil, nil, nil)
		batch.ExecParams(unlock, nil, nil, nil, nil)
	}
	if req.rollback {
		batch.ExecParams(undoing, nil, nil, nil, nil)
	}
	if up.isolation != "" {
		batch.ExecParams("COMMIT", nil, nil, nil, nil)
	}
	timing.From(ctx).Mark(timing.Plan)
	results := c.PG.ExecBatch(ctx, &batch)

	ready := skip(results, before)
	rows := 0
	if ready && skip(results, len(up.settings)) && results.NextResult() {
		switch r := results.ResultReader(); {
		case out.plan.ByRow():
			rows = out.gather(r, h.maxAnswer(id))
		case out.plan.Tagged():
			rows = out.takeTag(r)
		default:
			rows = out.take(r, explained, h.maxAnswer(id))
		}
		if count.SQL != "" && results.NextResult() {
			out.takeGuess(results.ResultReader())
		}
	}
	for ready && results.NextResult() {
		_, _ = results.ResultReader().Close() // Close says what went wrong
	}
	err := results.Close() // waits for the commit, at which deferred constraints speak
	if up.isolation != "" {
		err = errors.Join(err, leave(ctx, c.PG))
	}
	timing.From(ctx).Mark(timing.Transaction)
	if req.rollback && undone(err) {
		err = nil
	}
	switch {
	case err != nil && !ready:
		return &settingsError{err}
	case err != nil:
		return err //nolint:wrapcheck // the router judges it as it is
	case rows != 1 && !explained:
		return fmt.Errorf("the statement returned %d rows", rows)
	case out.tooLarge > 0:
		return pgrst.AnswerTooLarge(out.tooLarge, h.maxAnswer(id))
	}
	return nil
}

// undone tells whether err is that of [undoing].
func undone(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "22P02" && strings.Contains(e.Message, undoingText)
}

// skip takes the results of n statements that have none worth reading; it tells whether they went well.
func skip(results *pgconn.MultiResultReader, n int) bool {
	for range n {
		if !results.NextResult() {
			return false
		}
		if _, err := results.ResultReader().Close(); err != nil {
			return false
		}
	}
	return true
}

// leave ends a transaction that was begun by BEGIN and failed.
func leave(ctx context.Context, conn *pgconn.PgConn) error {
	if conn.IsClosed() || conn.TxStatus() == 'I' {
		return nil
	}
	if err := conn.Exec(ctx, "ROLLBACK").Close(); err != nil {
		return errors.Join(err, conn.Close(ctx))
	}
	return nil
}

// take copies the statement's one row, but for a body of more than most bytes,
// or the lines of its explanation.
func (out *outcome) take(r *pgconn.ResultReader, explained bool, most int64) (rows int) {
	for ; r.NextRow(); rows++ {
		values := r.Values()
		if explained {
			if rows > 0 {
				out.explained = append(out.explained, '\n')
			}
			out.explained = append(out.explained, values[0]...)
			continue
		}
		for i, value := range values[:min(plan.Columns, len(values))] {
			if n := int64(len(value)); i == plan.ColumnBody && n > most { // of a read: a write is refused by its guard
				out.tooLarge = n
				continue
			}
			if out.row[i] = nil; value != nil {
				out.row[i] = append([]byte{}, value...)
			}
		}
	}
	return rows
}

// takeGuess reads the number of rows that Postgres expects.
func (out *outcome) takeGuess(r *pgconn.ResultReader) {
	for r.NextRow() {
		var explained []struct {
			Plan struct {
				Rows int64 `json:"Plan Rows"`
			}
		}
		if err := json.Unmarshal(bytes.Clone(r.Values()[0]), &explained); err == nil && len(explained) == 1 {
			out.guess = explained[0].Plan.Rows
		}
	}
}

// total is the number of rows there are, counted or guessed as was asked for; negative when not.
func (out *outcome) total() (int64, error) {
	total, err := number(out.row[plan.ColumnTotal], -1)
	if err != nil || out.guess < 0 {
		return total, err
	}
	if total >= 0 && total <= out.plan.MaxRows {
		return total, nil
	}
	return max(total, out.guess), nil
}
