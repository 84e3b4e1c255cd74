package plan

import (
	"slices"

	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

func (w *writer) write(p *Plan) *writer {
	switch op := p.Write.(type) {
	case *Insert:
		w.insert(op)
	case *Update:
		if len(op.Columns) == 0 && len(op.Defaults) == 0 {
			// Nothing to set is nothing to do; the columns are still there to be selected.
			return w.text("SELECT t.* FROM ").relation(op.Of).text(" t WHERE false")
		}
		w.update(op)
	case *Delete:
		w.text("DELETE FROM ").relation(op.From).text(" t").where(op.Where)
	}
	return w.returning(p)
}

// returning asks for no more columns than are read, so that a role needs no
// more privileges than its request.
func (w *writer) returning(p *Plan) *writer {
	columns, whole := p.Read.needs()
	switch {
	case whole:
		return w.text(" RETURNING t.*")
	case len(columns) == 0:
		return w.text(" RETURNING 1")
	}
	w.text(" RETURNING ")
	for i, c := range columns {
		if i > 0 {
			w.text(", ")
		}
		w.column("t", c)
	}
	return w
}

// needs are the columns of its relation that r is made of, or the whole row.
func (r *Read) needs() (columns []*schema.Column, whole bool) {
	add := func(c *schema.Column) {
		if c != nil && c.Function != nil {
			whole = true
		} else if c != nil && !slices.Contains(columns, c) {
			columns = append(columns, c)
		}
	}
	for _, o := range r.Output {
		whole = whole || o.Star
		add(o.Expr.Column)
	}
	for _, o := range r.Order {
		if o.Of == nil {
			add(o.Expr.Column)
		}
	}
	for _, e := range r.Embeds {
		whole = whole || e.By.Function != nil
		pairs := e.By.Pairs
		if e.By.Junction != nil {
			pairs = e.By.Junction.FromPairs
		}
		for _, p := range pairs {
			add(r.From.Column(p.From))
		}
	}
	return columns, whole
}

func (w *writer) insert(in *Insert) *writer {
	w.text("INSERT INTO ").relation(in.Into).text(" AS t ")
	switch {
	case len(in.Columns) == 0 && in.Rows.Array:
		w.text("SELECT FROM pg_catalog.json_array_elements(").param(in.Rows.Text).text(") r")
	case len(in.Columns) == 0:
		w.text("DEFAULT VALUES")
	case in.Defaults:
		w.text("(").names(in.Columns).text(") VALUES ").values(in)
	default:
		w.text("(").names(in.Columns).text(") SELECT ").each(in.Columns).text(" FROM ").rowsOf(in.Into, in.Columns, in.Rows.Array, w.bind(in.Rows.Text))
		w.alias = "r"
		w.where(in.Match)
		w.alias = "t"
	}
	return w.conflict(in)
}

func (w *writer) conflict(in *Insert) *writer {
	c := in.Conflict
	if c == nil {
		return w
	}
	w.text(" ON CONFLICT (").names(c.Columns).text(") DO ")
	if !c.Merge || len(in.Columns) == 0 {
		return w.text("NOTHING")
	}
	w.text("UPDATE SET ")
	for i, column := range in.Columns {
		if i > 0 {
			w.text(", ")
		}
		w.ident(column.Name).text(" = ").column("EXCLUDED", column)
	}
	return w.text(" WHERE pg_catalog.set_config('freehold.updated', (" + updatedSetting + " + 1)::text, true) <> ''")
}

func (w *writer) update(u *Update) *writer {
	w.text("UPDATE ").relation(u.Of).text(" AS t SET ")
	for i, column := range u.Columns {
		if i > 0 {
			w.text(", ")
		}
		w.ident(column.Name).text(" = ").given(column)
	}
	for i, column := range u.Defaults {
		if i > 0 || len(u.Columns) > 0 {
			w.text(", ")
		}
		w.ident(column.Name).text(" = DEFAULT")
	}
	if len(u.Columns) > 0 {
		w.text(" FROM ").rowsOf(u.Of, u.Columns, u.Values.Array, w.bind(u.Values.Text))
	}
	return w.where(u.Where)
}

// rowsOf makes rows r of the body in a parameter, of one object or an array of
// them. The relation's own row type reads the values, so that nothing about
// types is taken from a cache; unless one of its columns refuses null even when
// the body leaves it out, or is read from JSON by a function.
func (w *writer) rowsOf(relation *schema.Relation, columns []*schema.Column, array bool, param int) *writer {
	into := "record"
	if array {
		into = "recordset"
	}
	if !populates(relation, columns) {
		return w.text("pg_catalog.json_to_" + into + "(").ref(param).text(") ").record(columns)
	}
	return w.text("pg_catalog.json_populate_" + into + "(NULL::").relation(relation).text(", ").ref(param).text(") r")
}

// populates tells whether the relation's own row type can read the values of columns.
func populates(relation *schema.Relation, columns []*schema.Column) bool {
	return !slices.ContainsFunc(relation.Columns, func(c schema.Column) bool { return c.DomainNotNull }) && !slices.ContainsFunc(columns, readsJSON)
}

func (w *writer) record(columns []*schema.Column) *writer {
	w.text("AS r(")
	for i, c := range columns {
		if i > 0 {
			w.text(", ")
		}
		w.ident(c.Name).text(" ")
		if readsJSON(c) {
			w.text("pg_catalog.json")
		} else {
			w.text(c.Type) // the server's own words, by format_type
		}
	}
	return w.text(")")
}

// values renders each row apart, so that Postgres applies the defaults it has
// now to what a row leaves out. A value is a selection only where it must be:
// Postgres plans each of those by itself, in ten times the memory.
func (w *writer) values(in *Insert) *writer {
	whole := populates(in.Into, in.Columns)
	for i, row := range in.Rows.Rows {
		if i > 0 {
			w.text(", ")
		}
		w.text("(")
		param := w.bind(row)
		used := false
		for j, column := range in.Columns {
			if j > 0 {
				w.text(", ")
			}
			if _, ok := slices.BinarySearch(in.Rows.Keys[i], column.Name); !ok {
				w.text("DEFAULT")
				continue
			}
			used = true
			if whole {
				w.text("(pg_catalog.json_populate_record(NULL::").relation(in.Into).text(", ").ref(param).text(")).").ident(column.Name)
				continue
			}
			w.text("(SELECT ").given(column).text(" FROM ").rowsOf(in.Into, in.Columns, false, param).text(")")
		}
		if !used { // Postgres wants every parameter to occur
			w.params = w.params[:param-1]
		}
		w.text(")")
	}
	return w
}

func (w *writer) names(columns []*schema.Column) *writer {
	for i, c := range columns {
		if i > 0 {
			w.text(", ")
		}
		w.ident(c.Name)
	}
	return w
}

func (w *writer) each(columns []*schema.Column) *writer {
	for i, c := range columns {
		if i > 0 {
			w.text(", ")
		}
		w.given(c)
	}
	return w
}

// given renders a column of the body's rows r, read as its domain reads JSON.
func (w *writer) given(c *schema.Column) *writer {
	if !readsJSON(c) {
		return w.column("r", c)
	}
	return w.name(c.Representation.FromJSON).text("(").column("r", c).text(")")
}

func readsJSON(c *schema.Column) bool {
	return c.Representation != nil && c.Representation.FromJSON != nil
}
