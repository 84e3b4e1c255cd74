package gateway

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/freehold-db/freehold/dataplane/fault"
	"github.com/freehold-db/freehold/dataplane/gateway/bearer"
	"github.com/freehold-db/freehold/dataplane/timing"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/router"
)

// asked is a request's context with who asks; one small layer rather than gin's map.
type asked struct {
	context.Context
	id *bearer.Identity
	// related asks the policies about a further table; nil when there are none.
	related func(schema, table string) error
	// turn is the request's part in what its tenant may have; nil before that is known.
	turn *turn
	// times are measured where clients are told; nil: they are not.
	times *timing.Times
}

type identityKey struct{}

func (a asked) Value(key any) any {
	switch key {
	case identityKey{}:
		return a.id
	case relatedKey{}:
		return a.related
	case turnKey{}:
		return a.turn
	case timing.Key{}:
		return a.times
	case router.YieldKey{}:
		if a.turn != nil {
			return a.turn
		}
		return nil
	}
	return a.Context.Value(key)
}

type relatedKey struct{}

// Related is asked whether a request, whose context or one made of it this is,
// may read a table that its verb does not say it reads, as embedding does, and
// answering with what was written. It is nil when any may be read.
func Related(ctx context.Context) func(schema, table string) error {
	f, _ := ctx.Value(relatedKey{}).(func(schema, table string) error)
	return f
}

// identity is who asks, or nil before that is known.
func identity(c *gin.Context) *bearer.Identity { return Who(c.Request.Context()) }

// Who is asking, by a request's context; nil before that is known.
func Who(ctx context.Context) *bearer.Identity {
	id, _ := ctx.Value(identityKey{}).(*bearer.Identity)
	return id
}

// authenticate binds the request to the tenant of its credential, or refuses it.
func (g *Gateway) authenticate(c *gin.Context) {
	var times *timing.Times
	if g.cfg.Timing {
		times = timing.Start()
	}
	id, err := g.identify(c)
	if err != nil {
		f := fault.From(err)
		g.watch.refused.WithLabelValues(f.Code).Inc()
		fault.Write(c, f)
		return
	}
	if len(c.Request.Header["Authorization"]) == 0 {
		// Of a key in another header caches on the way know nothing: they would answer anybody with its tenant's rows.
		c.Header("Cache-Control", "private")
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), g.cfg.RequestFor)
	defer cancel()
	times.Mark(timing.JWT)
	t := &turn{limits: g.cfg.Limits, times: times}
	g.cfg.Limits.Look(&t.Pass, id.Tenant)
	c.Request = c.Request.WithContext(g.cfg.Bind(asked{ctx, id, g.related(c, id), t, times}, id))
	c.Next()
}

// identify finds out who asks, and for which tenant. All that names a tenant has to agree.
func (g *Gateway) identify(c *gin.Context) (id *bearer.Identity, err error) {
	r := c.Request
	shown, err := credentialsOf(r)
	if err != nil {
		return nil, err
	}
	called := g.cfg.Naming.of(r)
	who, err := g.cfg.Verifier.Verify(r.Context(), shown.main, called.picked())
	if err != nil {
		return nil, g.refusal(c, shown.main, err)
	}
	defer func() {
		if err != nil { // the log knows whose request it is, refused or not
			c.Request = r.WithContext(asked{Context: r.Context(), id: who})
		}
	}()
	if shown.beside != "" {
		key, err := g.cfg.Verifier.Verify(r.Context(), shown.beside, "")
		if err != nil {
			return nil, g.refusal(c, shown.beside, err)
		}
		if key.Tenant != who.Tenant {
			return nil, g.crossing(c, who, string(key.Tenant), "The API key is of another tenant than the token")
		}
	}
	if who.Claimed != "" {
		return nil, g.crossing(c, who, string(who.Claimed), "The token's issuer speaks for one tenant, and the token claims another")
	}
	if name, found := called.against(who.Tenant); found {
		return nil, g.crossing(c, who, name, "The credential is of another tenant than the request names")
	}
	if g.cfg.Naming.unnamed(who, called) {
		return nil, nameless()
	}
	return who, nil
}

// crossing refuses a credential of one tenant that came with the name of another.
func (g *Gateway) crossing(c *gin.Context, id *bearer.Identity, other, message string) *fault.Fault {
	g.report(c, access.ActionCrossTenant, id, other, message)
	return fault.New(http.StatusForbidden, "tenant_mismatch", message).
		WithHint("Leave the subdomain and " + g.cfg.Naming.Header + " out, or make them the credential's tenant.")
}

// Crossed reports a request that was refused behind the gateway because it
// names another tenant than its credential's.
func (g *Gateway) Crossed(c *gin.Context, other, message string) {
	if id := identity(c); id != nil {
		g.report(c, access.ActionCrossTenant, id, other, message)
	}
}

// report tells the audit log, and the node's own, what was refused to whom.
func (g *Gateway) report(c *gin.Context, action string, id *bearer.Identity, other, reason string) {
	e := access.NewEvent("", action, id.Tenant)
	e.Claimed, e.Subject, e.Issuer, e.Reason = other, id.Subject, id.Issuer, reason
	e.Remote, e.RequestID = clientText(c.Request), c.Writer.Header().Get("X-Request-Id")
	g.watch.refusal(c.Request.Context(), e)
	if g.cfg.Report != nil {
		g.cfg.Report(e)
	}
}

func nameless() *fault.Fault {
	return fault.New(http.StatusBadRequest, "tenant_required", "The request does not say for which tenant it is").
		WithHint("Use the tenant's subdomain, or name it in the header.")
}
