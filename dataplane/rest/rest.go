// Package rest serves PostgREST's dialect: it parses a request (query, body),
// plans it against the tenant's schema (plan, schema), and runs one statement in
// one round trip, in which Postgres makes the JSON. The answer is held until
// the transaction has ended, so that a deferred constraint can still refuse it
// and a slow client holds no connection; MaxRows and MaxAnswer bound what is held.
//
// Where it differs from PostgREST on purpose: request.headers has no credentials
// and there is no request.cookies, for the tenant's SQL is not to see what would
// let it act as its users; types that show the server (`::regrole`) can't be cast
// to; a null filter on an embedded resource narrows a write itself.
//
// Import law: of this module, rest imports shardmap, router, dataplane/fault,
// dataplane/intake, dataplane/timing, its own sub-packages and internal packages only.
package rest

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/freehold-db/freehold/dataplane/fault"
	"github.com/freehold-db/freehold/dataplane/rest/pgrst"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
	"github.com/freehold-db/freehold/dataplane/timing"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/router"
	"github.com/freehold-db/freehold/shardmap"
)

// Router gives a session with a tenant's database; see router.Router.
type Router interface {
	Do(ctx context.Context, tenant shardmap.TenantID, access router.Access, fn router.Session) error
}

// Identity is who asks, as the gateway verified it.
type Identity struct {
	Tenant shardmap.TenantID
	// Role is the access role, built in or one of the tenant's own: the request
	// becomes the database's role for it; see tenantdb.ForREST.
	Role string
	// Claims are the token's claims, for SQL to read as request.jwt.claims.
	Claims string
	// Schemas are exposed to this tenant in place of [Options.Schemas]; empty: those.
	Schemas []string
	// Related, when set, is asked about each relation that a request reads although its verb does not
	// say so, by embedding or by answering with what it wrote: an error refuses the request.
	Related func(schema, relation string) error
	// Limits go before [Options] where they are set, and bound a statement's time.
	Limits access.Limits
}

type identityKey struct{}

// WithIdentity puts who asks into a request's context.
func WithIdentity(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}

// IdentityFrom finds who asks.
func IdentityFrom(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(identityKey{}).(Identity)
	return id, ok
}

// Options bounds a [Handler]. Zero fields take the defaults.
type Options struct {
	// Schemas are exposed to tenants without a list of their own; the first is the
	// default. Default: public. Those that can't be exposed ([Exposable]) are left out.
	Schemas []string
	// ExtraSearchPath are schemas that SQL finds things in besides the one of the
	// request, without being exposed. Default: public; an empty name is none.
	ExtraSearchPath []string
	// MaxRows bounds the rows of one answer; default 1000, negative for no bound.
	MaxRows int
	// MaxBody bounds a request's body in bytes; default 1 MiB.
	MaxBody int64
	// MaxAnswer bounds an answer's body in bytes; default 16 MiB. A write whose
	// answer would be longer is refused by Postgres, within the statement.
	MaxAnswer int64
	// OpenAPI is one of [OpenAPIModes]; default OpenAPIFollow.
	OpenAPI string
	// Aggregates lets clients aggregate rows.
	Aggregates bool
	// Plans lets clients see execution plans.
	Plans bool
	// Hoisted are the settings of a called function that hold for its whole transaction,
	// and so for the statement that calls it; default [HoistedSettings].
	Hoisted []string
	// Owner is the door for requests of owners, whose role no other login can become.
	Owner Router
	// Rollback lets clients ask for what they wrote to be undone.
	Rollback bool
	// Cache bounds what is remembered of schemas.
	Cache schema.Options
}

func (o Options) withDefaults() Options {
	if len(o.Schemas) == 0 {
		o.Schemas = []string{"public"}
	}
	if o.MaxRows == 0 {
		o.MaxRows = 1000
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 1 << 20
	}
	if o.MaxAnswer <= 0 {
		o.MaxAnswer = 16 << 20
	}
	if o.Hoisted == nil {
		o.Hoisted = HoistedSettings
	}
	if o.ExtraSearchPath == nil {
		o.ExtraSearchPath = []string{"public"}
	}
	return o
}

// Handler serves tables, views and functions of any tenant.
type Handler struct {
	router  Router
	opts    Options
	schemas *schema.Cache
	exposed *exposures
}

// New makes a handler; it holds no resources of its own.
func New(r Router, opts Options) *Handler {
	opts = opts.withDefaults()
	return &Handler{router: r, opts: opts, schemas: schema.NewCache(opts.Cache), exposed: newExposures(opts.Schemas, opts.ExtraSearchPath)}
}

// Schemas are the figures of what is remembered of schemas.
func (h *Handler) Schemas() schema.Stats { return h.schemas.Stats() }

// Register mounts the verbs of tables and functions, the description of both,
// and refusals of what there is besides.
func (h *Handler) Register(routes gin.IRoutes) {
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPatch, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodTrace} {
		routes.Handle(method, root+"/:table", h.serve(h.read))
		routes.Handle(method, root+"/rpc/:function", h.serve(h.read))
		document := h.readDocument
		if !reads(method) {
			document = refuse(pgrst.MethodNotAllowed(method))
		}
		routes.Handle(method, root+"/", h.serve(document))
		for _, path := range []string{"/:table/*rest", "/rpc/:function/*rest"} {
			routes.Handle(method, root+path, h.serve(refuse(pgrst.NoSuchPath())))
		}
	}
}

// refuse reads nothing of a request.
func refuse(f *fault.Fault) func(*gin.Context, *exposure) (*request, error) {
	return func(*gin.Context, *exposure) (*request, error) { return nil, f }
}

// serve answers a request of a kind that read understands.
func (h *Handler) serve(read func(*gin.Context, *exposure) (*request, error)) gin.HandlerFunc {
	return func(c *gin.Context) {
		id, ok := IdentityFrom(c.Request.Context())
		if !ok {
			fault.Write(c, fault.New(http.StatusUnauthorized, "PGRST302", "Anonymous access is disabled"))
			return
		}
		req, err := read(c, h.exposed.of(id.Schemas))
		timing.From(c.Request.Context()).Mark(timing.Parse)
		if err == nil {
			h.bound(req, id)
			err = h.answer(c, id, req)
		}
		if err != nil {
			fault.Write(c, err)
		}
	}
}
