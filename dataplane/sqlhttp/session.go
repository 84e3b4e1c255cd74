package sqlhttp

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/router"
)

// A request is sent as one pipeline with one Sync: BEGIN, its settings, its
// statements, what cleans the session, COMMIT. PgBouncer keeps the server
// connection for us until the ReadyForQuery that answers the Sync, and hands it
// to the next request as it is then: in transaction pooling it resets nothing.
// So nothing of a request may be left in the session at that point.
//
// Most of what SQL can do to a session goes with its transaction when that is
// rolled back: settings, LISTEN, temporary tables, cursors. Prepared statements
// and advisory locks do not, and none of it does at a commit. Hence
//
//   - the transaction is a real one, begun by BEGIN: when a statement fails, the
//     server is in a failed transaction, PgBouncer keeps it for us, and a second
//     message rolls back and cleans. If the node dies instead, PgBouncer closes
//     a server connection that is in a transaction;
//   - the cleaning comes before COMMIT, which may fail itself (a serialization
//     failure, say) and leave no transaction to clean in. Settings, LISTEN and
//     the like are then gone by the rollback, the rest was cleaned before;
//   - deferred constraints are made to speak before the cleaning, since their
//     triggers are the last code of the tenant's that runs.
//
// A connection that is not known to be clean is closed, in its transaction.
const (
	settle = "SET CONSTRAINTS ALL IMMEDIATE"
	commit = "COMMIT"
)

// cleaning is what DISCARD ALL does, which can't be run in a transaction.
var cleaning = []string{
	"CLOSE ALL",
	"SET SESSION AUTHORIZATION DEFAULT",
	"RESET ALL",
	"DEALLOCATE ALL",
	"UNLISTEN *",
	"SELECT pg_catalog.pg_advisory_unlock_all(), pg_catalog.set_config('application_name', '" + pg.ApplicationName + "', false)",
	"DISCARD TEMP",
	"DISCARD SEQUENCES",
	// The last, so that the role is the one to begin with whatever came before.
	"RESET ROLE",
}

// rollback takes a failed transaction back and cleans, in a transaction of its
// own, so that failing at it leaves the connection recognisably unclean.
var rollback = func() string {
	sql := "ROLLBACK; BEGIN; "
	for _, s := range cleaning {
		sql += s + "; "
	}
	return sql + commit
}()

// settings makes the transaction the request's. The role is set although the
// login has it from its start: the tenant may have changed the login's settings.
const settings = "SELECT pg_catalog.set_config('role', $1, true), pg_catalog.set_config('statement_timeout', $2, true)," +
	" pg_catalog.set_config('request.jwt.claims', $3, true), pg_catalog.set_config('request.method', 'POST', true)," +
	" pg_catalog.set_config('request.path', '" + Path + "', true), pg_catalog.set_config('request.headers', $4, true)," +
	" pg_catalog.set_config('client_encoding', 'UTF8', true)"

// outcome is a request's answer, or why there is none although all went well on the wire.
type outcome struct {
	answer []byte
	err    error
}

var (
	errUnclean  = errors.New("the session could not be cleaned")
	errProtocol = errors.New("unexpected message of the server")
)

// run executes the request on a connection. Its error is the connection's or
// Postgres', for the router to judge.
func (h *Handler) run(ctx context.Context, conn *router.Conn, login tenantdb.Login, id Identity, req *request) (*outcome, error) {
	s := &session{pg: conn.PG, flushed: func() error { return nil }}
	defer s.guard(ctx)()
	limits := h.opts.under(id.Limits)
	claims := []byte(id.Claims)
	if len(claims) == 0 {
		claims = []byte("{}")
	}
	s.send(statement{sql: req.begin()}, 0)
	s.send(statement{sql: settings, params: [][]byte{
		[]byte(login.Become(conn.Placement.Database)[0]), strconv.AppendInt(nil, limits.StatementFor.Milliseconds(), 10), claims, req.headers,
	}}, 0)
	for _, st := range req.statements {
		s.send(st, limits.MaxRows+1)
	}
	s.send(statement{sql: settle}, 0)
	for _, sql := range cleaning {
		s.send(statement{sql: sql}, 0)
	}
	s.send(statement{sql: commit}, 0)
	s.pg.Frontend().SendSync(&pgproto3.Sync{})
	s.flush()

	out := &outcome{}
	w := newWriter(req, limits.MaxRows, limits.MaxAnswer)
	err := s.collect(w)
	if err == nil {
		out.answer, out.err = w.finish(req.readOnly)
		return out, nil
	}
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) || s.pg.IsClosed() {
		s.abandon()
		return nil, errors.Join(ctx.Err(), err) // that the time ran out says more than how the connection ended
	}
	if s.pg.TxStatus() != 'I' { // a failed transaction, which PgBouncer keeps for us
		if cerr := s.clean(); cerr != nil {
			s.abandon()
			return nil, fmt.Errorf("%w: %w (after %w)", errUnclean, cerr, err)
		}
	}
	if w.statement < 0 {
		return nil, fmt.Errorf("session settings: %w", opaque(refusal)) // ours to get right, and not for clients to read
	}
	return nil, err
}

// opaque is a refusal whose words are for the log.
func opaque(e *pgconn.PgError) error { return fmt.Errorf("%s (%s)", e.Message, e.Code) }

// session speaks the wire protocol: the driver's own batches have no bound on
// the rows that a statement returns.
type session struct {
	pg *pgconn.PgConn
	// flushed waits until the pipeline is written, or can't be.
	flushed func() error
	size    int // of the pipeline, in bytes, about
}

// guard has the connection's reads and writes end when ctx does.
func (s *session) guard(ctx context.Context) (release func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		_ = s.pg.Conn().SetDeadline(time.Unix(1, 0))
	})
	return func() {
		if !stop() {
			<-done
			if !s.pg.IsClosed() {
				_ = s.pg.Conn().SetDeadline(time.Time{})
			}
		}
	}
}

// send adds a statement to the pipeline; rows bounds what it may return, 0: nothing does.
func (s *session) send(st statement, rows int) {
	s.size += len(st.sql)
	for _, p := range st.params {
		s.size += len(p)
	}
	f := s.pg.Frontend()
	f.SendParse(&pgproto3.Parse{Query: st.sql})
	f.SendBind(&pgproto3.Bind{Parameters: st.params})
	f.SendDescribe(&pgproto3.Describe{ObjectType: 'P'})
	f.SendExecute(&pgproto3.Execute{MaxRows: uint32(rows)}) //nolint:gosec // a configured bound
}

// longPipeline is what the buffers on the way may not take at once.
const longPipeline = 16 << 10

// flush writes a long pipeline beside the reading: when its first answers are
// long, too, the buffers would otherwise be full both ways, and all stand still.
func (s *session) flush() {
	if s.size < longPipeline {
		err := s.pg.Frontend().Flush()
		s.flushed = func() error { return err }
		return
	}
	done := make(chan error, 1)
	go func() { done <- s.pg.Frontend().Flush() }()
	s.flushed = sync.OnceValue(func() error { return <-done })
}

func (s *session) receive() (pgproto3.BackendMessage, error) {
	return s.pg.ReceiveMessage(context.Background()) // bounded by guard's deadline
}

// collect reads the answers of the pipeline into w. It returns Postgres'
// refusal with the connection ready, or the connection's error.
func (s *session) collect(w *writer) (err error) {
	var refusal error
	defer func() {
		if ferr := s.flushed(); err == nil && ferr != nil {
			s.abandon()
			err = ferr
		}
		if err == nil {
			err = refusal
		}
	}()
	for {
		m, err := s.receive()
		if err != nil {
			s.abandon() // also ends the writing
			return err
		}
		switch m := m.(type) {
		case *pgproto3.RowDescription:
			w.describe(m.Fields)
		case *pgproto3.DataRow:
			w.row(m.Values)
		case *pgproto3.CommandComplete:
			w.complete(m.CommandTag)
		case *pgproto3.EmptyQueryResponse, *pgproto3.PortalSuspended:
			w.complete(nil)
		case *pgproto3.ErrorResponse:
			refusal = pgconn.ErrorResponseToPgError(m)
			if s.pg.IsClosed() { // FATAL
				return refusal
			}
		case *pgproto3.ReadyForQuery:
			if refusal == nil && m.TxStatus != 'I' {
				return fmt.Errorf("%w: in a transaction after COMMIT", errProtocol)
			}
			return nil
		case *pgproto3.CopyInResponse, *pgproto3.CopyOutResponse, *pgproto3.CopyBothResponse:
			s.abandon()
			return fmt.Errorf("%w: COPY", errProtocol)
		}
	}
}

// clean rolls a failed transaction back and leaves the session as it was before the request.
func (s *session) clean() error {
	s.pg.Frontend().SendQuery(&pgproto3.Query{String: rollback})
	if err := s.pg.Frontend().Flush(); err != nil {
		return err
	}
	var failed error
	for {
		m, err := s.receive()
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			failed = pgconn.ErrorResponseToPgError(m)
			if s.pg.IsClosed() {
				return failed
			}
		case *pgproto3.ReadyForQuery:
			return failed
		}
	}
}

// abandonFor bounds the good-bye to a connection that is given up.
const abandonFor = time.Second

// abandon cancels what the server does for the connection, and closes it.
// PgBouncer closes the server's connection with it unless that is out of its transaction.
func (s *session) abandon() {
	if s.pg.IsClosed() {
		_ = s.pg.Conn().Close()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), abandonFor)
	defer cancel()
	_ = s.pg.CancelRequest(ctx)
	_ = s.pg.Conn().Close() // ends a write that is stuck
	_ = s.flushed()
	_ = s.pg.Close(ctx)
}
