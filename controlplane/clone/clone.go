// Package clone makes a new tenant with the contents of another's database,
// while that one is served: an operation of steps that can be run again after a
// crash at any point, and until the new tenant is in the catalog taken back
// without a trace.
//
//	preflight  find everything that could break, before anything is touched
//	reserve    a shard, and a row of the inventory for a database with a name of its own
//	copy       roles, logins, schema, rows, indexes; compared under one snapshot
//	assign     the database opens, the tenant is in the catalog: the point of no return
//
// The source is only read, in one exported snapshot: no slot, no publication,
// no replica identity, and a reader's lock on its tables no longer than the dump
// of the schema takes, or one part of a table's rows. That the tenant's own DDL
// or TRUNCATE came in between, which no snapshot hides, is seen at the end and
// the copy made anew.
//
// The clone has names, logins and secrets of its own. Names of roles are opaque
// and begin with the database's, so the source's are replaced wherever they are
// mentioned. What it has of the source's access is what [access.Service.CloneTx] says.
//
// Import law: of this module, clone imports shardmap, internal packages, and
// controlplane/catalog, operation, shard, provision, access, and what package
// move is made of: move/data, move/pace, move/schema and move/survey.
package clone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/access"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move/pace"
	"github.com/freehold-db/freehold/controlplane/move/schema"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/shardmap"
)

// Kind is the kind of operation that a clone is.
const Kind = provision.KindClone

// Options of the service. Zero values mean the default in brackets.
type Options struct {
	PGBinDir string       // directories with pg_dump and pg_restore, as a PATH; one for each major version [required]
	Streams  int          // tables or parts of tables copied at once [CPUs, 2 to 4]
	Bearable pace.Bounds  // what a server may show before a copy slows down
	Logger   *slog.Logger // [slog.Default()]
}

// Service is one replica's. All methods are safe for concurrent use.
type Service struct {
	store     *catalog.Store
	engine    *operation.Engine
	fleet     *shard.Fleet
	provision *provision.Service
	access    *access.Service
	opt       Options
	tools     *schema.Toolbox
	// during is called at points of a copy; tests of this package put something in.
	during func(point string) error
}

// New makes the service and registers its kind with the engine.
func New(store *catalog.Store, engine *operation.Engine, fleet *shard.Fleet, tenants *provision.Service, tenantAccess *access.Service, opt Options) *Service {
	if opt.Streams <= 0 {
		opt.Streams = min(max(runtime.NumCPU(), 2), 4)
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	s := &Service{store: store, engine: engine, fleet: fleet, provision: tenants, access: tenantAccess, opt: opt,
		tools: schema.NewToolbox(filepath.SplitList(opt.PGBinDir)...), during: func(string) error { return nil }}
	operation.Register(engine, s.kind())
	return s
}

type run = operation.Run[Doc]

// kind is the list of steps; it is the specification.
func (s *Service) kind() operation.Kind[Doc] {
	return operation.Kind[Doc]{Name: Kind, Long: true, Steps: []operation.Step[Doc]{
		{Name: "preflight", Title: "looking for what could break", Do: s.preflight, Check: s.checkPreflight, Timeout: 10 * time.Minute},
		{Name: "reserve", Title: "picking a shard", Do: s.reserve, Undo: s.unreserve, Check: s.checkReserve, Timeout: 10 * time.Minute},
		{Name: "copy", Title: "copying data", Do: s.copy, Check: s.checkCopy, Timeout: 24 * time.Hour},
		{Name: "assign", Title: "opening the new tenant", Do: s.assign, Check: s.checkAssign, NoReturn: true, Timeout: 10 * time.Minute},
	}}
}

// Request is what a caller asks for.
type Request struct {
	Source      shardmap.TenantID `json:"source"`
	Tenant      shardmap.TenantID `json:"tenant"` // the new one
	DisplayName string            `json:"display_name,omitempty"`
	// To is where the new tenant is to live [the source's shard].
	To shardmap.ShardID `json:"to,omitempty"`
	// SchemaOnly leaves the application's rows behind.
	SchemaOnly bool `json:"schema_only,omitempty"`
	// MaxRate bounds the copy, in bytes a second over the wire [as fast as the servers bear].
	MaxRate int64 `json:"max_rate,omitempty"`
	// Pace says whether the copy minds others who work on its servers [pace.Considerate].
	Pace pace.Mode `json:"pace,omitempty"`
}

// Doc is the operation's document: what was asked for, and what steps chose and learned.
type Doc struct {
	Request
	Shard shardmap.ShardID `json:"shard,omitempty"`
	// Database is the clone's. The inventory's keeper goes by it.
	Database string `json:"database,omitempty"`
	// Roles are the source's custom roles that the clone's database has.
	Roles   []string `json:"roles,omitempty"`
	Copies  int      `json:"copies,omitempty"`
	Receipt Receipt  `json:"receipt"`
}

// Clone starts a clone and records in the audit log who asked for it. The same
// actor and request key with the same request return the same operation.
// Errors: shardmap.ErrInvalidID, catalog.ErrNotFound (source or shard),
// ErrExists (the new ID is taken or was), ErrConflict (deleted source, shard
// takes no tenants), ErrNoRoom, ErrBusy, ErrKeyReused.
func (s *Service) Clone(ctx context.Context, req Request, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	spec := spec(req, actor, requestKey)
	if requestKey != "" { // a repeated request is answered as the first was, though the tenant is there now
		if _, err := s.engine.FindRequest(ctx, actor.Name, requestKey); err == nil {
			return s.engine.Start(ctx, spec)
		}
	}
	var op *operation.Operation
	err := s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		source, err := s.endpoints(ctx, tx, req)
		if err != nil {
			return err
		}
		if op, err = s.engine.StartTx(ctx, tx, spec); err != nil {
			return err
		}
		return s.store.AppendAudit(ctx, tx, catalog.AuditRecord{
			Actor: actor, Action: "tenant.clone", Object: "tenant/" + string(req.Tenant), Tenant: req.Tenant, Outcome: "accepted",
			Details: fmt.Appendf(nil, `{"operation":%q,"source":%q,"from":%q,"schema_only":%t}`, op.ID, req.Source, source.Placement.Shard, req.SchemaOnly),
		})
	})
	if err != nil {
		return nil, err
	}
	return op, nil
}

// DryRunClone says what Clone would do, step by step, and changes nothing. The first
// thing that would stop it is the error, beside the plan so far. Errors: as
// Clone's, and [*RefusedError].
func (s *Service) DryRunClone(ctx context.Context, req Request, actor catalog.Actor) ([]operation.StepPlan, error) {
	err := s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := s.endpoints(ctx, tx, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.engine.DryRun(ctx, spec(req, actor, ""))
}

func spec(req Request, actor catalog.Actor, requestKey string) operation.Spec {
	return operation.Spec{Kind: Kind, Tenant: req.Tenant, Actor: actor, RequestKey: requestKey, Data: Doc{Request: req}}
}

// endpoints reads the source and refuses what the catalog alone can tell.
func (s *Service) endpoints(ctx context.Context, tx pgx.Tx, req Request) (catalog.Tenant, error) {
	if _, err := shardmap.ParseTenantID(string(req.Tenant)); err != nil {
		return catalog.Tenant{}, err
	}
	source, err := s.store.GetTenant(ctx, req.Source)
	if err != nil {
		return source, err
	}
	if source.Placement.State == shardmap.Deleted {
		return source, fmt.Errorf("tenant %s is deleted: %w", req.Source, catalog.ErrConflict)
	}
	switch _, err := s.store.LockTenant(ctx, tx, req.Tenant); {
	case err == nil:
		return source, fmt.Errorf("tenant %s: %w", req.Tenant, catalog.ErrExists)
	case !errors.Is(err, catalog.ErrNotFound):
		return source, err
	}
	return source, s.admit(ctx, tx, req, home(req, source))
}

// admit refuses a shard that the clone may not be made on.
func (s *Service) admit(ctx context.Context, tx pgx.Tx, req Request, on shardmap.ShardID) error {
	needs, err := s.needs(ctx, req.Source)
	if err != nil {
		return err
	}
	return s.provision.Admit(ctx, tx, req.Tenant, on, needs)
}

// needs are those of the source that its contents have, wherever they are: where
// they may be. A group to keep apart from, a pin and a shard to itself are the source's own.
func (s *Service) needs(ctx context.Context, source shardmap.TenantID) (catalog.Needs, error) {
	n, err := s.store.GetNeeds(ctx, source)
	return catalog.Needs{Region: n.Region, Class: n.Class, Require: n.Require, Forbid: n.Forbid}, err
}

// home is the shard that the clone is made on.
func home(req Request, source catalog.Tenant) shardmap.ShardID {
	if req.To != "" {
		return req.To
	}
	return source.Placement.Shard
}

// permanent marks what the catalog refuses for good.
func permanent(err error) error {
	for _, final := range []error{catalog.ErrNotFound, catalog.ErrExists, catalog.ErrConflict, catalog.ErrNoRoom} {
		if errors.Is(err, final) {
			return operation.Permanent(err)
		}
	}
	return err
}

// RefusedError: preflight found what a clone must not begin with.
type RefusedError struct{ Findings []survey.Finding }

func (e *RefusedError) Error() string { return survey.Refusal("the clone", e.Findings) }

const (
	// applicationName tells our own sessions from the tenants'.
	applicationName = "freehold-clone"
	// maintenance is the database for what concerns a server.
	maintenance = "postgres"
)

func closeConn(conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = conn.Close(ctx) // the server notices either way
}
