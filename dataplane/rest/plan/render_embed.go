package plan

import (
	"strconv"

	"github.com/freehold-db/freehold/dataplane/rest/query"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// within renders with e's rows as the ones that expressions are about; parent
// renders something about the rows around them.
func (w *writer) within(e *Embed, render func(parent func(func()))) *writer {
	alias, written := w.alias, w.written
	inner := "t" + strconv.Itoa(e.Read.ID)
	w.alias, w.written = inner, nil
	render(func(about func()) {
		w.alias, w.written = alias, written
		about()
		w.alias, w.written = inner, nil
	})
	w.alias, w.written = alias, written
	return w
}

// relatedFrom renders the rows related to the current one, after SELECT: what
// they come from, and which of them.
func (w *writer) relatedFrom(e *Embed, parent func(func())) *writer {
	by, parentAlias := e.By, ""
	parent(func() { parentAlias = w.alias })
	w.text(" FROM ")
	if by.Function != nil {
		w.function(by.Function).text("(")
		parent(func() { w.row() })
		w.text(") ").text(w.alias).spreads(&e.Read)
		return w.where(e.Read.Where)
	}
	w.relation(by.To).text(" ").text(w.alias)
	from, pairs := parentAlias, by.Pairs
	if j := by.Junction; j != nil {
		from, pairs = "j"+strconv.Itoa(e.Read.ID), j.ToPairs
		w.text(" JOIN ").relation(j.Relation).text(" ").text(from).text(" ON ").pairs(parentAlias, from, j.FromPairs)
	}
	w.spreads(&e.Read).text(" WHERE ").pairs(from, w.alias, pairs)
	if len(e.Read.Where) > 0 {
		w.text(" AND ").joined(e.Read.Where, " AND ")
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
		w.relatedFrom(e, parent)
		for i, n := range grouping {
			w.text([]string{" GROUP BY ", ", "}[min(i, 1)]).number(n)
		}
		w.orderBy(&e.Read).page(e.Read.Page)
	})
}

// embedded renders a related resource as one JSON value, as jsonb, which unlike
// json can be grouped by.
func (w *writer) embedded(e *Embed) *writer {
	s := "s" + strconv.Itoa(e.Read.ID)
	if e.By.ToOne() {
		w.text("(SELECT pg_catalog.row_to_json(").text(s).text(".*)::jsonb")
	} else {
		w.text("(SELECT coalesce(pg_catalog.json_agg(").text(s).text(".*)::jsonb, '[]')")
	}
	w.text(" FROM (").rowsOfEmbed(e).text(") ").text(s)
	if e.By.ToOne() {
		w.text(" LIMIT 1")
	}
	return w.text(") AS ").ident(e.Name)
}

// exists renders whether there is a related row.
func (w *writer) exists(p *Existence) *writer {
	w.not(p.Not).text("EXISTS (")
	w.within(p.Of, func(parent func(func())) { w.text("SELECT 1").relatedFrom(p.Of, parent) })
	return w.text(")")
}

// relatedValue renders an expression about the one related row.
func (w *writer) relatedValue(e *Embed, x Expr) *writer {
	w.text("(SELECT ")
	w.within(e, func(parent func(func())) { w.expr(x, true).relatedFrom(e, parent) })
	return w.text(" LIMIT 1)")
}

// spreads joins the resources whose columns become those of r.
func (w *writer) spreads(r *Read) *writer {
	for _, e := range r.Embeds {
		if !e.Spread || e.Silent {
			continue
		}
		id := strconv.Itoa(e.Read.ID)
		w.text(" LEFT JOIN LATERAL (")
		if e.By.ToOne() {
			w.rowsOfEmbed(e)
		} else {
			w.text("SELECT ")
			for i, c := range e.columns() {
				if i > 0 {
					w.text(", ")
				}
				w.text("coalesce(pg_catalog.json_agg(s" + id + ".").ident(c.Name).text("), '[]')::jsonb AS ").ident(c.Name)
			}
			w.text(" FROM (").rowsOfEmbed(e).text(") s" + id)
		}
		w.text(") e" + id + " ON true")
	}
	return w
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
