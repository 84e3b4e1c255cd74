package rest

import (
	"errors"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

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
	path       string // below the root, unescaped
	head       bool
	prefer     preferences
	exposed    *exposure
	profile    string // the schema
	negotiated bool   // the profile is part of the answer
	rollback   bool
	rawQuery   string
	header     http.Header
	// document is the statement that takes the place of a plan's, for the root.
	document *plan.Statement
	// documentType is that one's content type.
	documentType string
}

func (h *Handler) read(c *gin.Context, exposed *exposure) (*request, error) {
	r := c.Request
	req := &request{method: r.Method, head: r.Method == http.MethodHead, rawQuery: separated(r.URL.RawQuery), header: r.Header, path: c.Param("table"), exposed: exposed}
	function, called := c.Params.Get("function")
	if err := req.chooseSchema(); err != nil {
		return nil, err
	}
	var err error
	if req.Action, err = action(r.Method, called); err != nil {
		return nil, err
	}
	req.Relation = schema.Name{Schema: req.profile, Name: req.path}
	parse := query.Parse
	if called {
		req.path, req.Relation.Name = "rpc/"+function, function
		req.Args = &plan.CallArgs{ReadOnly: reads(r.Method)}
		if req.Action == plan.ActionCall && req.Args.ReadOnly {
			parse = query.ParseCall
		}
	}
	if req.Query, err = parse(req.rawQuery); err != nil {
		return nil, syntax(err)
	}
	req.Accept, req.Plans = accepted(r.Header["Accept"]), h.opts.Plans
	if req.prefer = parsePreferences(r.Header.Values("Prefer")); req.prefer.strict() && len(req.prefer.unknown) > 0 {
		req.Objection = pgrst.InvalidPreferences(req.prefer.unknown)
	}
	if req.Page, err = page(&req.Query.Root, r); err != nil {
		return nil, err
	}
	if req.Action == plan.ActionPut && (req.Page.Limit >= 0 || req.Page.Offset > 0) {
		return nil, pgrst.PagedPut()
	}
	if err := h.readBody(c, req); err != nil {
		return nil, err
	}
	h.fill(req)
	return req, nil
}

// separated has an ampersand between any two parameters: as with PostgREST, a semicolon is one, too.
func separated(rawQuery string) string {
	return strings.TrimSuffix(strings.ReplaceAll(rawQuery, ";", "&"), "&")
}

func reads(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

func action(method string, called bool) (plan.Action, error) {
	switch {
	case method == http.MethodOptions:
		return plan.ActionOptions, nil
	case called && (reads(method) || method == http.MethodPost):
		return plan.ActionCall, nil
	case called:
		return 0, pgrst.MethodNotOfFunctions(method)
	}
	switch method {
	case http.MethodGet, http.MethodHead:
		return plan.ActionRead, nil
	case http.MethodPost:
		return plan.ActionInsert, nil
	case http.MethodPatch:
		return plan.ActionUpdate, nil
	case http.MethodPut:
		return plan.ActionPut, nil
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

// fill takes over what the plan follows from.
func (h *Handler) fill(req *request) {
	p := &req.prefer
	req.MaxRows = max(0, int64(h.opts.MaxRows))
	req.Aggregates = h.opts.Aggregates
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
		Body:  !req.head,
		Count: counts[p.count], MaxAffected: -1, MaxBytes: h.opts.MaxAnswer,
	}
	req.rollback = p.tx == "tx=rollback" && h.opts.Rollback
	if !h.opts.Rollback {
		p.tx = ""
	}
	if p.strict() && p.maxAffected >= 0 && (req.Action == plan.ActionUpdate || req.Action == plan.ActionDelete || req.Action == plan.ActionCall) {
		req.Answer.MaxAffected = p.maxAffected
	}
}

var counts = map[string]plan.Count{"count=exact": plan.ExactCount, "count=planned": plan.PlannedCount, "count=estimated": plan.EstimatedCount}

// chooseSchema reads the profile: Accept-Profile when reading, else Content-Profile.
func (req *request) chooseSchema() error {
	name := "Content-Profile"
	if reads(req.method) {
		name = "Accept-Profile"
	}
	x := req.exposed
	req.profile, req.negotiated = x.names[0], len(x.names) > 1
	if profiles := req.header[name]; len(profiles) > 0 {
		profile := profiles[0]
		if _, ok := x.searchPath[profile]; !ok {
			return pgrst.UnknownSchema(profile, x.names)
		}
		req.profile, req.negotiated = profile, true
	}
	return nil
}
