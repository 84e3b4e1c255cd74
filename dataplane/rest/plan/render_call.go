package plan

import (
	"encoding/hex"
	"slices"

	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// callSource renders the rows that a function returns, as t. Values are its column v.
func (w *writer) callSource(c *Call) *writer {
	if !c.rows() {
		w.text("(SELECT ").invocation(c).text(" AS v")
		if c.record() {
			w.text(" FROM ").arguments(c)
		}
		return w.text(") t")
	}
	if c.record() {
		w.arguments(c).text(", ")
	}
	return w.invocation(c).text(" t")
}

// record tells whether arguments come out of a body, as r.
func (c *Call) record() bool { return c.Body != nil && !c.Whole }

func (w *writer) arguments(c *Call) *writer {
	w.text("pg_catalog.json_to_record(").param(c.Body).text(") AS r(")
	for i, a := range c.Args {
		if i > 0 {
			w.text(", ")
		}
		w.ident(a.Name).text(" ").text(a.Type)
	}
	return w.text(")")
}

func (w *writer) invocation(c *Call) *writer {
	w.function(c.Function).text("(")
	if c.Whole {
		arg := &c.Function.Args[0]
		value := c.Body
		if arg.Base == "bytea" {
			value = append([]byte(`\x`), hex.AppendEncode(nil, value)...)
		}
		return w.param(value).text("::").text(arg.Type).text(")")
	}
	for i, a := range c.Args {
		if i > 0 {
			w.text(", ")
		}
		if a.Variadic {
			w.text("VARIADIC ")
		}
		w.ident(a.Name).text(" := ")
		if c.record() {
			w.text("r.").ident(a.Name)
		} else {
			w.param(c.Texts[i]).text("::").text(a.Type)
		}
	}
	return w.text(")")
}

// valueColumn is what the rows of a function that returns values are read as.
var valueColumn = schema.Column{Name: "v"}

// Binary tells whether the body of a raw answer is hexadecimal.
func (p *Plan) Binary() bool {
	return p.Answer.Format == Raw && p.Call != nil && p.Call.Function.Base == "bytea"
}

// csvBody is rows as Postgres writes a row's text, which is CSV but for the parentheses.
const csvBody = `coalesce((SELECT pg_catalog.string_agg(CASE WHEN k ~ '[",\n\r]' THEN '"' || pg_catalog.replace(k, '"', '""') || '"' ELSE k END, ',') FROM pg_catalog.json_object_keys(pg_catalog.json_agg(s.*)->0) k)` +
	` || E'\n' || pg_catalog.string_agg(pg_catalog.substr(s::text, 2, pg_catalog.length(s::text) - 2), E'\n'), '')`

// values tells whether what is read are values and not rows.
func (p *Plan) values() bool { return p.Call != nil && !p.Call.rows() }

// valueSelection renders the selection of values.
func (w *writer) valueSelection(r *Read) *writer {
	w.text("SELECT ").column(w.alias, &valueColumn).text(" FROM ").source(r)
	return w.page(r.Page)
}

// counted are the rows that count=exact counts, whatever the page.
func (w *writer) counted(p *Plan) *writer {
	return w.source(&p.Read).where(slices.Clip(p.Read.Where))
}
