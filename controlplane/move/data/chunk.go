// Package data copies the rows of a database's tables from an exported
// snapshot, by parallel binary COPY pipes, and compares both sides by counts
// and checksums that don't depend on the order of rows.
//
// Import law: of this module, data imports internal packages, controlplane/move/survey and pace only.
package data

import (
	"fmt"
	"strings"

	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/internal/pg"
)

// chunk is a range of pages of one table: [from, to), to 0: to the end.
type chunk struct {
	from, to int64
	bytes    int64 // its share of the table's size
}

// split cuts a table into chunks of about size bytes. A page is never cut, so
// a table of few pages and much TOAST is cut into as many chunks as it has pages at most.
func split(t survey.Table, size int64) []chunk {
	n := min(max(1, (t.Bytes+size/2)/size), max(1, t.Pages))
	chunks := make([]chunk, n)
	for i := range n {
		chunks[i] = chunk{from: t.Pages * i / n, to: t.Pages * (i + 1) / n, bytes: t.Bytes / n}
	}
	chunks[n-1].to = 0 // pages may have been added since
	return chunks
}

// where is the chunk's condition on ctid, "" for the whole table.
func (c chunk) where() string {
	switch {
	case c.from == 0 && c.to == 0:
		return ""
	case c.to == 0:
		return fmt.Sprintf(" WHERE ctid >= '(%d,0)'::pg_catalog.tid", c.from)
	default:
		return fmt.Sprintf(" WHERE ctid >= '(%d,0)'::pg_catalog.tid AND ctid < '(%d,0)'::pg_catalog.tid", c.from, c.to)
	}
}

func columns(t survey.Table) string {
	quoted := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		quoted[i] = pg.Ident(c)
	}
	return strings.Join(quoted, ", ")
}

func format(t survey.Table) string {
	if t.Text {
		return "text"
	}
	return "binary"
}

// copyOut and copyIn are the two ends of a pipe. A table without copied
// columns still has rows: COPY of an empty list of columns carries them.
func copyOut(t survey.Table, c chunk) string {
	return "COPY (SELECT " + columns(t) + " FROM ONLY " + t.Ident() + c.where() + ") TO STDOUT (FORMAT " + format(t) + ")"
}

func copyIn(t survey.Table) string {
	list := ""
	if len(t.Columns) > 0 {
		list = " (" + columns(t) + ")"
	}
	return "COPY " + t.Ident() + list + " FROM STDIN (FORMAT " + format(t) + ")"
}
