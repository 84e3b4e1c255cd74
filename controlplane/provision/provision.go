// Package provision gives a tenant its database and takes it away again:
// create (from the warm pool, or on the spot), suspend, resume, delete,
// restore, purge, temporary logins for people, and adding a shard. In the
// background it keeps the warm pools filled and clears what is due.
//
// Every change is an operation: one that is done at once is recorded as done.
// Every method that changes something writes its audit record in the same
// transaction; its caller writes none of its own for a success.
//
// Import law: of this module, provision imports shardmap, internal packages,
// and controlplane/catalog, operation and shard.
package provision

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// Kinds of operations. Their lists of steps are in the files of their names.
const (
	KindCreate  = "tenant-create"
	KindSuspend = "tenant-suspend"
	KindResume  = "tenant-resume"
	KindDelete  = "tenant-delete"
	KindRestore = "tenant-restore"
	KindPurge   = "tenant-purge"
)

// Options of the service. Zero values mean the default in brackets.
type Options struct {
	MigrationsDir string        // application schema of goose SQL files; empty: tenants start empty
	WarmPool      int           // ready databases kept on each active shard; 0: none
	Limits        shard.Limits  // of each tenant's login
	DeleteGrace   time.Duration // how long a deleted tenant is restorable; 0: it is purged at once
	Logger        *slog.Logger  // [slog.Default()]
}

// Service is one replica's. Any number may run on one catalog. All methods are safe for concurrent use.
type Service struct{}

// New makes the service and registers its kinds of operations with the engine.
func New(store *catalog.Store, engine *operation.Engine, fleet *shard.Fleet, secrets secret.Store, opt Options) *Service {
	return &Service{}
}

// Run keeps the warm pools and templates, purges what is due and sweeps
// expired logins, until ctx ends; then it returns nil.
func (s *Service) Run(ctx context.Context) error { return errTODO }

var errTODO = errors.New("not written yet")

// CreateSpec asks for a tenant. A zero Fit takes the least loaded shard.
type CreateSpec struct {
	ID          shardmap.TenantID
	DisplayName string
	Fit         catalog.Fit
}

// Create makes a tenant. From the warm pool it is ready when Create returns
// (the operation is Done); else the operation is Pending and a worker takes it
// up at once. The same actor and request key with the same spec return the same operation.
// Errors: catalog.ErrExists, ErrNoRoom, ErrBusy, ErrKeyReused; for a named
// shard ErrNotFound (no such shard) and ErrConflict (it takes no tenants).
func (s *Service) Create(ctx context.Context, spec CreateSpec, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	return nil, errTODO
}

// Suspend closes an active tenant: requests are refused, its database takes no
// login, sessions are ended. Errors: catalog.ErrNotFound, ErrConflict (not active), ErrBusy, ErrKeyReused.
func (s *Service) Suspend(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	return nil, errTODO
}

// Resume opens a suspended tenant. Errors: catalog.ErrNotFound, ErrConflict (not suspended), ErrBusy, ErrKeyReused.
func (s *Service) Resume(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	return nil, errTODO
}

// Delete closes a tenant for good: it can be restored until the grace period
// is over, then its database, roles and secret are dropped. Its ID is never used again.
// Errors: catalog.ErrNotFound, ErrConflict (deleted already), ErrBusy, ErrKeyReused.
func (s *Service) Delete(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	return nil, errTODO
}

// Restore brings a deleted tenant back within its grace period.
// Errors: catalog.ErrNotFound, ErrConflict (not deleted, or its grace is over), ErrBusy, ErrKeyReused.
func (s *Service) Restore(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	return nil, errTODO
}

// Access is a temporary login of a person to one tenant's database.
type Access struct {
	Placement shardmap.Placement
	// Host and Port are the shard's Postgres itself: psql and dumps need a
	// session of their own. BouncerHost and BouncerPort are for clients that
	// should follow a move; there a session lasts one transaction.
	Host        string
	Port        uint16
	BouncerHost string
	BouncerPort uint16
	Login       secret.Login // shown once, kept nowhere
	As          shard.Access
	ExpiresAt   time.Time
}

// MaxAccess is the longest life of a temporary login; DefaultAccess is for a ttl of zero.
const (
	MaxAccess     = 24 * time.Hour
	DefaultAccess = time.Hour
)

// ErrInvalid is wrapped by every refusal of a malformed request; the text says what to change.
var ErrInvalid = errors.New("invalid request")

// Grant makes a temporary login. An empty as means the owner. It can connect
// until ttl is over, and its sessions are ended soon after.
// Errors: catalog.ErrNotFound, ErrConflict (deleted), ErrInvalid (as, ttl).
func (s *Service) Grant(ctx context.Context, id shardmap.TenantID, as shard.Access, ttl time.Duration, actor catalog.Actor) (Access, error) {
	return Access{}, errTODO
}

// ShardSpec asks for a new shard; State, Version and CreatedAt are not read.
type ShardSpec struct {
	Shard   catalog.Shard
	Admin   secret.Login // a superuser of the Postgres server
	Console secret.Login // may use PgBouncer's console
}

// AddShard checks the server (reachable both ways, superuser, version, logical
// replication), keeps its logins in the secret store, prepares it, and
// registers it. The same spec again is no error and renews addresses and logins.
// Errors: shard.ErrUnfit (with what to change), catalog.ErrConflict (the ID is another server's), ErrInvalid.
func (s *Service) AddShard(ctx context.Context, spec ShardSpec, actor catalog.Actor) (catalog.Shard, error) {
	return catalog.Shard{}, errTODO
}
