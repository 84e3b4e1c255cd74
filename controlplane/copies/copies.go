// Package copies makes sealed copies of tenants' databases, keeps them until
// they expire, and makes new tenants of them.
//
// A copy is of one moment, taken while the tenant is served, and sealed under
// the tenant's own key on its way out of the server (package internal/envelope):
// nothing of it is on a disk of ours in the clear but, for as long as the work
// takes, the dump of its schema in a private temporary directory. When the key
// is destroyed, all copies are noise, wherever they are (see package erase).
//
//	tenant-export  reserve → write → record
//	tenant-import  verify → reserve → fill → assign
//	tenant-key-rotate  rotate → rewrap
//
// Each is an operation of steps that can be run again; before its last a failure
// leaves neither a file nor a database behind.
//
// Import law: of this module, copies imports shardmap, internal packages, and
// controlplane/catalog, operation, shard, provision, access, and what package
// move is made of: move/data, move/pace, move/schema and move/survey.
package copies

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/access"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move/pace"
	"github.com/freehold-db/freehold/controlplane/move/schema"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// Kinds of operations.
const (
	KindExport = "tenant-export"
	KindImport = provision.KindImport
	KindRotate = "tenant-key-rotate"
)

// Options of the service. Zero values mean the default in brackets.
type Options struct {
	// Dir is where sealed files are kept; all replicas reach it. Empty: no copies are made or taken.
	Dir      string
	Keep     time.Duration // how long a copy is held, unless its maker says otherwise [7 days]
	PGBinDir string        // directories with pg_dump and pg_restore, as a PATH; one for each major version [required]
	Bearable pace.Bounds   // what a server may show before an export slows down
	Logger   *slog.Logger  // [slog.Default()]
}

// Bounds of how long a copy is held.
const (
	defaultKeep = 7 * 24 * time.Hour
	minKeep     = time.Minute
	maxKeep     = 10 * 365 * 24 * time.Hour
)

// Service is one replica's. All methods are safe for concurrent use.
type Service struct {
	store     *catalog.Store
	engine    *operation.Engine
	fleet     *shard.Fleet
	provision *provision.Service
	access    *access.Service
	keys      secret.Keys
	shelf     shelf
	opt       Options
	tools     *schema.Toolbox
	jobs      int // objects of a schema made at once
}

// New makes the service and registers its kinds with the engine.
func New(store *catalog.Store, engine *operation.Engine, fleet *shard.Fleet, tenants *provision.Service, tenantAccess *access.Service, keys secret.Keys, opt Options) *Service {
	if opt.Keep <= 0 {
		opt.Keep = defaultKeep
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	s := &Service{store: store, engine: engine, fleet: fleet, provision: tenants, access: tenantAccess, keys: keys, shelf: shelf{opt.Dir}, opt: opt,
		tools: schema.NewToolbox(filepath.SplitList(opt.PGBinDir)...), jobs: min(max(runtime.NumCPU(), 2), 4)}
	operation.Register(engine, s.exportKind())
	operation.Register(engine, s.importKind())
	operation.Register(engine, s.rotateKind())
	return s
}

// Errors a caller decides on.
var (
	// ErrInvalid is wrapped by every refusal of a malformed request; the text says what to change.
	ErrInvalid = errors.New("invalid request")
	// ErrForeign: the copy is of another fleet, whose keys are not here.
	ErrForeign = errors.New("the copy was made by another fleet")
	// ErrDamaged: the file is no whole sealed copy.
	ErrDamaged = errors.New("the copy is damaged")
)

// RefusedError: there is something in the tenant's database that a copy can't hold, or a shard lacks.
type RefusedError struct {
	What     string
	Findings []survey.Finding
}

func (e *RefusedError) Error() string { return survey.Refusal(e.What, e.Findings) }

const (
	// applicationName tells our own sessions from the tenants'.
	applicationName = "freehold-copy"
	// maintenance is the database for what concerns a server.
	maintenance = "postgres"
	// lockWait bounds the wait for a table that the tenant is changing.
	lockWait = 10 * time.Second
)

// permanent marks what no retry can mend.
func permanent(err error) error {
	for _, final := range []error{catalog.ErrNotFound, catalog.ErrExists, catalog.ErrConflict, catalog.ErrNoRoom,
		secret.ErrDestroyed, secret.ErrWrapped, ErrDamaged, ErrForeign, ErrNoShelf} {
		if errors.Is(err, final) {
			return operation.Permanent(err)
		}
	}
	var refused *RefusedError
	if errors.As(err, &refused) {
		return operation.Permanent(err)
	}
	return err
}

// Actions in the audit log.
var actions = map[string]string{KindExport: "tenant.export", KindImport: "tenant.import", KindRotate: "key.rotate"}

// record writes the audit record of a change to a tenant in the change's transaction.
func (s *Service) record(ctx context.Context, tx pgx.Tx, actor catalog.Actor, action string, tenant shardmap.TenantID, outcome, details string) error {
	return s.store.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: actor, Action: action, Object: "tenant/" + string(tenant),
		Tenant: tenant, Outcome: outcome, Details: []byte(details)})
}

// start starts an operation once admit allows it, in one transaction with its audit record.
func (s *Service) start(ctx context.Context, spec operation.Spec, admit func(ctx context.Context, tx pgx.Tx) error, details func(op *operation.Operation) string) (*operation.Operation, error) {
	if spec.RequestKey != "" { // a repeated request is answered as the first was
		if _, err := s.engine.FindRequest(ctx, spec.Actor.Name, spec.RequestKey); err == nil {
			return s.engine.Start(ctx, spec)
		}
	}
	var op *operation.Operation
	err := s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		if err := admit(ctx, tx); err != nil {
			return err
		}
		if op, err = s.engine.StartTx(ctx, tx, spec); err != nil {
			return err
		}
		return s.record(ctx, tx, spec.Actor, actions[spec.Kind], spec.Tenant, "accepted", details(op))
	})
	if err != nil {
		return nil, err
	}
	return op, nil
}

// Copies lists a tenant's copies, those that are gone too.
func (s *Service) Copies(ctx context.Context, f catalog.CopyFilter, p catalog.Page) ([]catalog.Copy, string, error) {
	return s.store.ListCopies(ctx, f, p)
}

// Get reads one copy. Errors: catalog.ErrNotFound.
func (s *Service) Get(ctx context.Context, id string) (catalog.Copy, error) {
	if _, err := uuid.Parse(id); err != nil {
		return catalog.Copy{}, fmt.Errorf("copy %.60q: %w", id, catalog.ErrNotFound)
	}
	return s.store.GetCopy(ctx, id)
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// word tells this worker's files from those of one that lost its lease.
func word(token int64) string { return strconv.FormatInt(token, 36) }

// Milliseconds of a part, for receipts.
func since(t time.Time) float64 { return float64(time.Since(t).Microseconds()) / 1000 }

func closeConn(conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = conn.Close(ctx) // the server notices either way
}
