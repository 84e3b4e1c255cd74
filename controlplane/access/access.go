// Package access keeps what the gateway goes by besides placements: plans and
// their limits, tenants' own settings, API keys, issuers, policies, revoked
// tokens, and database roles of a tenant's own. The catalog's rows decide;
// nodes get documents made of them (internal/access), each with a version.
//
// Every change is one transaction: rows, the new version, what is to be
// published, and the audit record. A change that would change nothing does
// nothing, so that repeating one does no harm.
//
// Import law: of this module, access imports shardmap, internal packages, and
// controlplane/catalog and operation only.
package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// Errors a caller decides on. Their texts are for people.
var (
	// ErrInvalid is wrapped by every refusal of a malformed request; the text says what to change.
	ErrInvalid = errors.New("invalid request")
	// ErrChanged: the document is not at the version that the change was made for.
	ErrChanged = errors.New("changed meanwhile")
	// ErrInUse: others depend on what is to go; the text names them.
	ErrInUse = errors.New("in use")
	// ErrExists: there is one of that name.
	ErrExists = errors.New("exists already")
	// ErrShard: the tenant's server did not do what was asked, or did not answer. Nothing was changed.
	ErrShard = errors.New("the tenant's shard does not answer")
)

// Roles makes and drops database roles of tenants' own (*shard.Fleet). Both may be repeated.
type Roles interface {
	CreateCustomRole(ctx context.Context, on shardmap.ShardID, database, name string) error
	DropCustomRole(ctx context.Context, on shardmap.ShardID, database, name string) error
}

// Service is one replica's. Any number may run on one catalog. All methods are safe for concurrent use.
type Service struct {
	store  *catalog.Store
	engine *operation.Engine
	roles  Roles
	log    *slog.Logger
}

// New makes the service and registers its kind of operation with the engine. A nil log is [slog.Default].
func New(store *catalog.Store, engine *operation.Engine, roles Roles, log *slog.Logger) *Service {
	if log == nil {
		log = slog.Default()
	}
	s := &Service{store: store, engine: engine, roles: roles, log: log}
	operation.Register(engine, roleKind())
	return s
}

// record writes the audit record of a change in its transaction. details hold no secret.
func (s *Service) record(ctx context.Context, tx pgx.Tx, actor catalog.Actor, action, object string, tenant shardmap.TenantID, details any) error {
	text, err := json.Marshal(details)
	if err != nil {
		return fmt.Errorf("audit record %s: %w", action, err)
	}
	return s.store.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: actor, Action: action, Object: object, Tenant: tenant, Outcome: "ok", Details: text})
}

func invalid(err error) error { return fmt.Errorf("%w: %w", ErrInvalid, err) }

// checkVersion refuses a change that was made for another version; nil expects none.
func checkVersion(object string, have int64, expect *int64) error {
	if expect == nil || *expect == have {
		return nil
	}
	return fmt.Errorf("%s: %w: it is at version %d, not %d", object, ErrChanged, have, *expect)
}
