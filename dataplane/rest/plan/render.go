package plan

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/freehold-db/freehold/dataplane/rest/query"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// Statement is what Postgres gets. All parameters are text; a nil one is null.
type Statement struct {
	SQL    string
	Params [][]byte
}

// The columns of the one row that a [Statement] returns. Those at the end that
// would be null are left out: each costs a small read a hundredth.
const (
	ColumnRows     = iota // rows of the page, or rows written
	ColumnBody            // the rows as JSON, or null
	ColumnTotal           // rows in all, or null
	ColumnInserted        // of an upsert, the rows that were new, or null
	ColumnLocation        // the primary key of the one row as a JSON object, or null
	Columns               // how many there are
)

// GuardPrefix begins the text that fails to become a number when a write
// touched more rows than it may; the number of rows follows. A guard must fail
// inside the statement, so that what was written is undone without another
// round trip.
const GuardPrefix = "freehold:rows:"

// BytesPrefix is the same for a body of more bytes than an answer may have.
const BytesPrefix = "freehold:bytes:"

// updatedSetting counts, for one transaction, the rows that an upsert updated.
const updatedSetting = "coalesce(nullif(pg_catalog.current_setting('freehold.updated', true), ''), '0')::int8"

// Render writes p as SQL. The aliases are constant: t is the relation (or the
// rows written, w), r the body's rows, s what is selected.
func Render(p *Plan) Statement {
	w := &writer{sql: make([]byte, 0, 512)}
	if p.Write != nil {
		w.text("WITH w AS (").write(p).text(") ")
	}
	w.text("SELECT ").rows(p).text(", ").body(p).text(", ").total(p).text(", ").inserted(p).text(", ").location(p)
	for bytes.HasSuffix(w.sql, []byte(", NULL")) {
		w.sql = w.sql[:len(w.sql)-len(", NULL")]
	}
	w.text(" FROM (").read(p).text(") s")
	return Statement{SQL: string(w.sql), Params: w.params}
}

// writer appends SQL. What a request brought goes through param, or through
// ident when it is an alias; text takes constants.
type writer struct {
	sql    []byte
	params [][]byte
}

func (w *writer) text(s string) *writer { w.sql = append(w.sql, s...); return w }

// ident quotes a name.
func (w *writer) ident(name string) *writer {
	w.sql = append(w.sql, '"')
	for i := range len(name) {
		if name[i] == '"' {
			w.sql = append(w.sql, '"')
		}
		w.sql = append(w.sql, name[i])
	}
	w.sql = append(w.sql, '"')
	return w
}

// param appends a placeholder for value.
func (w *writer) param(value []byte) *writer { return w.ref(w.bind(value)) }

// bind adds a parameter and returns its number, for ref.
func (w *writer) bind(value []byte) int {
	w.params = append(w.params, value)
	return len(w.params)
}

func (w *writer) ref(param int) *writer {
	w.sql = append(w.sql, '$')
	w.sql = strconv.AppendInt(w.sql, int64(param), 10)
	return w
}

func (w *writer) relation(r *schema.Relation) *writer {
	return w.ident(r.Schema).text(".").ident(r.Name.Name)
}

func (w *writer) column(alias string, c *schema.Column) *writer {
	return w.text(alias).text(".").ident(c.Name)
}

func (w *writer) rows(p *Plan) *writer {
	const count = "pg_catalog.count(*)"
	if p.Write == nil || (!p.Answer.Singular && p.Answer.MaxAffected < 0) {
		return w.text(count)
	}
	if p.Answer.Singular {
		w.text("CASE WHEN " + count + " = 1 THEN 1")
	} else {
		w.text("CASE WHEN " + count + " <= ").param(strconv.AppendInt(nil, p.Answer.MaxAffected, 10)).text("::int8 THEN " + count)
	}
	return w.text(" ELSE ('" + GuardPrefix + "' || " + count + ")::int8 END")
}

func (w *writer) total(p *Plan) *writer {
	switch {
	case !p.Answer.Total:
		return w.text("NULL")
	case p.Write != nil:
		return w.text("pg_catalog.count(*)")
	}
	return w.text("(SELECT pg_catalog.count(*) FROM ").relation(p.Read.From).text(" t").where(p.Read.Where).text(")")
}

func (w *writer) body(p *Plan) *writer {
	if !p.Answer.Body {
		return w.text("NULL")
	}
	rows, empty := "pg_catalog.json_agg(s.*)", "'[]'"
	if p.Answer.StripNulls {
		rows = "pg_catalog.json_strip_nulls(" + rows + ")"
	}
	if p.Answer.Singular {
		rows, empty = rows+"->0", "'null'"
	}
	body := "coalesce(" + rows + ", " + empty + ")"
	if p.Answer.MaxBytes <= 0 || p.Write == nil {
		return w.text(body)
	}
	// Postgres makes equal aggregates once, and knows a value's size without reading it.
	bytes := "(pg_catalog.pg_column_size(" + body + ") - 4)" // less its header
	return w.text("CASE WHEN " + bytes + " <= " + strconv.FormatInt(p.Answer.MaxBytes, 10) + " THEN " + body +
		" ELSE ('" + BytesPrefix + "' || " + bytes + ")::int8::text::json END")
}

func (w *writer) inserted(p *Plan) *writer {
	if in, ok := p.Write.(*Insert); ok && in.Conflict != nil && in.Conflict.Merge {
		return w.text("pg_catalog.count(*) - " + updatedSetting)
	}
	return w.text("NULL")
}

func (w *writer) location(p *Plan) *writer {
	if !p.Answer.Location {
		return w.text("NULL")
	}
	return w.text("CASE WHEN pg_catalog.count(*) = 1 THEN pg_catalog.json_agg(s.*)->0 END")
}

// read renders the selection, from the rows written when there are any.
func (w *writer) read(p *Plan) *writer {
	w.text("SELECT ")
	for i, o := range p.Read.Output {
		if i > 0 {
			w.text(", ")
		}
		w.output(o)
	}
	if len(p.Read.Output) == 0 {
		w.text("1")
	}
	w.text(" FROM ")
	if p.Write != nil {
		w.text("w t")
	} else {
		w.relation(p.Read.From).text(" t").where(p.Read.Where)
	}
	w.orderBy(p.Read.Order)
	if p.Read.Page.Limit >= 0 {
		w.text(" LIMIT ").param(strconv.AppendInt(nil, p.Read.Page.Limit, 10))
	}
	if p.Read.Page.Offset > 0 {
		w.text(" OFFSET ").param(strconv.AppendInt(nil, p.Read.Page.Offset, 10))
	}
	return w
}

func (w *writer) output(o Output) *writer {
	if o.Star {
		return w.text("t.*")
	}
	if o.Cast != "" {
		w.text("CAST(").expr(o.Expr, false).text(" AS ").text(o.Cast).text(")")
	} else {
		w.expr(o.Expr, false)
	}
	if o.Name != "" {
		w.text(" AS ").ident(o.Name)
	}
	return w
}

// expr renders a column and the way into it. To be compared or sorted, json
// (which has no operators) must become jsonb.
func (w *writer) expr(e Expr, compared bool) *writer {
	if len(e.Path) == 0 {
		return w.column("t", e.Column)
	}
	w.text("(")
	if isJSON := e.Column.Base == "jsonb" || e.Column.Base == "json" && !compared; isJSON {
		w.column("t", e.Column)
	} else {
		w.text("pg_catalog.to_jsonb(").column("t", e.Column).text(")")
	}
	for _, step := range e.Path {
		w.text("->")
		if step.Text {
			w.text(">")
		}
		if step.IsIndex {
			w.param(strconv.AppendInt(nil, int64(step.Index), 10)).text("::int4")
		} else {
			w.param([]byte(step.Key)).text("::text")
		}
	}
	return w.text(")")
}

func (w *writer) orderBy(order []Order) *writer {
	for i, o := range order {
		if i == 0 {
			w.text(" ORDER BY ")
		} else {
			w.text(", ")
		}
		w.expr(o.Expr, true)
		if o.Desc {
			w.text(" DESC")
		}
		switch o.Nulls {
		case query.NullsDefault:
		case query.NullsFirst:
			w.text(" NULLS FIRST")
		case query.NullsLast:
			w.text(" NULLS LAST")
		}
	}
	return w
}

// arrayLiteral renders a list as Postgres reads an array, so that its elements
// take the type of what they are compared with.
func arrayLiteral(values []string) []byte {
	out := []byte{'{'}
	for i, v := range values {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, '"')
		for j := range len(v) {
			if v[j] == '"' || v[j] == '\\' {
				out = append(out, '\\')
			}
			out = append(out, v[j])
		}
		out = append(out, '"')
	}
	return append(out, '}')
}

// pattern lets '*' stand for '%', which is awkward in URLs.
func pattern(value string) []byte { return []byte(strings.ReplaceAll(value, "*", "%")) }
