package plan

import (
	"strconv"

	"github.com/freehold-db/freehold/dataplane/rest/query"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// within renders with e's rows as the ones that expressions are about; parent
// renders something about the rows around them.
func (w *writer) within(e *Embed, render func(parent func(func()))) *writer {
	alias, written, met := w.alias, w.written, w.met
	inner := "t" + strconv.Itoa(e.Read.ID)
	w.alias, w.written, w.met = inner, nil, false
	render(func(about func()) {
		w.alias, w.written = alias, written
		about()
		w.alias, w.written = inner, nil
	})
	w.alias, w.written, w.met = alias, written, met
	return w
}

// relatedFrom renders the rows related to the current one, after SELECT: what
// they come from, and which of them; joins renders what they are joined with.
func (w *writer) relatedFrom(e *Embed, parent func(func()), joins func()) *writer {
	by, parentAlias := e.By, ""
	parent(func() { parentAlias = w.alias })
	w.text(" FROM ")
	if by.Function != nil {
		w.function(by.Function).text("(")
		parent(func() { w.row() })
		w.text(") ").text(w.alias)
		joins()
		return w.where(e.Read.Where)
	}
	w.relation(by.To).text(" ").text(w.alias)
	from, pairs := parentAlias, by.Pairs
	if j := by.Junction; j != nil {
		from, pairs = "j"+strconv.Itoa(e.Read.ID), j.ToPairs
		w.text(" JOIN ").relation(j.Relation).text(" ").text(from).text(" ON ").pairs(parentAlias, from, j.FromPairs)
	}
	joins()
	w.text(" WHERE ").pairs(from, w.alias, pairs)
	if where := w.remaining(e.Read.Where); len(where) > 0 {
		w.text(" AND ").joined(where, " AND ")
	}
	return w
}

func (w *writer) pairs(from, to string, pairs []schema.Pair) *writer {
	for i, p := range pairs {
		if i > 0 {
			w.text(" AND ")
		}
		w.text(to).text(".").ident(p.To).text(" = ").text(from).text(".").ident(p.From)
	}
	return w
}

// rowsOfEmbed renders the selection from the related rows.
func (w *writer) rowsOfEmbed(e *Embed) *writer {
	return w.within(e, func(parent func(func())) {
		grouping := w.text("SELECT ").selection(&e.Read, e.hoisted())
		w.relatedFrom(e, parent, func() { w.joins(&e.Read) })
		for i, n := range grouping {
			w.text([]string{" GROUP BY ", ", "}[min(i, 1)]).number(n)
		}
		w.orderBy(&e.Read).page(e.Read.Page)
	})
}

// meets tells whether r's rows are joined with those of its embeds, as PostgREST
// does it and so has rows without an order in the same one. Where there is an
// order, each embed is a value of its own instead, which Postgres makes for the
// rows of the page alone, after the sort.
func (r *Read) meets() bool { return len(r.Order) == 0 }

// embedded renders a related resource as one JSON value, as jsonb, which unlike
// json can be grouped by.
func (w *writer) embedded(e *Embed, met bool) *writer {
	id := strconv.Itoa(e.Read.ID)
	switch one := e.By.ToOne(); {
	case met && one:
		w.text("pg_catalog.row_to_json(e" + id + ".*)::jsonb")
	case met:
		w.text("coalesce(e" + id + ".e" + id + ", '[]')")
	case one:
		w.text("(SELECT pg_catalog.row_to_json(s" + id + ".*)::jsonb FROM (").rowsOfEmbed(e).text(") s" + id + " LIMIT 1)")
	default:
		w.text("(SELECT coalesce(pg_catalog.json_agg(s" + id + ".*)::jsonb, '[]') FROM (").rowsOfEmbed(e).text(") s" + id + ")")
	}
	return w.text(" AS ").ident(e.Name)
}

// exists renders whether there is a related row.
func (w *writer) exists(p *Existence) *writer {
	w.not(p.Not)
	if id := strconv.Itoa(p.Of.Read.ID); w.met {
		if p.Of.By.ToOne() {
			return w.text("(e" + id + " IS DISTINCT FROM NULL)")
		}
		return w.text("(e" + id + ".e" + id + " IS NOT NULL)")
	}
	w.text("EXISTS (")
	w.within(p.Of, func(parent func(func())) { w.text("SELECT 1").relatedFrom(p.Of, parent, func() {}) })
	return w.text(")")
}

// relatedValue renders an expression about the one related row.
func (w *writer) relatedValue(e *Embed, x Expr) *writer {
	w.text("(SELECT ")
	w.within(e, func(parent func(func())) { w.expr(x, true).relatedFrom(e, parent, func() {}) })
	return w.text(" LIMIT 1)")
}

// joins joins r's rows with the resources whose columns become theirs, or with
// all of them if they meet; conditions may refer to these then.
func (w *writer) joins(r *Read) *writer {
	w.met = r.meets()
	for _, e := range r.Embeds {
		if !w.met && (!e.Spread || e.Silent) {
			continue
		}
		id, on := strconv.Itoa(e.Read.ID), "true"
		if w.met && e.Inner {
			w.text(" INNER JOIN LATERAL (")
			if !e.By.ToOne() {
				on = "e" + id + ".e" + id + " IS NOT NULL"
			}
		} else {
			w.text(" LEFT JOIN LATERAL (")
		}
		if e.By.ToOne() {
			w.rowsOfEmbed(e)
		} else {
			w.gathered(e)
		}
		w.text(") e" + id + " ON " + on)
	}
	return w
}

// gathered renders all rows of e as one: as JSON unless they are silent, or each
// column as a JSON array when they are spread.
func (w *writer) gathered(e *Embed) *writer {
	id := strconv.Itoa(e.Read.ID)
	switch {
	case e.Silent || e.Spread:
		w.text("SELECT pg_catalog.bool_or(true) AS e" + id)
	default:
		w.text("SELECT pg_catalog.json_agg(s" + id + ".*)::jsonb AS e" + id)
	}
	if e.Spread && !e.Silent {
		for _, c := range e.columns() {
			w.text(", coalesce(pg_catalog.json_agg(s" + id + ".").ident(c.Name).text("), '[]')::jsonb AS ").ident(c.Name)
		}
	}
	return w.text(" FROM (").rowsOfEmbed(e).text(") s" + id)
}

// spreadColumn renders one column that the parent takes over. What is
// aggregated in a to-one resource is aggregated over the parent's rows.
func (w *writer) spreadColumn(e *Embed, o Output) *writer {
	w.aggregate(o, func() { w.text("e").number(e.Read.ID).text(".").ident(o.Name) })
	return w.text(" AS ").ident(o.Name)
}

// hoisted tells that what e aggregates is aggregated by its parent.
func (e *Embed) hoisted() bool { return e.Spread && e.By.ToOne() }

// columns are those that a spread resource gives to its parent, each with a name.
func (e *Embed) columns() []Output {
	var all []Output
	for _, o := range e.Read.Output {
		switch {
		case o.Star:
			for i := range e.By.To.Columns {
				all = append(all, Output{Name: e.By.To.Columns[i].Name})
			}
			continue
		case o.Name == "":
			o.Name = o.Expr.Column.Name
		}
		if !e.hoisted() {
			o.Aggregate = query.NoAggregate
		}
		all = append(all, o)
	}
	for _, inner := range e.Read.Embeds {
		switch {
		case inner.Silent:
		case inner.Spread:
			all = append(all, inner.columns()...)
		default:
			all = append(all, Output{Name: inner.Name})
		}
	}
	return all
}
