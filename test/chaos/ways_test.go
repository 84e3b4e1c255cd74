package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/test/chaos/history"
)

// row of a register as a client sees it.
type row struct {
	ID     int64  `json:"id"`
	Value  int64  `json:"value"`
	Tenant string `json:"tenant"`
}

// way is how a client reaches its tenant. Errors are *failure.
type way interface {
	read(ctx context.Context, id int64) (row, error)
	// write returns the row as it is after it; cas as it was before.
	write(ctx context.Context, id, value int64) (row, error)
	cas(ctx context.Context, id, old, value int64) (row, error)
	// post writes an entry and the balance of its account in one transaction.
	post(ctx context.Context, e history.Entry) error
	close()
}

// failure is an operation that got no good answer.
type failure struct {
	code    string // by which the report counts
	unknown bool   // it may have been done, or be done yet
	err     error
}

func (f *failure) Error() string { return f.code + ": " + f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// rest goes over the data plane's nodes in turn, as a plain HTTP client does.
type rest struct {
	http  *http.Client
	nodes []string
	turn  *atomic.Int64
	token string
}

func (r rest) read(ctx context.Context, id int64) (row, error) {
	var rows []row
	err := r.call(ctx, http.MethodGet, fmt.Sprintf("/registers?id=eq.%d", id), nil, &rows)
	return only(rows, err)
}

func (r rest) write(ctx context.Context, id, value int64) (row, error) {
	var rows []row
	err := r.call(ctx, http.MethodPatch, fmt.Sprintf("/registers?id=eq.%d", id), map[string]any{"value": value}, &rows)
	return only(rows, err)
}

func (r rest) cas(ctx context.Context, id, old, value int64) (was row, err error) {
	return was, r.call(ctx, http.MethodPost, "/rpc/cas", map[string]any{"reg": id, "old": old, "new": value}, &was)
}

func (r rest) post(ctx context.Context, e history.Entry) error {
	return r.call(ctx, http.MethodPost, "/rpc/post", map[string]any{"entry": e.ID, "account": e.Account, "amount": e.Amount, "tenant": e.Tenant}, nil)
}

func (r rest) close() {}

func only(rows []row, err error) (row, error) {
	if err == nil && len(rows) != 1 {
		err = &failure{"wrong answer", false, fmt.Errorf("%d rows of one register", len(rows))}
	}
	if err != nil {
		return row{}, err
	}
	return rows[0], nil
}

// call asks the nodes in turn until one takes the connection.
func (r rest) call(ctx context.Context, method, path string, body, into any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	var last error
	for range r.nodes {
		node := r.nodes[int(r.turn.Add(1))%len(r.nodes)]
		req, err := http.NewRequestWithContext(ctx, method, node+"/rest/v1"+path, bytes.NewReader(b))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+r.token)
		req.Header.Set("Prefer", "return=representation")
		if body == nil {
			req.Body, req.ContentLength = nil, 0
		} else {
			req.Header.Set("Content-Type", "application/json")
		}
		resp, err := r.http.Do(req)
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" { // it never left
			last = err
			continue
		}
		if err != nil {
			return &failure{"no answer", true, err}
		}
		return answer(resp, into)
	}
	return &failure{"no node", false, last}
}

func answer(resp *http.Response, into any) error {
	defer resp.Body.Close() //nolint:errcheck // read to its end or given up
	text, err := io.ReadAll(resp.Body)
	if resp.StatusCode >= http.StatusBadRequest {
		var p struct{ Code string }
		_ = json.Unmarshal(text, &p)
		return &failure{fmt.Sprintf("%d %s", resp.StatusCode, p.Code), p.Code == "outcome_unknown" || p.Code == "", fmt.Errorf("%.300s", text)}
	}
	if err != nil {
		return &failure{"broken answer", true, err} // done, but what was found is not known
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return &failure{"wrong answer", true, fmt.Errorf("%w: %.300s", err, text)}
	}
	return nil
}

// wire speaks to the PgBouncer of the tenant's shard, on one connection at a
// time; when that breaks, it asks where the tenant lives, and connects again.
type wire struct {
	address func(ctx context.Context) (*pgx.ConnConfig, error)
	conn    *pgx.Conn
}

func (w *wire) read(ctx context.Context, id int64) (row, error) {
	return w.row(ctx, "SELECT id, value, tenant FROM public.registers WHERE id = $1", id)
}

func (w *wire) write(ctx context.Context, id, value int64) (row, error) {
	return w.row(ctx, "UPDATE public.registers SET value = $2 WHERE id = $1 RETURNING id, value, tenant", id, value)
}

func (w *wire) cas(ctx context.Context, id, old, value int64) (row, error) {
	return w.row(ctx, "SELECT id, value, tenant FROM public.cas($1, $2, $3)", id, old, value)
}

func (w *wire) row(ctx context.Context, sql string, args ...any) (r row, err error) {
	if err := w.connect(ctx); err != nil {
		return row{}, err
	}
	err = w.conn.QueryRow(ctx, sql, args...).Scan(&r.ID, &r.Value, &r.Tenant)
	return r, w.failed(err, true)
}

// post takes several round trips; until COMMIT is sent, nothing can have been done.
func (w *wire) post(ctx context.Context, e history.Entry) error {
	if err := w.connect(ctx); err != nil {
		return err
	}
	tx, err := w.conn.Begin(ctx)
	if err != nil {
		return w.failed(err, false)
	}
	_, err = tx.Exec(ctx, "INSERT INTO public.entries VALUES ($1, $2, $3, $4)", e.ID, e.Account, e.Amount, e.Tenant)
	if err == nil {
		_, err = tx.Exec(ctx, "UPDATE public.accounts SET balance = balance + $2 WHERE id = $1", e.Account, e.Amount)
	}
	if err != nil {
		_ = tx.Rollback(ctx)
		return w.failed(err, false)
	}
	return w.failed(tx.Commit(ctx), true)
}

func (w *wire) connect(ctx context.Context) error {
	if w.conn != nil && !w.conn.IsClosed() {
		return nil
	}
	cfg, err := w.address(ctx)
	if err == nil {
		w.conn, err = pgx.ConnectConfig(ctx, cfg)
	}
	if err != nil {
		return &failure{code: "no connection " + pg.Code(err), err: err}
	}
	return nil
}

// failed judges an error. decisive: what failed could have had an effect.
// PgBouncer says 08P01 when its server went away in the middle of something.
// The driver's SafeToRetry is not asked: a connection that breaks while the
// answer to a COMMIT is read is called one that was closed before.
func (w *wire) failed(err error, decisive bool) error {
	if err == nil {
		return nil
	}
	f := &failure{code: "wire " + pg.Code(err), unknown: decisive, err: err}
	var refused *pgconn.PgError
	switch {
	case errors.Is(err, pgx.ErrTxCommitRollback):
		f.unknown = false
	case errors.As(err, &refused) && len(refused.Code) == 5:
		switch refused.Code[:2] {
		case "08", "57", "58", "XX":
		default:
			f.unknown = false
		}
	}
	if w.conn != nil && (f.unknown || w.conn.PgConn().TxStatus() != 'I') {
		w.close() // it is in no state to go on with
	}
	return f
}

func (w *wire) close() {
	if w.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeFor)
	defer cancel()
	_ = w.conn.Close(ctx) // it may be broken
	w.conn = nil
}
