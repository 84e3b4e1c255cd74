package rest

import (
	"strings"

	"github.com/freehold-db/freehold/dataplane/rest/plan"
)

// explain asks for the plan of a statement instead of what it returns.
type explain struct {
	options []string // of EXPLAIN
}

// explainOptions are those that a client may name.
var explainOptions = map[string]string{"analyze": "ANALYZE", "verbose": "VERBOSE", "settings": "SETTINGS", "buffers": "BUFFERS", "wal": "WAL"}

// plan is the media type of an execution plan.
func (w wanted) plan() media {
	e := &explain{options: []string{"FORMAT TEXT"}}
	mediaType := "application/vnd.pgrst.plan+text"
	if strings.HasSuffix(w.mediaType, "+json") {
		mediaType, e.options[0] = w.mediaType, "FORMAT JSON"
	}
	of, m := w.params["for"], jsonRows
	if of == "" {
		of = "application/json"
	}
	if inner := preferred([]string{of}); len(inner) == 1 {
		if served, ok := inner[0].served(false); ok {
			m = served
		}
	}
	m.contentType = mediaType + `; for="` + strings.TrimSuffix(m.contentType, utf8) + `"`
	var named []string
	for option := range strings.SplitSeq(w.params["options"], "|") {
		if sql, ok := explainOptions[option]; ok {
			e.options, named = append(e.options, sql), append(named, option)
		}
	}
	if len(named) > 0 {
		m.contentType += "; options=" + strings.Join(named, "|")
	}
	m.contentType += utf8
	m.explain = e
	return m
}

// statement makes stmt one that explains itself.
func (e *explain) statement(stmt plan.Statement) plan.Statement {
	stmt.SQL = "EXPLAIN (" + strings.Join(e.options, ", ") + ") " + stmt.SQL
	return stmt
}
