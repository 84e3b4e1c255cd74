// Package catalog is the system of record: tenants, shards, placements, the
// inventory of databases, operations and their steps, the outbox. Where a
// tenant lives is what a committed row here says, and nothing else.
//
// Every change of a placement bumps its epoch by one and writes an outbox row
// in the same transaction.
//
// Import law: of this module, catalog imports shardmap and internal packages only.
package catalog

import (
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freehold-db/freehold/shardmap"
)

// Errors a caller decides on. Each comes wrapped with the object it is about.
var (
	ErrNotFound = errors.New("not found")
	// ErrExists: the ID is taken, or was once: tenant IDs are never reused.
	ErrExists = errors.New("already exists")
	// ErrConflict: the row was not in the state the change needs (e.g. moving a deleted tenant).
	ErrConflict = errors.New("conflicting state")
	// ErrBusy: another unfinished operation owns the tenant.
	ErrBusy = errors.New("another operation is under way")
	// ErrNoRoom: no shard fits.
	ErrNoRoom = errors.New("no shard fits")
	// ErrKeyReused: the request key was used before for a different request.
	ErrKeyReused = errors.New("request key was used for a different request")
)

// Store is the catalog in Postgres. All methods are safe for concurrent use.
type Store struct{ pool *pgxpool.Pool }

// Tenant is one customer.
type Tenant struct {
	ID          shardmap.TenantID
	DisplayName string
	Labels      map[string]string // what operators sort tenants by, and rights go by
	Placement   shardmap.Placement
	CreatedAt   time.Time
	// DeletedAt and PurgeAfter are set while the tenant is deleted: restorable until PurgeAfter.
	DeletedAt, PurgeAfter *time.Time
	// PurgedAt is set once its database is gone for good. The ID stays taken.
	PurgedAt *time.Time
	// ErasedAt is set from the moment at which its erasure can't be taken back.
	ErasedAt *time.Time
}

// ShardState says what may be placed on a shard.
type ShardState string

const (
	ShardActive   ShardState = "active"   // takes new tenants; an operator's cordon or drain leaves it
	ShardCordoned ShardState = "cordoned" // serves its tenants, takes no new ones; uncordon leaves it
	ShardDraining ShardState = "draining" // being emptied
	ShardDown     ShardState = "down"     // an operator said it is gone
	ShardRemoved  ShardState = "removed"  // final: it was empty, and the fleet has forgotten how to reach it
)

// Shard is one Postgres server with its PgBouncer. Its logins are in the secret store.
type Shard struct {
	ID           shardmap.ShardID
	State        ShardState
	Region       string
	Class        string
	Labels       map[string]string
	PostgresHost string
	PostgresPort uint16
	BouncerHost  string // what data-plane nodes connect to
	BouncerPort  uint16
	// RoutesFile is the path of PgBouncer's included list of explicit entries,
	// writable by the control plane; empty if there is none (then clients
	// still connected to the old PgBouncer must reconnect after a move).
	RoutesFile string
	// PostgresTLSDir is a directory on Postgres's machine with the files by which
	// it verifies other shards' (pg.ServerCAFile and its like); empty if there is none.
	PostgresTLSDir string
	// MaxDatabases bounds what provisioning places here; 0: no bound.
	MaxDatabases int
	Version      int64
	CreatedAt    time.Time
}

// DatabaseState is the life of one database on one shard.
type DatabaseState string

const (
	DatabaseBuilding DatabaseState = "building" // provisioning is making it; ready or dropped next
	DatabaseReady    DatabaseState = "ready"    // in the warm pool; assignment leaves it
	DatabaseAssigned DatabaseState = "assigned" // a placement names it
	DatabaseTarget   DatabaseState = "target"   // a move is filling it; assigned or dropped next
	DatabaseRetired  DatabaseState = "retired"  // fenced leftover of a move, dropped after DropAfter
	DatabaseDropping DatabaseState = "dropping" // being dropped
)

// Database is one row of the inventory: a database on a shard. During a move
// the same name exists on two shards, so the key is (Shard, Name).
type Database struct {
	Shard         shardmap.ShardID
	Name          string
	State         DatabaseState
	Tenant        shardmap.TenantID // empty in the warm pool
	SchemaVersion int64             // goose version of the application schema it was made at
	DropAfter     *time.Time
	CreatedAt     time.Time
}

// Actor says who makes a change, for the audit log.
type Actor struct {
	Name      string // the token's name, "system" for the control plane itself
	Role      string
	Reason    string
	RequestID string
	Address   string // source address
}

// Either lists states as a person would: "active", "active or suspended".
func Either[S ~string](states []S) string {
	words := make([]string, len(states))
	for i, s := range states {
		words[i] = string(s)
	}
	if n := len(words); n > 1 {
		return strings.Join(words[:n-1], ", ") + " or " + words[n-1]
	}
	return strings.Join(words, "")
}
