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
// and controlplane/catalog, operation, placement and shard.
package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/placement"
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
type Service struct {
	store   *catalog.Store
	engine  *operation.Engine
	fleet   *shard.Fleet
	secrets secret.Store
	desk    *placement.Desk
	opt     Options
	log     *slog.Logger
	wake    chan struct{} // a warm pool was taken from
}

// New makes the service and registers its kinds of operations with the engine.
func New(store *catalog.Store, engine *operation.Engine, fleet *shard.Fleet, secrets secret.Store, opt Options) *Service {
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	s := &Service{store: store, engine: engine, fleet: fleet, secrets: secrets, desk: placement.NewDesk(store), opt: opt, log: opt.Logger, wake: make(chan struct{}, 1)}
	operation.Register(engine, s.createKind())
	operation.Register(engine, s.suspendKind())
	operation.Register(engine, s.resumeKind())
	operation.Register(engine, s.deleteKind())
	operation.Register(engine, s.restoreKind())
	operation.Register(engine, s.purgeKind())
	return s
}

// ErrInvalid is wrapped by every refusal of a malformed request; the text says what to change.
var ErrInvalid = errors.New("invalid request")

// record writes the audit record of a change to a tenant in the change's transaction.
func (s *Service) record(ctx context.Context, tx pgx.Tx, actor catalog.Actor, action string, tenant shardmap.TenantID, outcome string, details any) error {
	text, err := json.Marshal(details)
	if err != nil {
		return fmt.Errorf("audit record %s: %w", action, err)
	}
	return s.store.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: actor, Action: action, Object: "tenant/" + string(tenant),
		Tenant: tenant, Outcome: outcome, Details: text})
}

// repeated finds the operation that the same request started before; nil if there is none.
// Errors: catalog.ErrKeyReused.
func (s *Service) repeated(ctx context.Context, spec operation.Spec) (*operation.Operation, error) {
	if spec.RequestKey == "" {
		return nil, nil
	}
	_, err := s.engine.FindRequest(ctx, spec.Actor.Name, spec.RequestKey)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return s.engine.Start(ctx, spec) // finds it, and compares the requests
}

// system acts where nobody asked.
func system(reason string) catalog.Actor {
	return catalog.Actor{Name: "system", Role: "system", Reason: reason}
}
