// Package router turns a tenant into a connection ready for use: it resolves
// the tenant through the shard map, obtains the tenant's login, keeps pools
// that cost nothing when idle, bounds connections per node, shard and tenant,
// holds the requests of a tenant that is cutting over, and turns "refused at
// the old place" into "look again". It knows nothing of HTTP.
//
// Import law: of this module, router imports shardmap and internal packages only.
package router

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freehold-db/freehold/shardmap"
)

// Errors a caller decides on. Each is wrapped with what was being done.
var (
	// ErrUnknownTenant: the catalog (or a fresh negative entry) says there is no such tenant.
	ErrUnknownTenant = errors.New("unknown tenant")
	// ErrUnresolved: the tenant is not cached and neither KV nor the control plane could be asked.
	ErrUnresolved = errors.New("placement cannot be looked up now")
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
	// ErrOutcomeUnknown: the connection broke after a write was sent. It may or may not have been committed and was not retried.
	ErrOutcomeUnknown = errors.New("outcome of the write is unknown")
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
	NodeConns   int           // connections of this node in total; default 400
	ShardConns  int           // connections of this node to one shard; default 100
	TenantConns int           // connections of this node to one tenant's database; default 8
	IdleAfter   time.Duration // an idle connection is closed after this; default 60 s
	AcquireFor  time.Duration // longest wait for a free connection; default 5 s
	HoldFor     time.Duration // longest a request is held during a cutover; default 10 s
	HeldMax     int           // held requests per tenant; default 1000
}

// Conn is a connection borrowed for one request, logged in as the tenant's
// login to the tenant's database.
type Conn struct {
	PG        *pgconn.PgConn
	Placement shardmap.Placement
}

// Session is what Do hands to the function it runs.
type Session = func(ctx context.Context, c *Conn) error
