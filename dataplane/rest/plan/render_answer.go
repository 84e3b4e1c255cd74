package plan

import (
	"slices"
	"strconv"

	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// responseSettings are read after the rows, and so after what sets them.
const responseSettings = ", pg_catalog.current_setting('response.headers', true), pg_catalog.current_setting('response.status', true)"

// runsSQL tells whether the tenant's own SQL has a say in the answer: that of
// triggers, functions or views. To ask after every read of a table costs too much.
func (p *Plan) runsSQL() bool {
	return p.Write != nil && !p.Calm() || p.Call != nil || p.Read.From.Kind == schema.View || p.Answer.Handler != nil
}

func (w *writer) rows(p *Plan) *writer {
	const count = "pg_catalog.count(*)"
	if p.Write == nil && p.Call == nil || (!p.Answer.Singular && p.Answer.MaxAffected < 0) {
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
	case p.Answer.Count == NoCount, p.Answer.Count == PlannedCount && p.Write == nil && p.Call == nil:
		return w.text("NULL")
	case p.Write != nil:
		return w.text("pg_catalog.count(*)")
	case p.Answer.Count == EstimatedCount && p.Call == nil && p.MaxRows > 0:
		w.text("(SELECT pg_catalog.count(*) FROM (SELECT 1 FROM ").counted(p)
		return w.text(" LIMIT ").param(strconv.AppendInt(nil, p.MaxRows+1, 10)).text(") c)")
	}
	return w.text("(SELECT pg_catalog.count(*) FROM ").counted(p).text(")")
}

func (w *writer) body(p *Plan) *writer {
	switch {
	case !p.Answer.Body:
		return w.text("NULL")
	case p.Answer.MaxBytes <= 0 || p.ReadOnly:
		return w.text(p.bodySQL())
	}
	// Postgres makes equal aggregates once, and knows a value's size without reading it.
	body := p.bodySQL()
	bytes := "(pg_catalog.pg_column_size(" + body + ") - 4)" // less its header
	w.text("CASE WHEN " + bytes + " <= " + strconv.FormatInt(p.Answer.MaxBytes, 10) + " THEN " + body + " ELSE ('" + BytesPrefix + "' || " + bytes + ")::int8::text")
	if p.Answer.Format == JSON || p.Answer.Format == GeoJSON {
		w.text("::json")
	}
	return w.text(" END")
}

// bodySQL is the body as an expression over the rows s; none of it is the client's.
func (p *Plan) bodySQL() string {
	switch {
	case p.Answer.Format == CSV:
		return csvBody
	case p.Answer.Format == GeoJSON:
		return p.geoJSONBody()
	case p.Answer.Format == Custom:
		return p.customBody()
	case p.Answer.Format == Raw && p.Binary():
		return "pg_catalog.encode(pg_catalog.string_agg(s.pgrst_scalar, ''), 'hex')"
	case p.Answer.Format == Raw && p.Call.Function.Base == "xml": // written as xml is, which unlike its cast to text leaves out an empty first line
		return "pg_catalog.string_agg(pg_catalog.concat(s.pgrst_scalar), '')"
	case p.Answer.Format == Raw: // the value itself
		return "pg_catalog.string_agg(s.pgrst_scalar::text, '')"
	}
	rows, empty := "pg_catalog.json_agg(s.*)", "'[]'"
	if p.values() {
		rows = "pg_catalog.json_agg(s.pgrst_scalar)"
	}
	if p.Answer.StripNulls {
		rows = "pg_catalog.json_strip_nulls(" + rows + ")"
	}
	if p.Answer.Singular || p.Call != nil && !p.Call.Function.SetOf {
		rows, empty = rows+"->0", "'null'"
	}
	return "coalesce(" + rows + ", " + empty + ")"
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

// csvBody is rows as Postgres writes a row's text, which is CSV but for the parentheses.
const csvBody = `coalesce((SELECT pg_catalog.string_agg(CASE WHEN k ~ '[",\n\r]' THEN '"' || pg_catalog.replace(k, '"', '""') || '"' ELSE k END, ',') FROM pg_catalog.json_object_keys(pg_catalog.json_agg(s.*)->0) k), '')` +
	` || E'\n' || coalesce(pg_catalog.string_agg(pg_catalog.substr(s::text, 2, pg_catalog.length(s::text) - 2), E'\n'), '')`

// Binary tells whether the body of the answer is hexadecimal.
func (p *Plan) Binary() bool {
	return p.Answer.Format == Raw && p.Call != nil && p.Call.Function.Base == "bytea" ||
		p.Answer.Handler != nil && p.Answer.Handler.Binary
}

// counted are the rows that count=exact counts, whatever the page.
func (w *writer) counted(p *Plan) *writer {
	return w.source(&p.Read).where(slices.Clip(p.Read.Where))
}
