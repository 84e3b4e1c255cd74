package plan

import (
	"slices"
	"strings"

	"github.com/freehold-db/freehold/dataplane/rest/pgrst"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// Media types of the dialect's own, which no handler overrides.
const (
	MediaArray  = "application/vnd.pgrst.array+json"
	MediaObject = "application/vnd.pgrst.object+json"
	MediaPlan   = "application/vnd.pgrst.plan"
)

// Media is one that a client accepts.
type Media struct {
	// Type is in lower case and without parameters; that of [MediaPlan] has no suffix.
	Type string
	// Text is how messages name it: one that is known by its usual name, else as the client wrote it.
	Text string
	// StripNulls leaves out what is null, of [MediaArray] and [MediaObject].
	StripNulls bool
	// Explain is set for MediaPlan.
	Explain *Explain
}

// Explain asks for the execution plan of what makes For, in place of its result.
type Explain struct {
	For  Media
	JSON bool
	// Options are words of EXPLAIN in lower case: analyze, verbose, settings, buffers, wal.
	Options []string
}

const utf8 = "; charset=utf-8"

// form is how an answer is represented.
type form struct {
	format      Format
	singular    bool
	stripNulls  bool
	handler     *schema.Handler
	contentType string
}

var jsonForm = form{format: JSON, contentType: "application/json" + utf8}

// negotiate picks the first of what the client accepts that there is a way to
// make. Nothing at all is for Answer to say.
func (p *Plan) negotiate(s *schema.Schema, req *Request) error {
	if len(req.Accept) == 0 {
		p.ContentType = jsonForm.contentType
		return nil
	}
	for i := range req.Accept {
		m := &req.Accept[i]
		if m.Explain != nil && !req.Plans {
			continue
		}
		made := m
		if m.Explain != nil {
			made = &m.Explain.For
		}
		f, ok := p.form(s, made)
		if !ok {
			continue
		}
		p.Answer.Format, p.Answer.Singular, p.Answer.StripNulls, p.Answer.Handler, p.ContentType = f.format, f.singular, f.stripNulls, f.handler, f.contentType
		if f.format == GeoJSON {
			p.geoJSON = s.GeoJSON
		}
		if m.Explain != nil {
			p.Explain, p.ContentType = m.Explain, m.Explain.contentType(f.contentType)
		}
		return nil
	}
	return NotAcceptable(req.Accept)
}

// NotAcceptable refuses a client that accepts nothing that there is.
func NotAcceptable(accept []Media) error {
	texts := make([]string, len(accept))
	for i, m := range accept {
		texts[i] = m.Text
	}
	return pgrst.NotAcceptable(clip(strings.Join(texts, ", ")))
}

func clip(s string) string { return s[:min(len(s), 300)] }

// form finds the way to make a media type: the dialect's own, then a handler of
// these very rows (the one for everything first), then one of any rows.
func (p *Plan) form(s *schema.Schema, m *Media) (form, bool) {
	switch {
	case m.Type == MediaObject:
		contentType := MediaObject
		if m.StripNulls {
			contentType += ";nulls=stripped"
		}
		return form{singular: true, stripNulls: m.StripNulls, contentType: contentType + utf8}, true
	case m.Type == MediaArray && m.StripNulls:
		return form{stripNulls: true, contentType: MediaArray + ";nulls=stripped" + utf8}, true
	case m.Type == MediaArray:
		return p.form(s, &Media{Type: "application/json"})
	}
	if f, ok := p.own(schema.AnyMedia); ok {
		return f, true
	}
	if f, ok := p.own(m.Type); ok {
		return f, true
	}
	if h := s.Handler(m.Type); h != nil {
		return form{format: Custom, handler: h, contentType: h.ContentType}, true
	}
	switch m.Type {
	case "application/json", schema.AnyMedia:
		return jsonForm, true
	case "text/csv":
		return form{format: CSV, contentType: m.Type + utf8}, true
	case "application/geo+json":
		return form{format: GeoJSON, contentType: m.Type + utf8}, s.GeoJSON != nil
	}
	return p.rawForm(m.Type)
}

// own finds the handler of the plan's very rows: of the whole rows of their
// relation, or the one value of a function whose type names the media type.
func (p *Plan) own(media string) (form, bool) {
	if h := p.Read.From.Handler(media); h != nil && p.Read.whole() {
		return form{format: Custom, handler: h, contentType: h.ContentType}, true
	}
	if p.Call == nil {
		return form{}, false
	}
	f := p.Call.Function
	if f.Rows == nil && !f.SetOf && strings.EqualFold(f.Domain, media) {
		return form{format: Raw, contentType: schema.ContentType(f.Domain)}, true
	}
	return form{}, false
}

// whole tells whether all columns of the relation are read, and nothing else.
func (r *Read) whole() bool {
	return len(r.Output) == 1 && r.Output[0].Star && len(r.Embeds) == 0
}

// rawForm is for values whose type says nothing of a media type.
func (p *Plan) rawForm(media string) (form, bool) {
	base := map[string]string{"text/plain": "text", "application/octet-stream": "bytea", "text/xml": "xml"}[media]
	if base == "" || p.Call == nil {
		return form{}, false
	}
	f := p.Call.Function
	return form{format: Raw, contentType: schema.ContentType(media)}, f.Rows == nil && !f.SetOf && f.Domain == "" && f.Base == base
}

// MediaType names what e asks for.
func (e *Explain) MediaType() string { return strings.TrimSuffix(e.contentType(e.For.Text), utf8) }

func (e *Explain) contentType(of string) string {
	t := MediaPlan + "+text"
	if e.JSON {
		t = MediaPlan + "+json"
	}
	t += `; for="` + strings.TrimSuffix(of, utf8) + `"`
	if len(e.Options) > 0 {
		t += "; options=" + strings.Join(e.Options, "|")
	}
	return t + utf8
}

// ExplainOptions are those that a client may name, in the order in which they are named back.
var ExplainOptions = []string{"analyze", "verbose", "settings", "buffers", "wal"}

// Statement makes stmt one that explains itself.
func (e *Explain) Statement(stmt Statement) Statement {
	words := []string{"FORMAT TEXT"}
	if e.JSON {
		words[0] = "FORMAT JSON"
	}
	for _, option := range ExplainOptions {
		if slices.Contains(e.Options, option) {
			words = append(words, strings.ToUpper(option))
		}
	}
	stmt.SQL = "EXPLAIN (" + strings.Join(words, ", ") + ") " + stmt.SQL
	return stmt
}

// customBody is the body that a handler makes of the rows s, as text.
func (p *Plan) customBody() string {
	w := &writer{}
	h := p.Answer.Handler
	if h.Binary {
		w.text("pg_catalog.encode(")
	}
	if h.JSONB {
		w.text("pg_catalog.chr(1) || ")
	}
	w.ident(h.Schema).text(".").ident(h.Name.Name).text("(s")
	switch {
	case p.values():
		w.text(".").ident(valueColumn.Name)
	case h.Of != nil:
		w.text("::").relation(h.Of)
	}
	if h.Binary {
		w.text(")::bytea, 'hex')")
	} else {
		w.text(")::text")
	}
	return string(w.sql)
}

// geoJSONBody is a collection of features, one for each of the rows s.
func (p *Plan) geoJSONBody() string {
	w := (&writer{}).text("pg_catalog.json_build_object('type', 'FeatureCollection', 'features', coalesce(pg_catalog.json_agg(")
	w.ident(p.geoJSON.Schema).text(".").ident(p.geoJSON.Name)
	return string(w.text("(s)::json), '[]'))").sql)
}
