package rest

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/freehold-db/freehold/dataplane/rest/body"
	"github.com/freehold-db/freehold/dataplane/rest/pgrst"
	"github.com/freehold-db/freehold/dataplane/rest/plan"
	"github.com/freehold-db/freehold/dataplane/rest/query"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// request is an HTTP request of the dialect, understood as far as it can be
// without a schema.
type request struct {
	plan.Request
	method     string
	head       bool
	media      media
	prefer     preferences
	profile    string // the schema
	negotiated bool   // the profile is part of the answer
	rawQuery   string
	headers    []byte // as JSON, for SQL
}

func (h *Handler) read(c *gin.Context) (*request, error) {
	r := c.Request
	req := &request{method: r.Method, head: r.Method == http.MethodHead, rawQuery: r.URL.RawQuery}
	var err error
	if req.Action, err = action(r.Method); err != nil {
		return nil, err
	}
	if err := h.chooseSchema(req, r.Header); err != nil {
		return nil, err
	}
	req.Relation = schema.Name{Schema: req.profile, Name: c.Param("table")}
	if req.Query, err = query.Parse(r.URL.RawQuery); err != nil {
		return nil, syntax(err)
	}
	if req.media, err = negotiate(r.Header.Values("Accept")); err != nil {
		return nil, err
	}
	if req.prefer, err = parsePreferences(r.Header.Values("Prefer")); err != nil {
		return nil, err
	}
	if req.Page, err = page(&req.Query.Root, r); err != nil {
		return nil, err
	}
	if req.Action == plan.ActionInsert || req.Action == plan.ActionUpdate {
		if req.Body, err = h.readBody(c); err != nil {
			return nil, err
		}
	}
	if err := bounded(req); err != nil {
		return nil, err
	}
	req.headers = headersJSON(r.Header)
	h.fill(req)
	return req, nil
}

func action(method string) (plan.Action, error) {
	switch method {
	case http.MethodGet, http.MethodHead:
		return plan.ActionRead, nil
	case http.MethodPost:
		return plan.ActionInsert, nil
	case http.MethodPatch:
		return plan.ActionUpdate, nil
	case http.MethodDelete:
		return plan.ActionDelete, nil
	}
	return 0, pgrst.MethodNotAllowed(method)
}

func syntax(err error) error {
	var e *query.SyntaxError
	if errors.As(err, &e) {
		return pgrst.Syntax(e)
	}
	return err
}

// bounded refuses a write with a limit: which rows it would take is not said,
// and to ignore it would change more than was asked for.
func bounded(req *request) error {
	root := &req.Query.Root
	if (req.Action == plan.ActionUpdate || req.Action == plan.ActionDelete) && (root.Limit != nil || root.Offset != nil) {
		return pgrst.NotImplemented("limit and offset do not apply to " + req.method).
			WithHint("Filter the rows to change, and bound them by Prefer: handling=strict, max-affected=N.")
	}
	return nil
}

// fill takes over what the plan follows from.
func (h *Handler) fill(req *request) {
	p := &req.prefer
	req.MaxRows = max(0, int64(h.opts.MaxRows))
	req.MissingDefaults = p.missing == "missing=default"
	switch p.resolution {
	case "resolution=merge-duplicates":
		req.Resolution = plan.MergeDuplicates
	case "resolution=ignore-duplicates":
		req.Resolution = plan.IgnoreDuplicates
	}
	switch p.representation {
	case "return=representation":
		req.Return = plan.ReturnRows
	case "return=headers-only":
		req.Return = plan.ReturnHeaders
	}
	req.Answer = plan.Answer{
		Body: !req.head, Singular: req.media.singular, StripNulls: req.media.stripNulls,
		Total:       p.count != "", // an exact count is a good estimate, too
		MaxAffected: -1,
		MaxBytes:    h.opts.MaxAnswer,
	}
	if p.strict() && p.maxAffected >= 0 && (req.Action == plan.ActionUpdate || req.Action == plan.ActionDelete) {
		req.Answer.MaxAffected = p.maxAffected
	}
}

// chooseSchema reads the profile: Accept-Profile when reading, else Content-Profile.
func (h *Handler) chooseSchema(req *request, header http.Header) error {
	name := "Content-Profile"
	if req.Action == plan.ActionRead {
		name = "Accept-Profile"
	}
	req.profile, req.negotiated = h.opts.Schemas[0], len(h.opts.Schemas) > 1
	if profile := header.Get(name); profile != "" {
		if _, ok := h.searchPath[profile]; !ok {
			return pgrst.UnknownSchema(profile, h.opts.Schemas)
		}
		req.profile, req.negotiated = profile, true
	}
	return nil
}

// readBody reads a body within the bound of the options; the gateway's may be smaller.
func (h *Handler) readBody(c *gin.Context) (*body.Body, error) {
	if contentType := c.GetHeader("Content-Type"); contentType != "" {
		mediaType, _, err := mime.ParseMediaType(contentType)
		if err != nil || mediaType != "application/json" {
			return nil, pgrst.InvalidBody("Content-Type not acceptable: " + clip(contentType))
		}
	}
	text, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, h.opts.MaxBody))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if gone := c.Request.Context().Err(); gone != nil || errors.As(err, &tooLarge) {
			return nil, fmt.Errorf("read the body: %w", errors.Join(gone, err))
		}
		return nil, pgrst.InvalidBody("The body could not be read").WithCause(err) // cut off, or badly chunked
	}
	b, err := body.Parse(text)
	if err != nil {
		f := pgrst.InvalidBody("Empty or invalid json")
		var e *body.Error
		if errors.As(err, &e) && len(text) > 0 {
			f.Details = fmt.Sprintf("At byte %d: %s", e.Offset, e.Reason)
		}
		return nil, f
	}
	return b, nil
}

func clip(s string) string { return s[:min(len(s), 100)] }
