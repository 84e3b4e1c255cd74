package rest

import (
	"bytes"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freehold-db/freehold/dataplane/rest/plan"
)

// takeTag takes the number of rows of a statement that returned none of them.
// It tells whether there was one to take, as [outcome.take] does.
func (out *outcome) takeTag(r *pgconn.ResultReader) (rows int) {
	tag, err := r.Close()
	if err != nil {
		return 0
	}
	n := strconv.AppendInt(nil, tag.RowsAffected(), 10)
	out.row[plan.ColumnRows] = n
	if out.plan.Answer.Count != plan.NoCount {
		out.row[plan.ColumnTotal] = n
	}
	return 1
}

// What stands around and between the rows of an array, where Postgres makes one of them.
const (
	opening, between, closing = "[", ", \n ", "]"
	around                    = int64(len(opening) + len(closing))
)

// buffer holds the body of an answer from its first row until it is written.
type buffer struct{ text []byte }

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// keptMost is how large a buffer may be that is used again: what one long
// answer took, short ones are not to hold.
const keptMost = 64 << 10

// release lets another request have the buffer. Nobody may look at the body any more.
func (out *outcome) release() {
	b := out.buffer
	if b == nil {
		return
	}
	out.buffer, out.row[plan.ColumnBody] = nil, nil
	if cap(b.text) <= keptMost {
		buffers.Put(b)
	}
}

// gather makes the answer's body of rows that come one by one; a body of more
// than most bytes is dropped, as by [outcome.take].
func (out *outcome) gather(r *pgconn.ResultReader, most int64) (rows int) {
	if out.plan.Answer.Singular {
		return out.single(r, most)
	}
	out.buffer = buffers.Get().(*buffer) //nolint:errcheck,forcetypeassert // the pool's own
	body := append(out.buffer.text[:0], opening...)
	n, size := int64(0), around
	for ; r.NextRow(); n++ {
		row := r.Values()[0]
		size += int64(len(row))
		if n > 0 {
			size += int64(len(between))
		}
		if size > most { // and will be from here on
			body, out.tooLarge = nil, size
			continue
		}
		if n > 0 {
			body = append(body, between...)
		}
		body = append(body, row...)
	}
	body = append(body, closing...)
	out.buffer.text, out.row[plan.ColumnBody] = body, body
	out.row[plan.ColumnRows] = strconv.AppendInt(nil, n, 10)
	return 1
}

// single takes the one row that was asked for, and counts those there are.
func (out *outcome) single(r *pgconn.ResultReader, most int64) (rows int) {
	var n int64
	for ; r.NextRow(); n++ {
		switch row := r.Values()[0]; {
		case n > 0:
		case int64(len(row)) > most:
			out.tooLarge = int64(len(row))
		default:
			out.row[plan.ColumnBody] = bytes.Clone(row)
		}
	}
	out.row[plan.ColumnRows] = strconv.AppendInt(nil, n, 10)
	return 1
}
