// Package rebalance is the fleet's side of package balance: the policy as it is
// kept, plans for the running fleet and their carrying out, and explanations.
//
// Import law: of this module, rebalance imports shardmap, internal packages, and
// controlplane/catalog, operation, placement, usage, balance and what is below it, and move.
package rebalance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/placement"
	"github.com/freehold-db/freehold/controlplane/usage"
	"github.com/freehold-db/freehold/shardmap"
)

// Errors a caller decides on. Their texts are for people.
var (
	// ErrInvalid is wrapped by every refusal of a malformed request; the text says what to change.
	ErrInvalid = errors.New("invalid request")
	// ErrChanged: the policy is not at the version that the change was made for.
	ErrChanged = errors.New("changed meanwhile")
	// ErrUnknown: a policy names a shard or tenant that is not there.
	ErrUnknown = errors.New("not in the fleet")
	// ErrImpossible: the fleet cannot keep the policy; the text says what stands against it.
	ErrImpossible = errors.New("impossible policy")
)

// Options of the service. Zero values mean the default in brackets.
type Options struct {
	Now    func() time.Time // [time.Now]
	Logger *slog.Logger     // [slog.Default()]
	// Bearable is what shards may show before a run begins no more moves there.
	Bearable usage.Bounds
	// Tick is how often a run looks whether its moves have ended [1 s], AutoEvery
	// how often auto mode looks for something to do [30 s].
	Tick, AutoEvery time.Duration
	Registry        prometheus.Registerer // gets the figures of runs [none are shown]
}

// Moves is what the service needs of moving (*move.Service).
type Moves interface {
	MoveTx(ctx context.Context, tx pgx.Tx, req move.Request, actor catalog.Actor, requestKey string) (*operation.Operation, error)
}

// Service is one replica's. Any number may run on one catalog. All methods are safe for concurrent use.
type Service struct {
	store  *catalog.Store
	engine *operation.Engine
	moves  Moves
	now    func() time.Time
	log    *slog.Logger
	whole  chan struct{} // places of those who read and plan the whole fleet
	// control is the place of who waits for the coordinator's row.
	control chan struct{}
	// edits is the place of who changes what is declared.
	edits chan struct{}

	bearable        usage.Bounds
	tick, autoEvery time.Duration
	count           counters
}

// atOnce bounds those who read and plan the whole fleet at the same time.
const atOnce = 2

// New makes the service and registers its kind with the engine.
func New(store *catalog.Store, engine *operation.Engine, moves Moves, opt Options) *Service {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	if opt.Tick <= 0 {
		opt.Tick = time.Second
	}
	if opt.AutoEvery <= 0 {
		opt.AutoEvery = 30 * time.Second
	}
	s := &Service{store: store, engine: engine, moves: moves, now: opt.Now, log: opt.Logger, whole: make(chan struct{}, atOnce), control: make(chan struct{}, 1), edits: make(chan struct{}, 1),
		bearable: opt.Bearable, tick: opt.Tick, autoEvery: opt.AutoEvery, count: newCounters(opt.Registry)}
	operation.Register(engine, s.runKind())
	return s
}

// Snapshot reads the whole fleet and its policy, as of one moment.
func (s *Service) Snapshot(ctx context.Context) (*placement.Snapshot, error) {
	return placement.Read(ctx, s.store)
}

// record writes the audit record of a change in its transaction.
func (s *Service) record(ctx context.Context, tx pgx.Tx, actor catalog.Actor, action, object string, tenant shardmap.TenantID, details any) error {
	text, err := json.Marshal(details)
	if err != nil {
		return fmt.Errorf("audit record %s: %w", action, err)
	}
	return s.store.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: actor, Action: action, Object: object, Tenant: tenant, Outcome: "ok", Details: text})
}
