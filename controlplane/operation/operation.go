// Package operation is the step engine: durable, resumable pieces of work of
// the control plane, made of named steps.
//
// A worker owns an operation by a lease in the catalog whose token only grows;
// everything it records is written in a transaction that checks the token, so
// that a worker that lost its lease can record nothing. A step may run more
// than once (its worker died before the journal had it) and must be written so.
// Before the point of no return a failure undoes the done steps in reverse
// order; after it the operation only goes forward, however long it takes.
//
// The end of every operation is written to the audit log in the transaction
// that ends it; only what [Engine.RecordDone] records is its caller's to write.
//
// Import law: of this module, operation imports shardmap, internal packages and controlplane/catalog only.
package operation

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/shardmap"
)

// State of an operation, and who moves it on.
type State string

const (
	Pending  State = "pending"  // waits for a worker (or for NextRun); a worker claims it
	Running  State = "running"  // a worker holds its lease
	Undoing  State = "undoing"  // failed or cancelled before the point of no return; steps are being undone
	Done     State = "done"     // final: succeeded
	Failed   State = "failed"   // final: undone after an error
	Canceled State = "canceled" // final: undone on request
)

// Final tells whether nothing will happen any more.
func (s State) Final() bool { return s == Done || s == Failed || s == Canceled }

// Operation is the durable record.
type Operation struct {
	ID                    string            `json:"id"` // UUIDv7
	Kind                  string            `json:"kind"`
	Tenant                shardmap.TenantID `json:"tenant,omitempty"`
	State                 State             `json:"state"`
	Step                  string            `json:"step,omitempty"` // the step under way or next
	PastNoReturn          bool              `json:"past_no_return"`
	CancelRequested       bool              `json:"cancel_requested"`
	Attempt               int               `json:"attempt"` // tries of the current step
	Data                  json.RawMessage   `json:"-"`       // the kind's document: spec and what steps learned
	Progress              Progress          `json:"progress"`
	Receipt               json.RawMessage   `json:"receipt,omitempty"` // set by the kind; final when Done
	Error                 string            `json:"error,omitempty"`   // last error, safe to show
	CreatedBy             string            `json:"created_by"`
	Actor                 catalog.Actor     `json:"-"` // who asked for it, in full; CreatedBy and Reason are of it
	Reason                string            `json:"reason,omitempty"`
	CreatedAt             time.Time         `json:"created_at"`
	StartedAt, FinishedAt *time.Time
	NextRun               time.Time `json:"next_run"`
	Worker                string    `json:"worker,omitempty"`
	// Asked is what was asked of it since it began, in its kind's own words ([Engine.AskTx]).
	Asked json.RawMessage `json:"asked,omitempty"`
}

// Progress is what a watcher sees while a step runs.
type Progress struct {
	Phase      string        `json:"phase,omitempty"`
	Percent    float64       `json:"percent"`
	BytesDone  int64         `json:"bytes_done,omitempty"`
	BytesTotal int64         `json:"bytes_total,omitempty"`
	Rate       float64       `json:"rate,omitempty"`    // bytes per second
	ETA        time.Duration `json:"eta,omitempty"`     // nanoseconds; 0: unknown
	Waiting    string        `json:"waiting,omitempty"` // what is waited for and why, for a person
}

// StepRecord is one line of the journal.
type StepRecord struct {
	Step       string     `json:"step"`
	Undo       bool       `json:"undo"`
	Attempt    int        `json:"attempt"`
	StartedAt  time.Time  `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`
	Error      string     `json:"error,omitempty"`
}

// Kind is one kind of operation over its document D (spec and state, JSON).
// Its list of steps is its specification.
type Kind[D any] struct {
	Name  string
	Steps []Step[D]
	// Long kinds hold a worker for minutes or hours. They leave some of a
	// replica's workers to the others, see [Options].
	Long bool
}

// Step is one named piece. Do and Undo may run again after a crash at any
// point and must then finish the job. What they put into the document is
// saved when the step is recorded as done.
type Step[D any] struct {
	Name  string
	Title string // present participle, for a person: "copying data"
	Do    func(ctx context.Context, r *Run[D]) error
	// Undo takes back what Do did, or part-did; nil if nothing is left behind.
	// Undo also runs for the step that was under way when the operation failed.
	Undo func(ctx context.Context, r *Run[D]) error
	// NoReturn marks the step in which the operation's effect is committed.
	// Such a step records itself through Run.Commit; once that has committed, the operation only goes forward.
	NoReturn bool
	// Check is what a dry run does instead of Do: it changes nothing, and
	// returns what Do would do in words. nil: only the title is reported.
	Check func(ctx context.Context, r *Run[D]) (string, error)
	// Timeout bounds one try; 0: 1 hour.
	Timeout time.Duration
	// MaxAttempts bounds retries of errors that are neither Permanent nor a
	// Wait, before the point of no return; 0: 5. After it there is no bound.
	MaxAttempts int
}

// Run is one worker's hold on one operation, given to steps.
type Run[D any] struct {
	Op     *Operation
	Data   D
	DryRun bool
	core
}

// core is what Run needs of the engine, untyped (see engine.go).
type core interface {
	// Report publishes progress; cheap, throttled, never fails the step.
	Report(p Progress)
	// SetReceipt sets the receipt that is stored with the next journal write.
	SetReceipt(v any) error
	// Token is the lease's fencing token: greater for every later worker.
	Token() int64
	// Held asks the catalog whether the operation still is this worker's. Errors: ErrLeaseLost.
	Held(ctx context.Context) error
	// MayGo tells whether somebody said that the operation may go on where it
	// waits for that ([Engine.GoAheadTx]), and the time by the catalog's clock.
	MayGo(ctx context.Context) (told bool, now time.Time, err error)
	// Asked is what was asked of the operation last, since it began ([Engine.AskTx]); nil: nothing.
	Asked(ctx context.Context) (json.RawMessage, error)
	// CancelRequested tells whether someone asked to cancel (polled with the lease renewal).
	CancelRequested() bool
	// Tx runs fn in a transaction that checks the lease's token, for what a step
	// changes in the catalog in its middle. Do changes nothing so once somebody asked
	// to cancel. After an error that leaves the outcome unknown the step must look
	// at what the catalog says. Errors: ErrLeaseLost, those of fn.
	Tx(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error
	commit(ctx context.Context, data any, fn func(ctx context.Context, tx pgx.Tx) error) error
	save(data any) error
}

// Save records the document and the receipt as they are, in the middle of a
// step: the step that runs again, at whatever worker, finds them. For steps
// that are long and can go on from where they were. Errors: ErrLeaseLost.
func (r *Run[D]) Save() error { return r.save(r.Data) }

// Commit runs fn in the transaction that checks the lease token and records
// the current step as done (and, for a NoReturn step, the point of no return)
// together with the document. Either all of it is committed or nothing.
// If the outcome is unknown (connection lost during COMMIT) it returns an
// error and the step is run again: Do must look at what the catalog says first.
func (r *Run[D]) Commit(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error {
	return r.commit(ctx, r.Data, fn)
}

// ErrLeaseLost: another worker owns the operation now; stop at once, touch nothing.
var ErrLeaseLost = errors.New("lease lost")

// Permanent marks an error that no retry can mend: before the point of no
// return the operation is undone at once.
func Permanent(err error) error { return &permanentError{err} }

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// Wait says that the step cannot go on now for a good reason (shown to people
// as Progress.Waiting) and is to be tried again after d; it does not use up attempts.
func Wait(d time.Duration, why string) error { return &waitError{after: d, why: why} }

// Again says that the step did what there is to do now, and is to go on after d:
// no worker is held meanwhile. The document is saved, p is what is seen until
// then, and tries that failed before are forgotten. For steps that look after
// something for hours and do little themselves; [Engine.WakeTx] has one go on at once.
func Again(d time.Duration, p Progress) error { return &waitError{after: d, why: p.Waiting, again: &p} }

type waitError struct {
	after time.Duration
	why   string
	again *Progress // nil: nothing was done
}

func (e *waitError) Error() string {
	if e.again != nil && e.why == "" {
		return "goes on soon"
	}
	return "waiting: " + e.why
}

// Spec is what a caller hands in to start an operation.
type Spec struct {
	Kind       string
	Tenant     shardmap.TenantID // at most one unfinished operation per tenant; empty: no such bound
	Data       any               // the kind's document
	Actor      catalog.Actor
	RequestKey string // idempotency: the same key and spec return the same operation
}
