package gateway

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/freehold-db/freehold/dataplane/fault"
	"github.com/freehold-db/freehold/dataplane/gateway/bearer"
	guard "github.com/freehold-db/freehold/dataplane/gateway/policy"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/policy"
)

// authorize asks the policies, where there are some, whether the request may
// pass. What a role allows in the database, Postgres judges.
func (g *Gateway) authorize(c *gin.Context) {
	id := identity(c)
	if g.cfg.Policies == nil || g.cfg.Policies.Idle(id) {
		return
	}
	what := g.whatOf(c, id)
	if err := g.allowed(c, id, what); err != nil {
		g.watch.refused.WithLabelValues(fault.From(err).Code).Inc()
		fault.Write(c, err)
	}
}

// allowed asks the policies about one resource of a request.
func (g *Gateway) allowed(c *gin.Context, id *bearer.Identity, what policy.What) error {
	err := g.cfg.Policies.Check(id, what, policy.Context{IP: clientAddress(c.Request), Time: time.Now(), Headers: headersFor(c.Request)})
	if err == nil {
		return nil
	}
	var denied *guard.DeniedError
	if !errors.As(err, &denied) {
		return fault.New(http.StatusServiceUnavailable, "policy_broken", "The tenant's policies cannot be evaluated").
			WithHint("Nothing was executed. An operator has to repair the policies.").WithCause(err)
	}
	g.report(c, access.ActionPolicyDenied, id, "", denied.Error())
	hint := "No policy permits it."
	if len(denied.Policies) > 0 {
		hint = "Forbidden by policy " + strings.Join(denied.Policies, ", ") + "."
	}
	return fault.New(http.StatusForbidden, "policy_denied", "A policy does not allow this request").WithHint(hint).WithCause(err)
}

// related asks the policies about tables that a request reads although its verb does not say so.
func (g *Gateway) related(c *gin.Context, id *bearer.Identity) func(schema, table string) error {
	if g.cfg.Policies == nil || g.cfg.Policies.Idle(id) {
		return nil
	}
	return func(schema, table string) error {
		return g.allowed(c, id, policy.What{Method: http.MethodGet, Kind: policy.Table, Schema: schema, Name: table})
	}
}

// whatOf is what a request is for, as policies call it.
func (g *Gateway) whatOf(c *gin.Context, id *bearer.Identity) policy.What {
	what := policy.What{Method: c.Request.Method, Kind: policy.Root}
	switch {
	case c.Request.URL.Path == sqlPath:
		what.Kind = policy.SQL
		return what
	case c.Param("function") != "":
		what.Kind, what.Name = policy.Function, c.Param("function")
	case c.Param("table") != "":
		what.Kind, what.Name = policy.Table, c.Param("table")
	}
	what.Schema = g.schemaOf(c.Request, id)
	return what
}

// schemaOf is the schema that a request chooses by its profile, or the default.
func (g *Gateway) schemaOf(r *http.Request, id *bearer.Identity) string {
	profile := "Content-Profile"
	if r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions {
		profile = "Accept-Profile"
	}
	if name := r.Header.Get(profile); name != "" {
		return name
	}
	if id.Document != nil && len(id.Document.Schemas) > 0 {
		return id.Document.Schemas[0]
	}
	return g.cfg.Schema
}

func headersFor(r *http.Request) map[string]string {
	seen := map[string]string{}
	for _, name := range policy.Headers {
		if v := r.Header.Get(name); v != "" {
			seen[name] = v
		}
	}
	return seen
}
