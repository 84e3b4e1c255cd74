package operation

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/shardmap"
)

// Errors a caller decides on, beside those of catalog (ErrBusy: the tenant has
// an unfinished operation; ErrKeyReused; ErrNotFound; ErrUnavailable).
var (
	// ErrUnknownKind: no such kind is registered here.
	ErrUnknownKind = errors.New("unknown kind of operation")
	// ErrPastNoReturn: the operation's effect is committed; it can't be cancelled any more.
	ErrPastNoReturn = errors.New("operation is past its point of no return")
	// ErrFinal: the operation has ended.
	ErrFinal = errors.New("operation has ended")
)

var errTODO = errors.New("not written yet")

// Options of an engine. Zero values mean the default in brackets.
type Options struct {
	Worker   string        // this replica's name, shown to people [host name and process ID]
	LeaseFor time.Duration // how long a claim lasts without renewal [5 s]
	Workers  int           // operations run at once [4]
	Logger   *slog.Logger  // [slog.Default()]
}

// Engine starts operations and, while Run runs, works on them.
type Engine struct{}

// New makes an engine on the catalog. Register all kinds before Run.
func New(store *catalog.Store, opt Options) *Engine { return &Engine{} }

// Register makes a kind known. It panics on a kind without name or steps, a
// doubled name or two NoReturn steps: those are bugs in the program.
func Register[D any](e *Engine, k Kind[D]) {}

// Start records a new operation; a worker takes it up at once.
// Errors: ErrUnknownKind, catalog.ErrBusy, catalog.ErrKeyReused.
func (e *Engine) Start(ctx context.Context, s Spec) (*Operation, error) { return nil, errTODO }

// StartTx is Start as part of the caller's transaction.
func (e *Engine) StartTx(ctx context.Context, tx pgx.Tx, s Spec) (*Operation, error) {
	return nil, errTODO
}

// RecordDone records, as part of the caller's transaction, an operation whose
// whole work is done in that transaction; it is Done from the start.
// Errors as Start's (ErrBusy too: it must not pass by an unfinished operation of the tenant).
func (e *Engine) RecordDone(ctx context.Context, tx pgx.Tx, s Spec, receipt any) (*Operation, error) {
	return nil, errTODO
}

// FindRequest returns the operation that actor started with this request key,
// or catalog.ErrNotFound. For callers that must look before they do synchronous work.
func (e *Engine) FindRequest(ctx context.Context, actor, key string) (*Operation, error) {
	return nil, errTODO
}

// Get reads one operation. Errors: catalog.ErrNotFound (also for an ID that is no UUID).
func (e *Engine) Get(ctx context.Context, id string) (*Operation, error) { return nil, errTODO }

// Filter narrows a list; zero fields don't.
type Filter struct {
	Kind       string
	Tenant     shardmap.TenantID
	States     []State
	Unfinished bool // only those that have not ended
}

// List lists newest first. next is the cursor of the following page, empty after the last.
func (e *Engine) List(ctx context.Context, f Filter, p catalog.Page) (ops []*Operation, next string, err error) {
	return nil, "", errTODO
}

// Steps reads the journal, oldest first. Errors: catalog.ErrNotFound.
func (e *Engine) Steps(ctx context.Context, id string) ([]StepRecord, error) { return nil, errTODO }

// StepInfo describes one step of a kind.
type StepInfo struct {
	Name     string `json:"name"`
	Title    string `json:"title"`
	NoReturn bool   `json:"no_return"`
}

// StepsOf lists the steps of a registered kind in order. Errors: ErrUnknownKind.
func (e *Engine) StepsOf(kind string) ([]StepInfo, error) { return nil, errTODO }

// Cancel asks to end an operation. One that no worker took up yet is Canceled
// at once, else its worker stops the step and undoes what was done.
// Errors: ErrPastNoReturn, ErrFinal, catalog.ErrNotFound.
func (e *Engine) Cancel(ctx context.Context, id string, actor catalog.Actor) (*Operation, error) {
	return nil, errTODO
}

// CancelTx is Cancel as part of the caller's transaction.
func (e *Engine) CancelTx(ctx context.Context, tx pgx.Tx, id string, actor catalog.Actor) (*Operation, error) {
	return nil, errTODO
}

// StepPlan is what a dry run says of one step.
type StepPlan struct {
	StepInfo
	Does string `json:"does"` // what the step would do, in words
}

// DryRun walks the kind's steps with Check instead of Do and records nothing.
// The first Check that fails ends it: its error comes with the plan so far.
func (e *Engine) DryRun(ctx context.Context, s Spec) ([]StepPlan, error) { return nil, errTODO }

// Run works on operations until ctx ends, then stops the steps under way (they
// are taken up again by whoever claims them next), gives the leases back and returns nil.
func (e *Engine) Run(ctx context.Context) error { return errTODO }
