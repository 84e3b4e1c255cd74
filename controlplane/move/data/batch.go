package data

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/freehold-db/freehold/controlplane/move/survey"
)

// Tables up to tiny travel in batches, each of which is one message to either
// side: a tenant of 10,000 small tables does not wait for 10,000 answers.
// batchTables also bounds the locks of one transaction.
const (
	tiny        = 1 << 20
	batchTables = 128
	batchBytes  = 8 << 20
)

// batches groups tables in their order.
func batches(tables []survey.Table) [][]survey.Table {
	var all [][]survey.Table
	var bytes int64
	for _, t := range tables {
		if last := len(all) - 1; last < 0 || len(all[last]) == batchTables || bytes+t.Bytes > batchBytes {
			all, bytes = append(all, nil), 0
		}
		last := len(all) - 1
		all[last], bytes = append(all[last], t), bytes+t.Bytes
	}
	return all
}

// carry copies whole tables and returns how many rows: all COPYs of a side are
// one query, whose answers arrive one after the other. An error leaves both
// connections in the middle of something: they are of no more use.
func (r *run) carry(ctx context.Context, w *worker, tables []survey.Table) (rows int64, err error) {
	src, dst := w.source.PgConn(), w.target.PgConn()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { interrupt(src); interrupt(dst) })()

	var read, write strings.Builder
	read.WriteString(begin(r.Snapshot) + ";")
	for _, t := range tables {
		read.WriteString(copyOut(t, chunk{}) + ";")
		write.WriteString(copyIn(t) + ";")
	}
	read.WriteString("COMMIT")
	if err := send(src, read.String()); err != nil {
		return 0, fmt.Errorf("copy %s: source: %w", these(tables), err)
	}
	if err := send(dst, write.String()); err != nil {
		return 0, fmt.Errorf("copy %s: target: %w", these(tables), err)
	}
	type tally struct {
		counts []int64
		err    error
	}
	arrived := make(chan tally, 1)
	go func() {
		counts, err := answers(dst.Frontend(), nil)
		arrived <- tally{counts, err}
	}()
	stream := r.Pace.Stream()
	left, err := answers(src.Frontend(), forward(dst.Frontend(), func(n int) error {
		r.streamed.Add(int64(n))
		return stream.Take(ctx, n)
	}))
	if err == nil {
		err = dst.Frontend().Flush()
	}
	if err != nil {
		cancel() // or the target waits for rows that don't come
	}
	there := <-arrived
	switch {
	case isServers(there.err) || err == nil && there.err != nil:
		return 0, fmt.Errorf("copy %s: target: %w", these(tables), there.err)
	case err != nil:
		return 0, fmt.Errorf("copy %s: source: %w", these(tables), err)
	case len(left) != len(tables) || len(there.counts) != len(tables):
		return 0, fmt.Errorf("copy %s: %d tables read, %d written", these(tables), len(left), len(there.counts))
	}
	for i, t := range tables {
		if left[i] != there.counts[i] {
			return 0, fmt.Errorf("copy %s: %d rows read, %d written", t.Ident(), left[i], there.counts[i])
		}
		rows += left[i]
	}
	return rows, nil
}

// interrupt has whoever reads or writes the connection return at once.
func interrupt(c *pgconn.PgConn) {
	_ = c.Conn().SetDeadline(time.Unix(1, 0)) // a closed connection needs none
}

func send(c *pgconn.PgConn, sql string) error {
	c.Frontend().Send(&pgproto3.Query{String: sql})
	return c.Frontend().Flush()
}

// answers reads to the end of a query of many COPYs: how many rows each had.
// What a server sends on the way goes to data, if that is not nil.
func answers(f *pgproto3.Frontend, data func(pgproto3.BackendMessage) error) (rows []int64, err error) {
	for {
		message, broken := f.Receive()
		if broken != nil {
			return rows, errors.Join(err, broken)
		}
		switch m := message.(type) {
		case *pgproto3.CopyData, *pgproto3.CopyDone:
			if err == nil && data != nil {
				if err = data(m); err != nil {
					return rows, err
				}
			}
		case *pgproto3.CommandComplete:
			if tag := pgconn.NewCommandTag(string(m.CommandTag)); strings.HasPrefix(tag.String(), "COPY ") {
				rows = append(rows, tag.RowsAffected())
			}
		case *pgproto3.ErrorResponse:
			err = errors.Join(err, pgconn.ErrorResponseToPgError(m))
		case *pgproto3.ReadyForQuery:
			return rows, err
		}
	}
}

// forward hands on what a COPY TO sends to the COPY FROM at the other side;
// pass counts the bytes and holds them back.
func forward(to *pgproto3.Frontend, pass func(n int) error) func(pgproto3.BackendMessage) error {
	waiting := 0
	return func(message pgproto3.BackendMessage) error {
		switch m := message.(type) {
		case *pgproto3.CopyData:
			if err := pass(len(m.Data)); err != nil {
				return err
			}
			to.Send(&pgproto3.CopyData{Data: m.Data})
			waiting += len(m.Data)
		case *pgproto3.CopyDone:
			to.Send(&pgproto3.CopyDone{})
		}
		if waiting < pipeBuffer {
			return nil
		}
		waiting = 0
		return to.Flush()
	}
}

// isServers tells a server's word from a broken connection, which may be our own doing.
func isServers(err error) bool {
	var said *pgconn.PgError
	return errors.As(err, &said)
}

func these(tables []survey.Table) string {
	if len(tables) == 1 {
		return tables[0].Ident()
	}
	return fmt.Sprintf("%s and %d more tables", tables[0].Ident(), len(tables)-1)
}

// checksums reads whole tables in one query.
func checksums(ctx context.Context, conn *pgx.Conn, tables []survey.Table, byValue bool) ([]Sum, error) {
	var sql strings.Builder
	for i, t := range tables {
		if i > 0 {
			sql.WriteString(" UNION ALL ")
		}
		what := sumText
		if byValue && t.Hashable {
			what = sumValue
		}
		fmt.Fprintf(&sql, "SELECT %d, x.* FROM (%s) x", i, what+t.Ident()+" AS t")
	}
	rows, err := conn.Query(ctx, sql.String(), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, fmt.Errorf("checksum of %s: %w", these(tables), err)
	}
	sums := make([]Sum, len(tables))
	var i int
	var count int64
	var hash string
	_, err = pgx.ForEachRow(rows, []any{&i, &count, &hash}, func() error {
		number, ok := new(big.Int).SetString(hash, 10)
		if !ok {
			return fmt.Errorf("not a number: %q", hash)
		}
		sums[i] = Sum{Rows: count, Hash: number}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("checksum of %s: %w", these(tables), err)
	}
	return sums, nil
}
