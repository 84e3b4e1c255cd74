package plan

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/freehold-db/freehold/dataplane/rest/query"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// Statement is what Postgres gets. All parameters are text; a nil one is null.
type Statement struct {
	SQL    string
	Params [][]byte
}

// The columns of the one row that a [Statement] returns, but for plans that are
// [Plan.ByRow] or [Plan.Tagged]. Those at the end that would be null are left
// out: each costs a small read a hundredth.
const (
	ColumnRows     = iota // rows of the page, or rows written
	ColumnBody            // the rows as JSON, or null
	ColumnTotal           // rows in all, or null
	ColumnInserted        // of an upsert, the rows that were new, or null
	ColumnLocation        // the primary key of the one row as a JSON object, or null
	ColumnHeaders         // what SQL set as response.headers, or null
	ColumnStatus          // what SQL set as response.status, or null
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
// rows written, w), t1, t2, … are related ones, j1, j2, … the junctions to them,
// r is the body's rows, s what is selected.
func Render(p *Plan) Statement {
	w := writers.Get().(*writer) //nolint:errcheck,forcetypeassert // the pool's own
	*w = writer{sql: w.sql[:0], alias: "t", call: p.Call}
	w.statement(p)
	stmt := Statement{SQL: string(w.sql), Params: w.params}
	if *w = (writer{sql: w.sql}); cap(w.sql) <= 16<<10 {
		writers.Put(w)
	}
	return stmt
}

// writers are used again, for what they wrote into.
var writers = sync.Pool{New: func() any { return new(writer) }}

func (w *writer) statement(p *Plan) {
	if p.Tagged() {
		w.insert(p.Write.(*Insert)) //nolint:errcheck,forcetypeassert // nothing else is tagged
		return
	}
	switch {
	case p.Write != nil:
		w.text("WITH w AS (").write(p).text(") ")
		w.written = p.Read.From
	case p.Call != nil && p.Answer.Count != NoCount: // to be called once and read twice
		w.text("WITH w AS (SELECT t.* FROM ").callSource(p.Call).text(") ")
		w.written = p.Read.From
	}
	if p.ByRow() {
		w.text("SELECT pg_catalog.row_to_json(s.*)")
	} else {
		w.inOneRow(p)
	}
	switch {
	case p.ByKey():
		w.alias = "s"
		w.text(" FROM ").relation(p.Read.From).text(" s").where(p.Read.Where)
	case p.Straight():
		w.alias = "s"
		w.text(" FROM ").relation(p.Read.From).text(" s").where(p.Read.Where).orderBy(&p.Read).page(p.Read.Page)
	case p.values():
		w.text(" FROM (").valueSelection(&p.Read).text(") s")
	default:
		w.text(" FROM (").read(&p.Read).text(") s")
	}
}

// inOneRow renders the columns of the one row.
func (w *writer) inOneRow(p *Plan) {
	w.text("SELECT ").rows(p).text(", ").body(p).text(", ").total(p).text(", ").inserted(p).text(", ").location(p)
	if p.runsSQL() {
		w.text(responseSettings)
	}
	for bytes.HasSuffix(w.sql, []byte(", NULL")) {
		w.sql = w.sql[:len(w.sql)-len(", NULL")]
	}
}

// RenderCount is the selection whose number of rows Postgres is to guess, to be
// explained. It is empty when no guess is wanted, or none would be good.
func RenderCount(p *Plan) Statement {
	if p.Write != nil || p.Call != nil || p.Answer.Count != PlannedCount && p.Answer.Count != EstimatedCount {
		return Statement{}
	}
	w := &writer{alias: "t"}
	w.text("EXPLAIN (FORMAT JSON) SELECT 1 FROM ").counted(p)
	return Statement{SQL: string(w.sql), Params: w.params}
}

// writer appends SQL. What a request brought goes through param, or through
// ident when it is an alias; text takes constants.
type writer struct {
	sql    []byte
	params [][]byte
	// alias is of the rows that expressions are about.
	alias string
	// written is set while these are the rows of w, which are of this relation's
	// columns but not of its type.
	written *schema.Relation
	// call is the function that makes the root's rows, or nil.
	call *Call
	// met: the rows are joined with those of their embeds.
	met bool
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
	if w.params == nil {
		w.params = make([][]byte, 0, 4)
	}
	w.params = append(w.params, value)
	return len(w.params)
}

func (w *writer) ref(param int) *writer { return w.text("$").number(param) }

func (w *writer) number(n int) *writer {
	w.sql = strconv.AppendInt(w.sql, int64(n), 10)
	return w
}

func (w *writer) relation(r *schema.Relation) *writer { return w.name(&r.Name) }

func (w *writer) name(n *schema.Name) *writer { return w.ident(n.Schema).text(".").ident(n.Name) }

func (w *writer) column(alias string, c *schema.Column) *writer {
	return w.text(alias).text(".").ident(c.Name)
}

// read renders a selection, from the rows written when there are any.
func (w *writer) read(r *Read) *writer {
	grouping := w.text("SELECT ").selection(r, false)
	w.text(" FROM ").source(r).joins(r).where(r.Where)
	w.met = false
	for i, n := range grouping {
		w.text([]string{" GROUP BY ", ", "}[min(i, 1)]).number(n)
	}
	return w.orderBy(r).page(r.Page)
}

func (w *writer) source(r *Read) *writer {
	if w.written != nil {
		return w.text("w t")
	}
	if w.call != nil {
		return w.callSource(w.call)
	}
	return w.relation(r.From).text(" t")
}

func (w *writer) page(p Page) *writer {
	if p.Limit >= 0 {
		w.text(" LIMIT ").param(strconv.AppendInt(nil, p.Limit, 10))
	}
	if p.Offset > 0 {
		w.text(" OFFSET ").param(strconv.AppendInt(nil, p.Offset, 10))
	}
	return w
}

// selection renders what is selected. When something in it is aggregated it
// returns the positions of what is not, by which the rows are grouped; plain leaves
// the aggregation to somebody else.
func (w *writer) selection(r *Read, plain bool) (grouping []int) {
	aggregated, n := !plain && r.aggregated(r.Output), 0
	next := func(groups bool) *writer {
		if n++; n > 1 {
			w.text(", ")
		}
		if aggregated && groups {
			grouping = append(grouping, n)
		}
		return w
	}
	for _, o := range r.Output {
		if plain {
			o = o.plain()
		}
		next(o.Aggregate == query.NoAggregate).output(o)
	}
	for _, e := range r.Embeds {
		switch {
		case e.Silent:
		case e.Spread:
			for _, c := range e.columns() {
				if plain {
					c = c.plain()
				}
				next(c.Aggregate == query.NoAggregate).spreadColumn(e, c)
			}
		default:
			next(true).embedded(e, r.meets())
		}
	}
	return grouping
}

// plain is o without its aggregate, under the same name.
func (o Output) plain() Output {
	o.Aggregate, o.AggregateCast = query.NoAggregate, ""
	return o
}

func (w *writer) output(o Output) *writer {
	if o.Star {
		return w.text(w.alias).text(".*")
	}
	w.aggregate(o, func() {
		if o.Expr.Column == nil { // the rows to be counted by somebody else
			w.text("1")
			return
		}
		if o.Cast != "" {
			w.text("CAST(").formatted(o).text(" AS ").text(o.Cast).text(")")
		} else {
			w.formatted(o)
		}
	})
	if o.Name != "" {
		w.text(" AS ").ident(o.Name)
	}
	return w
}

// formatted renders a value as clients see it.
func (w *writer) formatted(o Output) *writer {
	if o.Format == nil {
		return w.expr(o.Expr, false)
	}
	return w.name(o.Format).text("(").expr(o.Expr, false).text(")")
}

// aggregates names the functions.
var aggregates = map[query.Aggregate]string{query.Count: "count", query.Sum: "sum", query.Avg: "avg", query.Min: "min", query.Max: "max"}

// aggregate renders of inside of o's aggregate and its cast.
func (w *writer) aggregate(o Output, of func()) {
	if o.Aggregate == query.NoAggregate {
		of()
		return
	}
	if o.AggregateCast != "" {
		w.text("CAST(")
	}
	w.text("pg_catalog.").text(aggregates[o.Aggregate]).text("(")
	if o.Expr.Column == nil {
		w.text("*")
	} else {
		of()
	}
	w.text(")")
	if o.AggregateCast != "" {
		w.text(" AS ").text(o.AggregateCast).text(")")
	}
}

// expr renders a column and the way into it. To be compared or sorted, json
// (which has no operators) must become jsonb, but for what is text in the end.
func (w *writer) expr(e Expr, compared bool) *writer {
	if len(e.Path) == 0 {
		return w.value(e.Column)
	}
	w.text("(")
	if isJSON := e.Column.Base == "jsonb" || e.Column.Base == "json" && (!compared || e.Path[len(e.Path)-1].Text); isJSON {
		w.value(e.Column)
	} else {
		w.text("pg_catalog.to_jsonb(").value(e.Column).text(")")
	}
	for _, step := range e.Path {
		w.text("->")
		if step.Text {
			w.text(">")
		}
		if step.IsIndex {
			w.param(strconv.AppendInt(nil, int64(step.Index), 10)).text("::int4")
		} else {
			w.param([]byte(step.Key))
		}
	}
	return w.text(")")
}

// value renders a column, stored or computed.
func (w *writer) value(c *schema.Column) *writer {
	if c.Function == nil {
		return w.column(w.alias, c)
	}
	return w.function(c.Function).text("(").row().text(")")
}

// row renders the whole row, of its relation's type.
func (w *writer) row() *writer {
	w.text(w.alias)
	if w.written != nil {
		w.text("::").relation(w.written)
	}
	return w
}

func (w *writer) function(f *schema.Function) *writer { return w.name(&f.Name) }

func (w *writer) orderBy(r *Read) *writer {
	aggregated := r.aggregated(r.Output)
	for i, o := range r.Order {
		w.text([]string{" ORDER BY ", ", "}[min(i, 1)])
		position := 0
		if aggregated { // what groups is one expression with what is selected
			position = r.position(o)
		}
		switch {
		case position > 0:
			w.number(position)
		case o.Of != nil:
			w.relatedValue(o.Of, o.Expr)
		default:
			w.expr(o.Expr, true)
		}
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

// position is where in the selection the expression of o stands, or 0.
func (r *Read) position(o Order) int {
	n := 0
	for _, out := range r.Output {
		if n++; o.Of == nil && out.is(o.Expr) {
			return n
		}
	}
	for _, e := range r.Embeds {
		switch {
		case e.Silent:
		case !e.Spread:
			n++
		default:
			for _, out := range e.columns() {
				if n++; o.Of == e && out.is(o.Expr) {
					return n
				}
			}
		}
	}
	return 0
}

// is tells whether o is x and no more.
func (o Output) is(x Expr) bool {
	return o.Aggregate == query.NoAggregate && o.Cast == "" && o.Format == nil && o.Expr.Column == x.Column && slices.Equal(o.Expr.Path, x.Path)
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
