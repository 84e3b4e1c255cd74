package plan

import (
	"encoding/hex"

	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// callSource renders the rows that a function returns, as t. Values are its column pgrst_scalar.
func (w *writer) callSource(c *Call) *writer {
	if !c.rows() {
		w.text("(SELECT ").invocation(c).text(" AS pgrst_scalar")
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

// arguments renders the record that the body is, or the first one of its array.
func (w *writer) arguments(c *Call) *writer {
	if c.Array {
		return w.text("(SELECT * FROM pg_catalog.json_to_recordset(").param(c.Body).text(") AS r(").argumentTypes(c).text(") LIMIT 1) r")
	}
	return w.text("pg_catalog.json_to_record(").param(c.Body).text(") AS r(").argumentTypes(c).text(")")
}

func (w *writer) argumentTypes(c *Call) *writer {
	for i, a := range c.Args {
		if i > 0 {
			w.text(", ")
		}
		w.ident(a.Name).text(" ").text(a.Type)
	}
	return w
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

// valueColumn is what the rows of a function that returns values are read as:
// its name shows in CSV, where PostgREST calls it so.
var valueColumn = schema.Column{Name: "pgrst_scalar"}

// values tells whether what is read are values and not rows.
func (p *Plan) values() bool { return p.Call != nil && !p.Call.rows() }

// valueSelection renders the selection of values.
func (w *writer) valueSelection(r *Read) *writer {
	w.text("SELECT ").column(w.alias, &valueColumn).text(" FROM ").source(r)
	return w.page(r.Page)
}
