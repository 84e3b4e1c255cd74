// Package adminapi is the control plane's HTTP face: who may do what, strict
// parsing, idempotency, the audit record of what was refused, and the one
// table that turns the domain's errors into problems. It decides nothing about
// tenants or shards itself.
//
// What it promises is written in openapi.yaml, which it serves; tests hold the
// real answers of every verb against that document.
//
// Import law: adminapi is the only package of the control plane that knows HTTP.
package adminapi

import (
	"context"
	"iter"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/instrumentation/github.com/gin-gonic/gin/otelgin"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/time/rate"

	"github.com/freehold-db/freehold/controlplane/access"
	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/audit/proof"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/controlplane/rebalance"
	"github.com/freehold-db/freehold/internal/problem"
	"github.com/freehold-db/freehold/shardmap"
)

// Deps is what the API stands on. Everything but Metrics, Registry and Log is needed.
type Deps struct {
	Catalog Catalog
	// Operations is the step engine (*operation.Engine).
	Operations Operations
	// Tenants makes and changes tenants, Shards registers servers (both *provision.Service).
	Tenants Tenants
	Shards  Shards
	// Moves starts online moves (*move.Service).
	Moves Moves
	// Soaks takes moves back or ends their soaks (*move.Service).
	Soaks Soaks
	// Verifications compares both sides of moves (*move.Service).
	Verifications Verifications
	// Clones makes tenants of others (*clone.Service).
	Clones Clones
	// Copies keeps sealed copies of tenants (*copies.Service), Erasures makes
	// tenants unrecoverable (*erase.Service).
	Copies   Copies
	Erasures Erasures
	// Upgrades says what draining a shard onto a newer one means (*move.Service).
	Upgrades Upgrades
	// Secrets rotates and revokes credentials (*rotation.Service).
	Secrets Secrets
	// Doctor looks the fleet over (*doctor.Doctor); nil: this replica does not.
	Doctor Doctor
	// Access keeps plans, settings, keys and roles.
	Access *access.Service
	// Rebalance keeps the policy of placement and plans by it.
	Rebalance *rebalance.Service
	// Audit is the audit log that is listed (*audit.Log); records are written through Catalog.
	// Anchors signs it and asks its witnesses (*anchor.Keeper); nil: this replica does not. Sources says what
	// catalogs sent to it ([audit.SourceOf]); nil: nobody is asked.
	// Outbox bounds the records that wait for it; nil: nothing does.
	Anchors Anchors
	Sources audit.Witness
	Outbox  *audit.Outbox
	Audit   Audit
	// Callers tells who a bearer token belongs to: [Tokens], or what knows more (*identity.Desk).
	Callers Authenticator
	// Identities keeps access tokens and bindings (*identity.Desk), BreakGlass
	// opens tenants' databases to people (*breakglass.Service).
	Identities Identities
	BreakGlass BreakGlass
	// Metrics answers /metrics; nil: 404. Registry gets the API's own figures; nil: none are kept.
	Metrics  http.Handler
	Registry prometheus.Registerer
	// Log gets every error that the caller only sees as "internal"; nil: slog.Default().
	Log *slog.Logger
}

// Authenticator tells who a bearer token belongs to; from is the address it came from.
// Errors: authority.ErrUnknown, ErrExpired, ErrRevoked, ErrUnsettled; catalog.ErrUnavailable.
type Authenticator interface {
	Authenticate(ctx context.Context, token, from string) (Principal, error)
}

// Catalog is what the API reads and changes without anyone's help (*catalog.Store).
type Catalog interface {
	Tx(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error
	GetTenant(ctx context.Context, id shardmap.TenantID) (catalog.Tenant, error)
	TenantsSeen(ctx context.Context, sight *catalog.Sight, limit int) ([]shardmap.TenantID, error)
	SetLabels(ctx context.Context, tx pgx.Tx, id shardmap.TenantID, labels map[string]string) error
	LockTenant(ctx context.Context, tx pgx.Tx, id shardmap.TenantID) (catalog.Tenant, error)
	ListTenants(ctx context.Context, f catalog.TenantFilter, p catalog.Page) ([]catalog.Tenant, string, error)
	GetPlacement(ctx context.Context, id shardmap.TenantID) (shardmap.Placement, error)
	GetShard(ctx context.Context, id shardmap.ShardID) (catalog.Shard, error)
	GetShardUsage(ctx context.Context, id shardmap.ShardID) (catalog.ShardUsage, error)
	ListShards(ctx context.Context) ([]catalog.ShardUsage, error)
	SetShardState(ctx context.Context, tx pgx.Tx, id shardmap.ShardID, from []catalog.ShardState, to catalog.ShardState) (catalog.Shard, error)
	AppendAudit(ctx context.Context, tx pgx.Tx, r catalog.AuditRecord) error
	GetSoak(ctx context.Context, operation string) (catalog.Soak, error)
	ListSoaks(ctx context.Context, f catalog.SoakFilter, p catalog.Page) ([]catalog.Soak, string, error)
	ListCredentials(ctx context.Context, f catalog.CredentialFilter, p catalog.Page) ([]catalog.Credential, string, error)
	Usage
	BeginRequest(ctx context.Context, actor, key string, hash []byte) (*catalog.Answer, error)
	FinishRequest(ctx context.Context, actor, key string, hash []byte, a catalog.Answer) error
	AbandonRequest(ctx context.Context, actor, key string, hash []byte) error
}

// Operations is what the API needs of the step engine.
type Operations interface {
	Get(ctx context.Context, id string) (*operation.Operation, error)
	List(ctx context.Context, f operation.Filter, p catalog.Page) ([]*operation.Operation, string, error)
	Steps(ctx context.Context, id string) ([]operation.StepRecord, error)
	CancelTx(ctx context.Context, tx pgx.Tx, id string, actor catalog.Actor) (*operation.Operation, error)
}

// Tenants is what the API needs of provisioning. Each change is an operation,
// and writes its own audit record when it succeeds.
type Tenants interface {
	Create(ctx context.Context, spec provision.CreateSpec, actor catalog.Actor, requestKey string) (*operation.Operation, error)
	Suspend(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, requestKey string) (*operation.Operation, error)
	Resume(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, requestKey string) (*operation.Operation, error)
	Delete(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, requestKey string) (*operation.Operation, error)
	Restore(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, requestKey string) (*operation.Operation, error)
}

// Shards is what the API needs to register a server. It writes its own audit record when it succeeds.
type Shards interface {
	AddShard(ctx context.Context, spec provision.ShardSpec, actor catalog.Actor) (catalog.Shard, error)
	RemoveShard(ctx context.Context, id shardmap.ShardID, actor catalog.Actor) (catalog.Shard, error)
}

// Audit is what the API needs of the audit log.
type Audit interface {
	List(ctx context.Context, f audit.Filter, p catalog.Page) ([]audit.Entry, string, error)
	ListTenant(ctx context.Context, tenant shardmap.TenantID, f audit.Filter, p catalog.Page) ([]audit.Entry, string, error)
	Latest(ctx context.Context) (audit.Checkpoint, error)
	Keys(ctx context.Context) (proof.Keys, error)
	Inclusion(ctx context.Context, position, size int64) (tlog.RecordProof, error)
	Extension(ctx context.Context, older, newer int64) (tlog.TreeProof, error)
	Export(ctx context.Context, sources audit.Witness, anchors audit.Elsewhere) iter.Seq2[proof.Line, error]
}

// API is the handler. Make one with [New].
type API struct {
	Deps
	engine *gin.Engine
	// closing ends the watchers, which would otherwise outlast a shutdown.
	closing   chan struct{}
	closeOnce sync.Once
	watchers  chan struct{}
	exports   chan struct{}
	proofs    *rate.Limiter
	strangers *strangers
	refusals  *refusals
	needs     map[string]Role // the role that a verb needs, by its name
}

// maxWatchers bounds the streams of one replica; each costs the catalog a few small reads a second.
const maxWatchers = 256

// New makes the API's handler. Serve it with [API.Server], or call
// [API.Close] when a server of another make shuts down.
func New(d Deps) *API {
	if d.Log == nil {
		d.Log = slog.Default()
	}
	a := &API{Deps: d, closing: make(chan struct{}), watchers: make(chan struct{}, maxWatchers),
		strangers: newStrangers(strangerBurst), refusals: newRefusals()}
	a.exports, a.proofs = make(chan struct{}, maxExports), rate.NewLimiter(proofsPerSecond, 2*proofsPerSecond)
	a.engine = a.routes()
	return a
}

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.engine.ServeHTTP(w, r) }

// Close ends the streams of watchers. It may be called more than once.
func (a *API) Close() { a.closeOnce.Do(func() { close(a.closing) }) }

// Server returns the server to serve the API with: bounded headers, bounded
// times, and streams that end when it shuts down. The caller listens.
func (a *API) Server() *http.Server {
	s := &http.Server{
		Handler:           a,
		ReadHeaderTimeout: 2 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      requestFor + 15*time.Second, // streams extend it as they go
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(a.Log.Handler(), slog.LevelWarn),
	}
	s.RegisterOnShutdown(a.Close)
	return s
}

// requestFor bounds the work of one request, streams apart. Registering a
// shard, which builds its templates, is what takes longest.
const requestFor = 120 * time.Second

func (a *API) routes() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	e.HandleMethodNotAllowed = true
	e.RedirectTrailingSlash = false
	e.ContextWithFallback = true
	if err := e.SetTrustedProxies(nil); err != nil { // only a list can be wrong
		panic(err)
	}
	if a.Registry != nil {
		e.Use(newMetrics(a.Registry, func() float64 { return float64(len(a.watchers)) }).observe)
	}
	e.Use(a.identify, otelgin.Middleware("freehold-controlplane"), a.recover)
	e.NoRoute(func(c *gin.Context) {
		a.refuse(c, problem.New(http.StatusNotFound, "no_such_route", "there is nothing at this path", "see /openapi.yaml for what there is"))
	})
	e.NoMethod(func(c *gin.Context) {
		a.refuse(c, problem.New(http.StatusMethodNotAllowed, "method_not_allowed", "this path does not take "+clip(c.Request.Method),
			"the Allow header lists what it takes"))
	})
	names := operationIDs()
	a.needs = map[string]Role{}
	for _, v := range verbs {
		v.name = names[v.method+" "+v.path]
		a.needs[v.name] = v.need
		e.Handle(v.method, v.path, a.handler(v))
	}
	a.public(e)
	a.publicAudit(e)
	return e
}
