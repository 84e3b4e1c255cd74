// Package router turns a tenant into a connection ready for use: it resolves
// the tenant through the shard map, obtains the tenant's login, keeps pools
// that cost nothing when idle, bounds connections per node, shard and tenant,
// holds the requests of a tenant that is cutting over, and turns "refused at
// the old place" into "look again". It knows nothing of HTTP.
//
// Import law: of this module, router imports shardmap and internal packages only.
package router

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freehold-db/freehold/internal/config"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/shardmap"
)

// Errors a caller decides on. Each is wrapped with what was being done.
var (
	// ErrUnknownTenant: the catalog (or a fresh negative entry) says there is no such tenant.
	ErrUnknownTenant = shardmap.ErrUnknownTenant
	// ErrUnresolved: the tenant is not cached and neither KV nor the control plane could be asked.
	ErrUnresolved = shardmap.ErrUnresolved
	// ErrSuspended: the tenant is suspended.
	ErrSuspended = errors.New("tenant is suspended")
	// ErrDeleted: the tenant is deleted.
	ErrDeleted = errors.New("tenant is deleted")
	// ErrBusy: a bound (node, shard, tenant, or held requests) is exhausted and waiting did not help.
	ErrBusy = errors.New("too many requests under way")
	// ErrHoldExpired: the tenant was cutting over for longer than a request may be held.
	ErrHoldExpired = errors.New("tenant is being moved and did not come back in time")
	// ErrUnreachable: no connection could be made; nothing was executed.
	ErrUnreachable = errors.New("tenant database cannot be reached")
	// ErrNoLogin: the tenant's database does not take the login, or not yet; nothing was executed.
	ErrNoLogin = errors.New("tenant database does not take this login")
	// ErrOutcomeUnknown: the connection broke after a write was sent. It may or may not have been committed and was not retried.
	ErrOutcomeUnknown = errors.New("outcome of the write is unknown")
	// ErrTooLarge: the server's answer to a read is larger than MaxMessage.
	ErrTooLarge = errors.New("answer of the database is too large")
	// ErrClosed: the router is closing; nothing was executed.
	ErrClosed = errors.New("router is closed")
)

// Access says whether running a request twice can do harm.
type Access int

const (
	// ReadOnly requests may be run again after a lost connection.
	ReadOnly Access = iota
	// ReadWrite requests are run again only when Postgres refused the session before any statement ran.
	ReadWrite
)

// Config bounds a router. Zero fields take the defaults.
type Config struct {
	// Connections of this node in total.
	NodeConns int `yaml:"node_conns" env:"FREEHOLD_ROUTER_NODE_CONNS"`
	// Connections of this node to one shard.
	ShardConns int `yaml:"shard_conns" env:"FREEHOLD_ROUTER_SHARD_CONNS"`
	// Connections of this node to one tenant's database, by all of its logins together.
	TenantConns int `yaml:"tenant_conns" env:"FREEHOLD_ROUTER_TENANT_CONNS"`
	// An idle connection is closed after this.
	IdleAfter time.Duration `yaml:"idle_after" env:"FREEHOLD_ROUTER_IDLE_AFTER"`
	// Longest wait for a free connection.
	AcquireFor time.Duration `yaml:"acquire_for" env:"FREEHOLD_ROUTER_ACQUIRE_FOR"`
	// Longest a request is held during a cutover.
	HoldFor time.Duration `yaml:"hold_for" env:"FREEHOLD_ROUTER_HOLD_FOR"`
	// Held requests per tenant.
	HeldMax int `yaml:"held_max" env:"FREEHOLD_ROUTER_HELD_MAX"`
	// Requests per tenant that wait for a connection; more than a hold lets go at once.
	WaitingMax int `yaml:"waiting_max" env:"FREEHOLD_ROUTER_WAITING_MAX"`
	// Bytes of one message of a server, such as a row.
	MaxMessage int `yaml:"max_message" env:"FREEHOLD_ROUTER_MAX_MESSAGE"`
	// Longest a refused request looks again where its tenant lives.
	RetryFor time.Duration `yaml:"retry_for" env:"FREEHOLD_ROUTER_RETRY_FOR"`
	// Longest a connection may take to open (a paused PgBouncer lets a login wait).
	ConnectFor time.Duration `yaml:"connect_for" env:"FREEHOLD_ROUTER_CONNECT_FOR"`
	// A tenant's login is read again after this.
	LeaseFor time.Duration `yaml:"lease_for" env:"FREEHOLD_ROUTER_LEASE_FOR"`
}

// Defaults fills what is zero.
func (c *Config) Defaults() {
	config.Default(&c.NodeConns, 400)
	config.Default(&c.ShardConns, 100)
	config.Default(&c.TenantConns, 8)
	config.Default(&c.IdleAfter, time.Minute)
	config.Default(&c.AcquireFor, 5*time.Second)
	config.Default(&c.HoldFor, 10*time.Second)
	config.Default(&c.HeldMax, 1000)
	config.Default(&c.WaitingMax, 4000)
	config.Default(&c.MaxMessage, 64<<20)
	config.Default(&c.RetryFor, 10*time.Second)
	config.Default(&c.ConnectFor, 8*time.Second)
	config.Default(&c.LeaseFor, 5*time.Minute)
}

// Conn is a connection borrowed for one request, logged in to the tenant's
// database with the login that the request is for.
type Conn struct {
	PG        *pgconn.PgConn
	Placement shardmap.Placement
}

// Session is what Do hands to the function it runs.
//
// It must send one transaction at most (one batch with one Sync, or BEGIN to
// COMMIT), must hand nothing to its own caller before it returns nil, since it
// may be run again on another connection, and must not keep the connection.
type Session = func(ctx context.Context, c *Conn) error

// DialFunc opens a network connection, as [net.Dialer.DialContext] does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Router runs requests on connections to wherever their tenants live. It is
// safe for concurrent use and has one goroutine of its own, however many
// tenants there are. [Router.Close] ends it.
type Router struct {
	cfg    Config
	shards *shardmap.Map
	creds  secret.Store
	dial   DialFunc
	// channel secures the connections; nil: nothing does.
	channel *pg.Channel
	stats   counters

	mu      sync.Mutex // everything below, and all of tenant, pool, server and hold
	tenants map[shardmap.TenantID]*tenant
	servers map[shardmap.ShardID]*server
	conns   map[*conn]struct{} // open ones, in use or idle
	open    int                // connections open or being opened, over all shards
	line    list.List          // of *pool: those with waiting requests, next in turn first
	waiters sync.Pool          // of *waiter
	closing bool
	empty   chan struct{} // closed when closing and no connection is left

	cleanups sync.WaitGroup // of broken connections, by the driver
	side     sync.WaitGroup // of leases being renewed
	renewing int            // how many

	life    context.Context // of what runs beside the requests
	stop    context.CancelFunc
	stopped chan struct{}
}

// Option changes how a router is made.
type Option func(*Router)

// WithDialer has connections opened by dial.
func WithDialer(dial DialFunc) Option { return func(r *Router) { r.dial = dial } }

// WithChannel has connections secured as channel says.
func WithChannel(channel *pg.Channel) Option { return func(r *Router) { r.channel = channel } }

// New returns a router that finds tenants by m and their logins in creds.
// Call it before m is in use.
func New(m *shardmap.Map, creds secret.Store, cfg Config, opts ...Option) *Router {
	cfg.Defaults()
	ctx, stop := context.WithCancel(context.Background())
	r := &Router{
		cfg: cfg, shards: m, creds: creds,
		dial:    (&net.Dialer{Timeout: dialFor, KeepAlive: 15 * time.Second}).DialContext,
		tenants: map[shardmap.TenantID]*tenant{},
		servers: map[shardmap.ShardID]*server{},
		conns:   map[*conn]struct{}{},
		empty:   make(chan struct{}),
		life:    ctx,
		stop:    stop,
		stopped: make(chan struct{}),
	}
	for _, opt := range opts {
		opt(r)
	}
	m.OnChange(r.placementChanged)
	go r.reap(ctx)
	return r
}

// Door leads to tenants' databases by one of their logins.
type Door struct {
	router *Router
	login  tenantdb.Login
}

// As returns the door of a login. Connections by one are never used for
// another's requests; bounds and holds are for all of a tenant's together.
func (r *Router) As(login tenantdb.Login) Door { return Door{r, login} }

// Do is [Router.Do] by the door's login. A database that was made before there
// was such a login refuses it: [ErrNoLogin].
func (d Door) Do(ctx context.Context, tenant shardmap.TenantID, access Access, run Session) error {
	return d.router.do(ctx, tenant, d.login, access, run)
}

// Do runs one request of a tenant: run gets a connection to where the tenant
// lives, by the login for REST. Turned away there before anything was executed, or with the
// connection lost under a ReadOnly request, Do looks again where the tenant
// lives and calls run once more. What run returns on an intact connection is
// returned as it is. Otherwise the error wraps one of this package's errors, or
// ctx's.
func (r *Router) Do(ctx context.Context, tenant shardmap.TenantID, access Access, run Session) error {
	return r.do(ctx, tenant, tenantdb.REST, access, run)
}

func (r *Router) do(ctx context.Context, tenant shardmap.TenantID, login tenantdb.Login, access Access, run Session) error {
	look := looker{login: login}
	var heldUntil time.Time
	for {
		if err := r.gate(ctx, tenant, &heldUntil); err != nil {
			return err
		}
		place, err := r.shards.Get(ctx, tenant)
		if err != nil {
			return err
		}
		switch place.State {
		case shardmap.Active:
		case shardmap.Suspended:
			return fmt.Errorf("tenant %s: %w", tenant, ErrSuspended)
		default:
			return fmt.Errorf("tenant %s: %w", tenant, ErrDeleted)
		}
		v, err := r.attempt(ctx, place, login, access, run)
		switch v {
		case settled:
			return err
		case held:
			continue // to the gate
		default:
			if err := look.again(ctx, r, place, v, err); err != nil {
				return err
			}
		}
	}
}

// attempt runs the request once at one placement.
func (r *Router) attempt(ctx context.Context, place shardmap.Placement, login tenantdb.Login, access Access, run Session) (verdict, error) {
	c, err := r.acquire(ctx, place, login)
	if err == nil {
		err = r.begin(c)
	}
	switch {
	case err == nil:
	case errors.Is(err, errHeld):
		return held, err
	case errors.Is(err, errMoved), errors.Is(err, errConnect):
		return refused, err
	default:
		return settled, err
	}
	defer r.end(c) // also when run panics; what is not in order then is closed
	c.wire.handOut()
	v, err := judge(ctx, run(ctx, &c.Conn), c, access)
	if v != settled {
		r.stats.refused.Add(1)
		if v == refused {
			r.doubt(c)
		}
	} else if errors.Is(err, ErrOutcomeUnknown) {
		r.stats.unknown.Add(1)
	}
	return v, err
}
