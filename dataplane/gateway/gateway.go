// Package gateway is the door of a data-plane node: it refuses requests that
// are not plain HTTP, finds out by the bearer token or API key who asks, binds
// the request to a tenant that this credential is good for and to no other,
// bounds what a tenant may ask for, and measures all of it. What is behind the
// door comes in as handlers.
//
// A credential is good for the tenant that its claim names, or whose own it is
// (see package bearer). A subdomain or an X-Tenant-ID header can only agree
// with it; where one disagrees the request is refused, logged and audited as an
// attempt to cross tenants.
//
// Import law: of this module, gateway imports its own sub-packages,
// dataplane/fault, dataplane/intake, dataplane/timing, router (for a key), shardmap and internal
// packages only.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/freehold-db/freehold/dataplane/fault"
	"github.com/freehold-db/freehold/dataplane/gateway/bearer"
	"github.com/freehold-db/freehold/dataplane/gateway/limit"
	"github.com/freehold-db/freehold/dataplane/gateway/policy"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/shardmap"
)

// Config is what a gateway needs.
type Config struct {
	Verifier *bearer.Verifier
	// Naming says what names a request's tenant beside the credential, and must agree with it.
	Naming Naming
	// Report takes what the audit log should know; nil: nobody does. It must not block.
	Report func(access.Event)
	// Count takes every request that was bound to a tenant, how long it took and its status; nil: nobody does. It must not block.
	Count func(tenant shardmap.TenantID, took time.Duration, status int)
	// Policies judge requests beyond what roles allow; nil: none do. Schema is
	// what a request without a profile is for, of tenants without schemas of their own; default public.
	Policies *policy.Guard
	Schema   string
	// Origins may use the API from a browser: a list, or `*` or `none` alone; nothing is `*`.
	Origins []string
	// Proxies are addresses and prefixes of those whose X-Forwarded-For, -Proto
	// and -Host, X-Request-Id and traceparent count.
	Proxies []string
	// Traces has X-Request-Id and traceparent count from every client.
	Traces bool
	// Timing has answers tell where their time went (Server-Timing).
	Timing bool
	// CompressFrom is how many bytes an answer must have to be compressed for
	// clients that take that; negative: none is.
	CompressFrom int
	// MaxBody bounds a request's body in bytes, where the tenant's plan says nothing.
	MaxBody int64
	// RequestFor bounds a request from its head to the end of its answer.
	RequestFor time.Duration
	// Limits bounds tenants; nil: one with defaults.
	Limits *limit.Limiter
	// Ready returns why the node cannot serve, or nil. It is asked by /readyz.
	Ready func() error
	// Bind attaches an identity to the context that handlers get.
	Bind func(context.Context, *bearer.Identity) context.Context
	// Registry takes the gateway's metrics.
	Registry prometheus.Registerer
	Log      *slog.Logger
}

// Gateway is an http.Handler.
type Gateway struct {
	cfg     Config
	engine  *gin.Engine
	api     *gin.RouterGroup
	origins origins
	watch   *observer
	leaving atomic.Bool
	parting atomic.Bool
}

// New builds a gateway without routes but /healthz and /readyz.
func New(cfg Config) (*Gateway, error) {
	if cfg.Verifier == nil || cfg.Bind == nil || cfg.Ready == nil || cfg.Registry == nil || cfg.Log == nil {
		return nil, errors.New("gateway: configuration is incomplete")
	}
	if err := cfg.Naming.Check(); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	cfg.Naming = cfg.Naming.withDefaults()
	if cfg.Schema == "" {
		cfg.Schema = "public"
	}
	if cfg.Limits == nil {
		cfg.Limits = limit.New(limit.Options{Log: cfg.Log})
	}
	cfg.Registry.MustRegister(cfg.Limits)
	origins, err := parseOrigins(cfg.Origins)
	if err != nil {
		return nil, fmt.Errorf("gateway: origins: %w", err)
	}
	trusted, err := parseProxies(cfg.Proxies)
	if err != nil {
		return nil, fmt.Errorf("gateway: proxies: %w", err)
	}
	g := &Gateway{cfg: cfg, origins: origins, watch: newObserver(cfg.Registry, cfg.Log, trusted, cfg.Traces)}
	g.watch.count = cfg.Count

	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	e.RedirectTrailingSlash, e.RedirectFixedPath = false, false
	e.HandleMethodNotAllowed = true
	e.ForwardedByClientIP = false
	if err := e.SetTrustedProxies(nil); err != nil {
		return nil, err
	}
	e.Use(g.watch.observe, g.cors, g.strict, g.compress)
	e.NoRoute(func(c *gin.Context) {
		fault.Write(c, fault.New(http.StatusNotFound, "no_such_path", "There is nothing at this path").
			WithHint("Tables are under /rest/v1/."))
	})
	e.NoMethod(func(c *gin.Context) {
		fault.Write(c, fault.New(http.StatusMethodNotAllowed, "method_not_allowed", "This path does not take the method "+c.Request.Method))
	})
	e.GET("/healthz", func(c *gin.Context) { c.String(http.StatusOK, "ok\n") })
	e.GET("/readyz", g.readyz)
	g.engine = e
	g.api = e.Group("/", g.authenticate, g.authorize, g.limit)
	return g, nil
}

// API is where handlers register routes. Their requests are authenticated,
// bound to a tenant, and within its limits.
func (g *Gateway) API() *gin.RouterGroup { return g.api }

// ServeHTTP serves one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.engine.ServeHTTP(w, r) }

// Leave makes /readyz answer 503, so that balancers send nobody any more.
func (g *Gateway) Leave() { g.leaving.Store(true) }

// Part makes each answer end its connection, so that clients go elsewhere with their next request.
func (g *Gateway) Part() { g.parting.Store(true) }

// UnderWay is how many requests are being served now.
func (g *Gateway) UnderWay() int64 { return g.watch.underWay.Load() }

// Ready returns why no requests should be sent here now, or nil.
func (g *Gateway) Ready() error {
	if g.leaving.Load() {
		return errors.New("draining")
	}
	return g.cfg.Ready()
}

// readyz does not say why to whoever asks: that names what is behind the node.
func (g *Gateway) readyz(c *gin.Context) {
	if err := g.Ready(); err != nil {
		g.cfg.Log.DebugContext(c.Request.Context(), "not ready", "err", err)
		c.String(http.StatusServiceUnavailable, "not ready\n")
		return
	}
	c.String(http.StatusOK, "ready\n")
}
