package dataplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freehold-db/freehold/dataplane/gateway"
	"github.com/freehold-db/freehold/dataplane/gateway/bearer"
	"github.com/freehold-db/freehold/dataplane/gateway/limit"
	"github.com/freehold-db/freehold/dataplane/gateway/limit/share"
	"github.com/freehold-db/freehold/dataplane/gateway/policy"
	"github.com/freehold-db/freehold/dataplane/meter"
	"github.com/freehold-db/freehold/dataplane/rest"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
	"github.com/freehold-db/freehold/dataplane/sqlhttp"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/secretstore"
	"github.com/freehold-db/freehold/internal/servertls"
	"github.com/freehold-db/freehold/internal/sleep"
	"github.com/freehold-db/freehold/internal/telemetry"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/router"
	"github.com/freehold-db/freehold/shardmap"
	"github.com/freehold-db/freehold/shardmap/feed"
)

// A node that is stopped leaves in three steps: for noticeFor it only says so
// (/readyz), then it takes no more connections and ends each one with its next
// answer, for partFor at least, and then it closes those that are idle.
const (
	noticeFor = 300 * time.Millisecond
	partFor   = 500 * time.Millisecond
)

// Server is a running node. It is stopped once with Stop; stopping again does nothing.
type Server struct {
	cfg      Config
	log      *slog.Logger
	url      string
	gate     *gateway.Gateway
	http     *http.Server
	listener *listener
	crowd    *gateway.Crowd
	secure   *servertls.Certificate // nil: plain HTTP
	ops      *ops                   // nil: nowhere
	router   *router.Router
	limits   *limit.Limiter
	source   *source
	verify   *bearer.Verifier
	reporter *access.Reporter
	meter    *meter.Meter
	secrets  *secretstore.Opened

	end  context.CancelFunc // of what runs beside the requests
	side sync.WaitGroup
	done chan error

	stopping atomic.Bool // the listener's end is meant
	stopOnce sync.Once
	stopErr  error
}

// Start brings up a node and returns when it listens. It is ready
// (/readyz) later, when it knows the token issuer's keys and has placements to
// look at; until then, and with NATS, control plane or issuer away, it keeps
// trying. ctx bounds the start alone. It fails on a bad configuration, a taken
// port, or an unreadable secret store.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	log := cfg.Log
	if log == nil {
		log = slog.Default()
	}
	s := &Server{cfg: cfg, log: log.With("part", "dataplane"), done: make(chan error, 1)}
	if err := s.assemble(ctx); err != nil {
		return nil, fmt.Errorf("data-plane node: %w", err)
	}
	return s, nil
}

func (s *Server) assemble(ctx context.Context) (err error) {
	// First, for it may give us our certificate.
	if s.secrets, err = s.cfg.secrets().OpenTenants(ctx, s.log); err != nil {
		return err
	}
	if err = s.open(ctx); err != nil {
		s.secrets.Close()
	}
	return err
}

func (s *Server) open(ctx context.Context) error {
	inside, err := s.loadTLS()
	if err != nil {
		return err
	}
	listener, err := listen(ctx, s.cfg.Listen)
	if err != nil {
		return err
	}
	s.listener = listener
	s.url = "http://" + listener.Addr().String()
	if inside != nil {
		s.url = "https://" + listener.Addr().String()
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	s.end = end

	if err := s.build(ctx); err != nil {
		end()
		return errors.Join(err, s.close(ctx), listener.Close())
	}
	s.side.Go(func() { s.verify.Run(life) })
	s.side.Go(func() { s.reporter.Run(life) })
	s.side.Go(func() { s.meter.Run(life, s.source.NATS().Publish, s.log) })
	s.side.Go(func() { s.limits.Run(life, share.NewLink(s.source.NATS(), s.cfg.Name, s.log)) })
	if s.secure != nil {
		s.side.Go(func() { s.secure.Run(life) })
	}
	s.side.Go(func() { s.source.Run(life, s.source.places, s.router) })
	s.side.Go(func() {
		d := s.source.directory
		s.source.FollowAccess(life, feed.Sink{Begin: d.Begin, Take: d.Take, Drop: d.Drop, Whole: d.Whole})
	})
	go func() {
		if err := s.http.Serve(gateway.Listener(s.crowd.Listen(listener), inside)); !s.stopping.Load() {
			s.done <- fmt.Errorf("data-plane node: %w", err)
		}
		close(s.done)
	}()
	s.log.Info("data-plane node listens", "url", s.url, "node", s.cfg.Name)
	return nil
}

// build makes the node's parts; none of them does anything yet.
func (s *Server) build(ctx context.Context) (err error) {
	if s.source, err = newSource(s.cfg, s.log); err != nil {
		return err
	}
	s.reporter = access.NewReporter(s.cfg.Name, s.source.publish, s.log)
	s.meter = meter.New(s.cfg.Name)
	if s.verify, err = s.verifier(); err != nil {
		return err
	}
	channel, err := s.cfg.DatabaseTLS.Open(s.log)
	if err != nil {
		return err
	}
	s.router = router.New(s.source.places, s.secrets, s.cfg.Router, router.WithChannel(channel))
	registry := telemetry.NewRegistry()
	registry.MustRegister(stats{s.router, s.source.places},
		condition("feed_connected", "Whether NATS can be heard now; known tenants are served without.", s.source.Connected),
		condition("feed_synced", "Whether all placements were taken in since the start.", s.source.Synced),
		condition("access_synced", "Whether all access documents were taken in since the start.", s.source.directory.Synced),
		condition("token_keys_known", "Whether a token issuer's keys are known.", s.verify.Known))
	if s.crowd, err = gateway.NewCrowd(s.cfg.Connections, s.cfg.ConnectionsPerAddress, s.cfg.TrustedProxies); err != nil {
		return err
	}
	registry.MustRegister(s.crowd)
	s.limits = limit.New(limit.Options{Config: s.cfg.Limits, Node: s.cfg.Name, Of: s.limitsOf, Log: s.log,
		Defaults: access.Limits{Rate: s.cfg.RatePerTenant, Burst: s.cfg.Burst}})
	logins := &storeReady{store: s.secrets, log: s.log}
	s.gate, err = gateway.New(gateway.Config{
		Verifier: s.verify, Naming: s.cfg.naming(), Report: s.reporter.Report, Count: s.meter.Count, Policies: policy.New(s.source.directory, s.log), Schema: s.cfg.Schemas[0],
		Origins: s.cfg.CORSOrigins, Proxies: s.cfg.TrustedProxies, Traces: s.cfg.ClientTraces,
		Timing: s.cfg.ServerTiming, CompressFrom: s.cfg.CompressFrom, MaxBody: s.cfg.MaxBody, RequestFor: s.cfg.RequestFor,
		Limits: s.limits, Registry: registry, Log: s.log,
		Bind: bind,
		Ready: func() error {
			if !s.verify.Known() {
				return bearer.ErrNoKeys
			}
			if err := logins.ready(); err != nil {
				return err
			}
			return s.source.ready()
		},
	})
	if err != nil {
		return err
	}
	api := rest.New(s.router, rest.Options{MaxRows: s.cfg.MaxRows, MaxBody: s.cfg.MaxBody, MaxAnswer: s.cfg.MaxAnswer,
		Owner:   s.router.As(tenantdb.Owner),
		Schemas: s.cfg.Schemas, ExtraSearchPath: s.cfg.ExtraSearchPath, Hoisted: s.cfg.HoistedSettings, OpenAPI: s.cfg.OpenAPI,
		Aggregates: s.cfg.Aggregates, Plans: s.cfg.Plans, Rollback: s.cfg.Rollback, Cache: schema.Options{Bytes: s.cfg.SchemaBytes, Document: int64(s.cfg.Router.MaxMessage) - aroundMessage}})
	api.Register(s.gate.API())
	registry.MustRegister(schemaFigures{api.Schemas})
	sqlhttp.New(sqlhttp.Options{Limits: s.cfg.SQL, Domain: s.cfg.Domain, Identify: sqlIdentity, Crossed: s.gate.Crossed,
		Door: func(l tenantdb.Login) sqlhttp.Door { return s.router.As(l) }}).Register(s.gate.API())
	s.http = gateway.NewServer(s.gate, s.cfg.RequestFor)
	s.http.ErrorLog = slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)
	if s.secure != nil {
		registry.MustRegister(certificateEnd(s.secure.NotAfter))
	}
	if s.cfg.OpsListen != "" {
		s.ops, err = serveOps(ctx, s.cfg.OpsListen, registry, s.gate.Ready, s.cfg.OpsPprof, s.opsTLS(), s.log)
	}
	return err
}

// bind tells the REST dialect who asks.
func bind(ctx context.Context, id *bearer.Identity) context.Context {
	who := rest.Identity{Tenant: id.Tenant, Role: id.Role, Claims: id.Claims, Related: gateway.Related(ctx), Limits: gateway.Limits(ctx)}
	if id.Document != nil {
		who.Schemas = id.Document.Schemas
	}
	return rest.WithIdentity(ctx, who)
}

// sqlIdentity tells SQL over HTTP who asks.
func sqlIdentity(ctx context.Context) (sqlhttp.Identity, bool) {
	id := gateway.Who(ctx)
	if id == nil {
		return sqlhttp.Identity{}, false
	}
	return sqlhttp.Identity{Tenant: id.Tenant, Role: id.Role, MayUseSQL: id.May(access.PermissionSQL), Claims: json.RawMessage(id.Claims), Limits: gateway.Limits(ctx)}, true
}

// limitsOf is what is known here of a tenant's limits. A request's tenant was
// looked up before it was authenticated; nobody waits here for one that was not.
func (s *Server) limitsOf(id shardmap.TenantID) access.Limits {
	t, err := s.source.directory.Tenant(over, id)
	if err != nil {
		return access.Limits{}
	}
	l := s.source.directory.Fleet().Limits(t)
	// What the router can't take in one message would break the connection in the middle of a write.
	l.MaxAnswer = min(l.MaxAnswer, max(s.cfg.MaxAnswer, int64(s.cfg.Router.MaxMessage)-schemaRoom))
	return l
}

// over is a context that nobody waits under.
var over = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// URL is where the node serves.
func (s *Server) URL() string { return s.url }

// OpsURL is where metrics and probes are; empty: nowhere.
func (s *Server) OpsURL() string {
	if s.ops == nil {
		return ""
	}
	return s.ops.url
}

// Done is closed when the node serves no more, after an error if it was not stopped.
func (s *Server) Done() <-chan error { return s.done }

// Stop drains the node: it says that it is not ready, takes no more
// connections, lets clients leave with their next answer, waits for what is
// under way as long as ctx and the configuration's DrainFor allow, and closes
// every connection. Its error says what was cut off.
func (s *Server) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() { s.stopErr = s.stop(ctx) })
	return s.stopErr
}

func (s *Server) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DrainFor)
	defer cancel()
	s.log.Info("data-plane node drains", "node", s.cfg.Name)
	s.gate.Leave()
	_ = sleep.For(ctx, min(noticeFor, s.cfg.DrainFor/4))
	s.gate.Part()
	s.stopping.Store(true)
	err := s.listener.Close()
	_ = sleep.For(ctx, min(partFor, s.cfg.DrainFor/4))
	s.settle(ctx)
	if down := s.http.Shutdown(ctx); down != nil {
		err = errors.Join(err, fmt.Errorf("requests were cut off: %w", down), s.http.Close())
	}
	s.end() // only now: holds are answered until the last request is done
	s.side.Wait()
	err = errors.Join(err, s.close(ctx))
	s.secrets.Close()
	s.log.Info("data-plane node stopped", "node", s.cfg.Name, "err", err)
	return err
}

// settle waits until nothing was under way for a while. http.Server.Shutdown
// alone would drop a request that it has read but not begun to serve.
func (s *Server) settle(ctx context.Context) {
	const look, quiet = 10 * time.Millisecond, 10
	for still := 0; still < quiet && ctx.Err() == nil; still++ {
		if s.gate.UnderWay() > 0 {
			still = -1
		}
		_ = sleep.For(ctx, look)
	}
}

// close lets go of what build made.
func (s *Server) close(ctx context.Context) (err error) {
	if s.router != nil {
		err = s.router.Close(ctx)
	}
	if s.source != nil {
		s.source.Close()
	}
	if s.ops != nil {
		err = errors.Join(err, s.ops.stop())
	}
	return err
}
