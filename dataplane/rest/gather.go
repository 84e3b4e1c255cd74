package rest

import (
	"bytes"
	"strconv"

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

// gather makes the answer's body of rows that come one by one; a body of more
// than most bytes is dropped, as by [outcome.take].
func (out *outcome) gather(r *pgconn.ResultReader, most int64) (rows int) {
	if out.plan.Answer.Singular {
		return out.single(r, most)
	}
	var body []byte
	n, size := int64(0), around
	for ; r.NextRow(); n++ {
		row := r.Values()[0]
		size += int64(len(row))
		separator := opening
		if n > 0 {
			size += int64(len(between))
			separator = between
		} else if size <= most {
			body = make([]byte, 0, out.room(len(row)))
		}
		if size > most { // and will be from here on
			body, out.tooLarge = nil, size
			continue
		}
		body = append(append(body, separator...), row...)
	}
	if n == 0 {
		body = []byte(opening)
	}
	out.row[plan.ColumnBody] = append(body, closing...)
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

// room is for a body whose first row has so many bytes: for all of a short page.
func (out *outcome) room(row int) int {
	const many, most = 8, 64 << 10
	rows := many
	switch limit := out.plan.Read.Page.Limit; {
	case out.plan.ByKey():
		rows = 1
	case limit >= 0 && limit <= 4*many:
		rows = int(limit)
	}
	return int(around) + max(row, min(most, rows*(row+len(between))))
}
