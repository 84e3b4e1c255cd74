package schema

import "strings"

// AnyMedia is the media type of handlers that answer whatever is asked for.
const AnyMedia = "*/*"

// Handler is an aggregate that makes the body of an answer from rows. The domain
// that it returns is named like a media type.
type Handler struct {
	Name
	// Of is the relation of whose rows it makes it; nil for any rows.
	Of *Relation
	// ContentType is what the body is, unless its SQL says something else.
	ContentType string
	// Binary: what it returns are bytes, not text.
	Binary bool
	// JSONB: it returns jsonb, which PostgREST sends as Postgres' protocol has it,
	// with a byte for its version in front.
	JSONB bool
}

type documentHandler struct {
	Schema, Name, OfSchema, Of string
	Any                        bool
	Domain, Base               string
}

func (s *Schema) addHandler(d *documentHandler) {
	h := &Handler{Name: Name{d.Schema, d.Name}, ContentType: ContentType(d.Domain), Binary: d.Base == "bytea", JSONB: d.Base == "jsonb"}
	media := strings.ToLower(d.Domain)
	if d.Any {
		put(&s.handlers, media, h)
	} else if h.Of = s.relations[Name{d.OfSchema, d.Of}]; h.Of != nil {
		put(&h.Of.handlers, media, h)
	}
}

func put(m *map[string]*Handler, media string, h *Handler) {
	if *m == nil {
		*m = map[string]*Handler{}
	}
	(*m)[media] = h
}

// Handler finds the handler of the relation's own rows for a media type, or nil.
func (r *Relation) Handler(media string) *Handler { return r.handlers[media] }

// Handler finds the handler of any rows for a media type, or nil.
func (s *Schema) Handler(media string) *Handler { return s.handlers[media] }

// ContentType is that of an answer in a media type: the standard ones are in
// UTF-8 and say so, and what answers anything answers bytes.
func ContentType(media string) string {
	switch lower := strings.ToLower(media); lower {
	case AnyMedia:
		return "application/octet-stream"
	case "application/json", "application/geo+json", "text/csv", "text/plain", "text/xml", "application/openapi+json", "application/x-www-form-urlencoded":
		return lower + "; charset=utf-8"
	case "application/octet-stream":
		return lower
	}
	return media
}
