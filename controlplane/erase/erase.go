// Package erase makes a tenant unrecoverable and says so under a signature.
//
//	condemn  there is no way back: deleted without grace, API keys gone, every database to be dropped
//	shut     nobody is in any of them
//	key      the tenant's key is destroyed: whatever was sealed under it is noise, wherever it is
//	drop     every database and every login, at every place; a shard that is away is waited for
//	forget   the logins' secret, the copies held here
//	certify  all of it was done: the certificate is signed, the tenant's rows become a tombstone
//
// The first step is the point of no return. The key goes before the databases,
// so that a shard that is away for days holds up none but the copies on it.
//
// Import law: of this module, erase imports shardmap, internal packages, and
// controlplane/catalog, operation, provision and copies.
package erase

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/copies"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// Kind is the kind of operation that an erasure is.
const Kind = "tenant-erase"

// signingKey is where the key is kept that certificates are signed by.
const signingKey = "signing/erasure"

// Options of the service. Zero values mean the default in brackets.
type Options struct {
	// Checkpoint returns what a certificate says of the audit log: a signed
	// checkpoint that has the records so far [certificates say nothing of it].
	Checkpoint func(ctx context.Context) (json.RawMessage, error)
	Logger     *slog.Logger // [slog.Default()]
}

// Service is one replica's. All methods are safe for concurrent use.
type Service struct {
	store   *catalog.Store
	engine  *operation.Engine
	tenants *provision.Service
	copies  *copies.Service
	secrets secret.Store
	keys    secret.Keys
	opt     Options
}

// New makes the service and registers its kind with the engine.
func New(store *catalog.Store, engine *operation.Engine, tenants *provision.Service, held *copies.Service, secrets secret.Store, keys secret.Keys, opt Options) *Service {
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	s := &Service{store: store, engine: engine, tenants: tenants, copies: held, secrets: secrets, keys: keys, opt: opt}
	operation.Register(engine, s.kind())
	return s
}

// Doc is the operation's document: what is known to be destroyed by now.
type Doc struct {
	CondemnedAt time.Time  `json:"condemned_at,omitzero"`
	Places      []Place    `json:"places,omitempty"`
	Database    string     `json:"of_database,omitempty"` // whose logins have a secret
	APIKeys     int        `json:"api_keys,omitempty"`
	Key         KeyGone    `json:"key"`
	Copies      []CopyLeft `json:"copies,omitempty"`
}

// Receipt says that there is a certificate, and of what.
type Receipt struct {
	Tenant   shardmap.TenantID `json:"tenant"`
	Places   []Place           `json:"places"`
	Key      KeyGone           `json:"key"`
	Copies   []CopyLeft        `json:"copies"`
	IssuedAt time.Time         `json:"issued_at"`
}

type run = operation.Run[Doc]

func (s *Service) kind() operation.Kind[Doc] {
	return operation.Kind[Doc]{Name: Kind, Steps: []operation.Step[Doc]{
		{Name: "condemn", Title: "condemning the tenant", Do: s.condemn, NoReturn: true, Timeout: time.Minute},
		{Name: "shut", Title: "closing its databases", Do: s.shut, Timeout: 2 * time.Minute},
		{Name: "key", Title: "destroying its key", Do: s.destroyKey, Timeout: time.Minute},
		{Name: "drop", Title: "dropping its databases", Do: s.drop, Timeout: 10 * time.Minute},
		{Name: "forget", Title: "forgetting logins and copies", Do: s.forget, Timeout: 10 * time.Minute},
		{Name: "certify", Title: "signing the certificate", Do: s.certify, Timeout: time.Minute},
	}}
}

// ErrInvalid: an erasure needs a reason, which its certificate says.
var ErrInvalid = fmt.Errorf("%w: an erasure needs a reason", copies.ErrInvalid)

// Erase starts to erase a tenant in whatever state it is, purged ones too. It
// records in the audit log who asked for it. Errors: [ErrInvalid],
// catalog.ErrNotFound, ErrErased (it was already), ErrBusy, ErrKeyReused.
func (s *Service) Erase(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	if actor.Reason == "" {
		return nil, ErrInvalid
	}
	spec := operation.Spec{Kind: Kind, Tenant: id, Actor: actor, RequestKey: requestKey, Data: Doc{}}
	if requestKey != "" { // a repeated request is answered as the first was
		if _, err := s.engine.FindRequest(ctx, actor.Name, requestKey); err == nil {
			return s.engine.Start(ctx, spec)
		}
	}
	var op *operation.Operation
	err := s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		if _, err := s.store.LockTenant(ctx, tx, id); err != nil {
			return err
		}
		// First whether anything is under way: it may be an erasure.
		if op, err = s.engine.StartTx(ctx, tx, spec); err != nil {
			return err
		}
		if err := s.store.NotErased(ctx, tx, id); err != nil {
			return err
		}
		return s.record(ctx, tx, actor, "tenant.erase", id, "accepted", map[string]any{"operation": op.ID})
	})
	if err != nil {
		return nil, err
	}
	return op, nil
}

func (s *Service) record(ctx context.Context, tx pgx.Tx, actor catalog.Actor, action string, id shardmap.TenantID, outcome string, details map[string]any) error {
	text, err := json.Marshal(details)
	if err != nil {
		return err
	}
	return s.store.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: actor, Action: action, Object: "tenant/" + string(id), Tenant: id, Outcome: outcome, Details: text})
}

// Certificate reads a tenant's certificate. Errors: catalog.ErrNotFound (none was issued).
func (s *Service) Certificate(ctx context.Context, id shardmap.TenantID) (catalog.Erasure, error) {
	return s.store.GetErasure(ctx, id)
}

// PublicKey is the key that certificates of this fleet are verified with.
func (s *Service) PublicKey(ctx context.Context) (ed25519.PublicKey, error) {
	key, err := secret.SigningKey(ctx, s.secrets, signingKey)
	if err != nil {
		return nil, err
	}
	return key.Public().(ed25519.PublicKey), nil
}

func permanent(err error) error {
	if errors.Is(err, catalog.ErrConflict) || errors.Is(err, catalog.ErrNotFound) {
		return operation.Permanent(err)
	}
	return err
}
