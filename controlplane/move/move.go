// Package move moves a tenant's database online from one shard to another: an
// operation of steps that can be run again after a crash at any point, and
// until the flip of the placement taken back without a trace.
//
//	preflight  find everything that could break, before anything is touched
//	target     roles and an empty, fenced database at the target
//	copy       publication, slot, schema, rows, indexes; compared under one snapshot
//	stream     changes since the snapshot follow
//	catch-up   until a barrier passes quickly
//	cutover    hold, pause, fence, barrier, flip: the point of no return
//	open       the target takes logins, nodes and attached clients follow
//	verify     the frozen source against what the target was at the barrier
//	soak       if asked for: the source follows the target, so that a reverse can take the tenant back
//	clean      subscription, slot and publication go; the source is retired
//
// Truth in the cutover is the fence in the source's Postgres: it is up before
// the barrier is written, and comes down only if the placement's committed row
// still names the source. Holds at nodes and PAUSE at PgBouncers only spare
// clients errors and time. The recovery rule after a crash anywhere is one:
// read the placement's row; the shard it names is opened.
//
// Import law: of this module, move imports shardmap, internal packages, and
// controlplane/catalog, operation, publish and shard.
package move

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move/ddlguard"
	"github.com/freehold-db/freehold/controlplane/move/pace"
	"github.com/freehold-db/freehold/controlplane/move/schema"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/publish"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/failpoint"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/shardmap"
)

// Kind is the kind of operation that a move is.
const Kind = "tenant-move"

// DefaultMaxPause bounds the pause of a move that asks for no other.
const DefaultMaxPause = 500 * time.Millisecond

// Publisher is what a move needs of the bus (*publish.Publisher). Its failures
// cost time, never truth.
type Publisher interface {
	Flush(ctx context.Context, tenant shardmap.TenantID) error
	Hold(ctx context.Context, h shardmap.Hold, wait time.Duration) (acks []shardmap.HoldAck, expected int, err error)
	Release(ctx context.Context, r shardmap.Release) (publish.Reports, error)
}

// Options of the service. Zero values mean the default in brackets.
type Options struct {
	PGBinDir string        // directories with pg_dump and pg_restore, as a PATH; one for each major version [required]
	Grace    time.Duration // how long the source is kept after a move [10 min]
	Streams  int           // tables or parts of tables copied at once [CPUs, 2 to 4]
	Bearable pace.Bounds   // what servers may show before a copy slows down
	// SoakMaxWAL bounds the log, in bytes, that a server keeps for a place that
	// is kept in step; a soak that costs more is ended [4 GB].
	SoakMaxWAL int64
	SoakEvery  time.Duration // how often each soak is looked at [10 s]
	// GoneAfter is how long a shard that the tenant does not live on is waited
	// for, so that what is left of a move there can be taken away [30 min].
	GoneAfter time.Duration
	// Suits refuses, by catalog.ErrConflict, a shard that a tenant may not be on,
	// and keeps that so until tx ends [any shard will do].
	Suits  func(ctx context.Context, tx pgx.Tx, tenant shardmap.TenantID, to shardmap.ShardID) error
	Logger *slog.Logger // [slog.Default()]
}

// Service is one replica's. All methods are safe for concurrent use.
type Service struct {
	store     *catalog.Store
	engine    *operation.Engine
	fleet     *shard.Fleet
	publisher Publisher
	opt       Options
	tools     *schema.Toolbox
	// hit is failpoint.Hit; tests of this package put something else in.
	hit func(name string) error

	mu sync.Mutex
	// kept are what a cutover leaves for the steps after it in this process, by operation.
	kept map[string]*crew
}

// New makes the service and registers its kind with the engine.
func New(store *catalog.Store, engine *operation.Engine, fleet *shard.Fleet, publisher Publisher, opt Options) *Service {
	if opt.Grace <= 0 {
		opt.Grace = 10 * time.Minute
	}
	if opt.Streams <= 0 {
		opt.Streams = min(max(runtime.NumCPU(), 2), 4)
	}
	if opt.SoakMaxWAL <= 0 {
		opt.SoakMaxWAL = 4e9
	}
	if opt.SoakEvery <= 0 {
		opt.SoakEvery = 10 * time.Second
	}
	if opt.GoneAfter <= 0 {
		opt.GoneAfter = 30 * time.Minute
	}
	if opt.Suits == nil {
		opt.Suits = func(context.Context, pgx.Tx, shardmap.TenantID, shardmap.ShardID) error { return nil }
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	s := &Service{store: store, engine: engine, fleet: fleet, publisher: publisher, opt: opt,
		tools: schema.NewToolbox(filepath.SplitList(opt.PGBinDir)...), hit: failpoint.Hit, kept: map[string]*crew{}}
	operation.Register(engine, s.kind())
	operation.Register(engine, s.reverseKind())
	operation.Register(engine, s.completeKind())
	operation.Register(engine, s.verifyKind())
	return s
}

type run = operation.Run[Doc]

// kind is the list of steps; it is the specification.
func (s *Service) kind() operation.Kind[Doc] {
	return operation.Kind[Doc]{Name: Kind, Long: true, Steps: []operation.Step[Doc]{
		{Name: "preflight", Title: "looking for what could break", Do: s.preflight, Check: s.checkPreflight, Timeout: 10 * time.Minute},
		{Name: "target", Title: "making the database at the target", Do: s.target, Undo: s.undoTarget, Check: s.says("copies the tenant's roles to the target and makes an empty, fenced database there"), Timeout: 10 * time.Minute},
		{Name: "copy", Title: "copying data", Do: s.copy, Undo: s.undoCopy, Check: s.checkCopy, Timeout: 24 * time.Hour},
		{Name: "stream", Title: "following changes", Do: s.stream, Undo: s.undoStream, Check: s.says("subscribes the target to the changes made since the copy"), Timeout: 10 * time.Minute},
		{Name: "catch-up", Title: "catching up", Do: s.catchUp, Check: s.says("waits until changes arrive within a fraction of the pause budget"), Timeout: 24 * time.Hour},
		{Name: "cutover", Title: "cutting over", Do: s.cutover, Undo: s.undoCutover, Check: s.checkCutover, NoReturn: true, Timeout: 24 * time.Hour, MaxAttempts: 8},
		{Name: "open", Title: "opening the target", Do: s.open, Timeout: 10 * time.Minute},
		{Name: "verify", Title: "comparing both sides", Do: s.verify, Check: s.says("compares the frozen source with what the target was at the barrier"), Timeout: 24 * time.Hour},
		{Name: "soak", Title: "keeping the old place in step", Do: s.soak, Check: s.checkSoak, Timeout: 10 * time.Minute},
		{Name: "clean", Title: "cleaning up", Do: s.clean, Check: s.checkClean, Timeout: 10 * time.Minute},
	}}
}

// Request is what a caller asks for.
type Request struct {
	Tenant shardmap.TenantID `json:"tenant"`
	To     shardmap.ShardID  `json:"to"`
	// MaxPause bounds how long clients may be kept waiting [DefaultMaxPause].
	MaxPause time.Duration `json:"max_pause"`
	// DDL says what becomes of changes to the tenant's schema meanwhile [ddlguard.Refuse].
	DDL ddlguard.Mode `json:"ddl,omitempty"`
	// Soak is how long the source is kept in step after the move, so that the tenant can be taken back [not].
	Soak time.Duration `json:"soak,omitempty"`
	// MaxRate bounds the copy, in bytes a second over the wire [as fast as the servers bear].
	MaxRate int64 `json:"max_rate,omitempty"`
	// Pace says whether the copy minds others who work on its servers [pace.Considerate].
	Pace pace.Mode `json:"pace,omitempty"`
	// Manual has the move wait, caught up, until somebody says that it may cut
	// over ([Service.CutOver]); NotBefore is the time before which it does not by itself [any].
	Manual    bool      `json:"manual,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
}

// linkPrefix begins the name of every publication, slot and subscription of a move.
const linkPrefix = "freehold_move_"

// Doc is the operation's document: what was asked for, and what steps learned.
type Doc struct {
	Request
	// Link is the name of the publication, the slot and the subscription
	// between the two sides.
	Link string `json:"link,omitempty"`

	// From is the placement that the move starts from; preflight reads it.
	From shardmap.Placement `json:"from"`
	// Fingerprint is the source's schema as it was copied.
	Fingerprint string `json:"fingerprint,omitempty"`
	// AtEnd are statements for the target when the stream has ended.
	AtEnd []string `json:"at_end,omitempty"`
	// Copies counts the copies begun; one more is made when the schema changes.
	Copies int `json:"copies,omitempty"`
	// Again is why a copy is made again, until the target follows from it: empty
	// while what is there may be gone on with.
	Again string `json:"again,omitempty"`

	// Reverses is the move that is taken back; empty: this is none that takes back another.
	Reverses string `json:"reverses,omitempty"`
	// Back is the name of the link from the target back to the source; empty: no soak is asked for.
	Back string `json:"back,omitempty"`
	// BackFingerprint is the target's schema with that link, BackLSN the
	// position of its log at the barrier: what came later is a client's.
	BackFingerprint string `json:"back_fingerprint,omitempty"`
	BackLSN         string `json:"back_lsn,omitempty"`
	// Soaking: the source follows the target.
	Soaking bool `json:"soaking,omitempty"`
	// Away are shards that are waited for, and since when they are out of reach.
	Away map[shardmap.ShardID]time.Time `json:"away,omitempty"`

	Receipt Receipt `json:"receipt"`
}

func (d *Doc) database() string { return d.From.Database }

// Move starts an online move and records in the audit log who asked for it. The same actor and request key with the same
// arguments return the same operation.
// Errors: catalog.ErrNotFound (tenant or shard), ErrConflict (deleted tenant,
// already there, shard takes no tenants or may not have this one), ErrBusy, ErrKeyReused, [ErrSoaking].
func (s *Service) Move(ctx context.Context, req Request, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	spec := s.spec(req, actor, requestKey)
	if requestKey != "" { // a repeated request is answered as the first was, though the tenant is there now
		_, err := s.engine.FindRequest(ctx, actor.Name, requestKey)
		if err == nil {
			return s.engine.Start(ctx, spec)
		}
	}
	var op *operation.Operation
	from, _, err := s.endpoints(ctx, req)
	if err == nil {
		err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			if op, err = s.startTx(ctx, tx, spec, from.Shard, req.To); err != nil {
				return err
			}
			return s.opt.Suits(ctx, tx, req.Tenant, req.To)
		})
	}
	if err != nil {
		return nil, err
	}
	return op, nil
}

// MoveTx is Move as part of the caller's transaction, for a caller who knows
// that the tenant may be there.
func (s *Service) MoveTx(ctx context.Context, tx pgx.Tx, req Request, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	from, _, err := s.endpoints(ctx, req)
	if err != nil {
		return nil, err
	}
	return s.startTx(ctx, tx, s.spec(req, actor, requestKey), from.Shard, req.To)
}

func (s *Service) startTx(ctx context.Context, tx pgx.Tx, spec operation.Spec, from, to shardmap.ShardID) (*operation.Operation, error) {
	op, err := s.engine.StartTx(ctx, tx, spec)
	if err == nil {
		err = s.notSoaking(ctx, tx, spec.Tenant)
	}
	if err != nil {
		return nil, err
	}
	return op, s.store.AppendAudit(ctx, tx, catalog.AuditRecord{
		Actor: spec.Actor, Action: "tenant.move", Object: "tenant/" + string(spec.Tenant), Tenant: spec.Tenant, Outcome: "accepted",
		Details: fmt.Appendf(nil, `{"operation":%q,"from":%q,"to":%q}`, op.ID, from, to),
	})
}

// DryRun says what Move would do, step by step, and changes nothing. The first
// thing that would stop it is the error, beside the plan so far. Errors: as
// Move's, and [*RefusedError].
func (s *Service) DryRun(ctx context.Context, req Request, actor catalog.Actor) ([]operation.StepPlan, error) {
	_, _, err := s.endpoints(ctx, req)
	if err == nil {
		err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			if err := s.notSoaking(ctx, tx, req.Tenant); err != nil {
				return err
			}
			return s.opt.Suits(ctx, tx, req.Tenant, req.To)
		})
	}
	if err != nil {
		return nil, err
	}
	return s.engine.DryRun(ctx, s.spec(req, actor, ""))
}

func (s *Service) spec(req Request, actor catalog.Actor, requestKey string) operation.Spec {
	if req.MaxPause <= 0 {
		req.MaxPause = DefaultMaxPause
	}
	return operation.Spec{Kind: Kind, Tenant: req.Tenant, Actor: actor, RequestKey: requestKey, Data: Doc{Request: req}}
}

// endpoints reads both ends and refuses what the catalog alone can tell.
func (s *Service) endpoints(ctx context.Context, req Request) (shardmap.Placement, catalog.Shard, error) {
	id, to := req.Tenant, req.To
	t, err := s.store.GetTenant(ctx, id)
	if err != nil {
		return shardmap.Placement{}, catalog.Shard{}, err
	}
	target, err := s.store.GetShard(ctx, to)
	if err != nil {
		return t.Placement, target, err
	}
	switch {
	case t.Placement.State == shardmap.Deleted:
		err = fmt.Errorf("tenant %s is deleted: %w", id, catalog.ErrConflict)
	case t.Placement.Shard == to:
		err = fmt.Errorf("tenant %s is on shard %s already: %w", id, to, catalog.ErrConflict)
	case target.State != catalog.ShardActive:
		err = fmt.Errorf("shard %s is %s and takes no tenants; uncordon it or choose another: %w", to, target.State, catalog.ErrConflict)
	}
	return t.Placement, target, err
}

// linkName is letters, digits and underscores, at most 63, the same at every try.
func linkName(op *operation.Operation) string {
	return linkPrefix + strings.ReplaceAll(op.ID, "-", "")
}

// applicationName tells our own sessions from the tenant's.
const applicationName = "freehold-move"

// maintenance is the database for what concerns the server.
const maintenance = "postgres"

// connect opens an admin connection whose settings are its own, whatever the
// database's and the roles' are, and which reads tables but no view that poses as one.
func (s *Service) connect(ctx context.Context, on shardmap.ShardID, database string) (*pgx.Conn, error) {
	conn, err := s.connectPlain(ctx, on, database)
	if err != nil {
		return nil, err
	}
	if err := shard.TablesOnly(ctx, conn); err != nil {
		closeConn(conn)
		return nil, fmt.Errorf("shard %s: %w", on, err)
	}
	return conn, nil
}

// connectPlain is connect for statements that need views: REFRESH.
func (s *Service) connectPlain(ctx context.Context, on shardmap.ShardID, database string) (*pgx.Conn, error) {
	conn, err := s.fleet.Session(ctx, on, database, applicationName)
	if pg.Code(err) == pgerrcode.ObjectNotInPrerequisiteState && database != maintenance {
		err = s.unlessHalfDropped(ctx, on, database, err)
	}
	return conn, err
}

// unlessHalfDropped makes of the refusal by a database whose drop was broken
// off that of one that is not there: there is nothing in it to be cleaned, and
// whoever would make or drop it does so.
func (s *Service) unlessHalfDropped(ctx context.Context, on shardmap.ShardID, database string, refusal error) error {
	conn, err := s.connectPlain(ctx, on, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	half, err := shard.HalfDropped(ctx, conn, database)
	if err != nil {
		return err
	}
	if half {
		return &pgconn.PgError{Severity: "FATAL", Code: pgerrcode.InvalidCatalogName, Message: fmt.Sprintf("database %q is half dropped", database)}
	}
	return refusal
}

func closeConn(conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = conn.Close(ctx) // the server notices either way
}

// toolEnv is the environment of pg_dump and pg_restore: the login, and settings of their session.
func (s *Service) toolEnv(ctx context.Context, on shardmap.ShardID, database string, settings ...string) ([]string, error) {
	return s.fleet.ToolEnv(ctx, on, database, applicationName, settings...)
}

// says is a dry run's word on a step of which nothing can be found out before.
func (s *Service) says(what string) func(context.Context, *run) (string, error) {
	return func(context.Context, *run) (string, error) { return what, nil }
}

// RefusedError: preflight found what a move must not begin with.
type RefusedError struct{ Findings []survey.Finding }

func (e *RefusedError) Error() string { return survey.Refusal("the move", e.Findings) }
