package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freehold-db/freehold/controlplane/catalog"
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

// Options of an engine. Zero values mean the default in brackets.
type Options struct {
	Worker   string        // this replica's name, shown to people [host name and process ID]
	LeaseFor time.Duration // how long a claim lasts without renewal [5 s]
	// Workers is how many operations run at once, 2 at least [6]. A third of
	// them, and one at least, is never held by kinds that are [Kind.Long]: what is
	// done in a moment waits for nothing that takes hours.
	Workers  int
	Registry prometheus.Registerer // gets the engine's figures [none are shown]
	Logger   *slog.Logger          // [slog.Default()]
}

const (
	defaultLease    = 5 * time.Second
	defaultWorkers  = 6
	defaultTimeout  = time.Hour
	defaultAttempts = 5
)

func (o *Options) defaults() {
	if o.Worker == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown"
		}
		o.Worker = fmt.Sprintf("%s-%d", host, os.Getpid())
	}
	if o.LeaseFor <= 0 {
		o.LeaseFor = defaultLease
	}
	if o.Workers <= 0 {
		o.Workers = defaultWorkers
	}
	o.Workers = max(o.Workers, 2)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}

// Engine starts operations and, while Run runs, works on them.
type Engine struct {
	store *catalog.Store
	opt   Options
	kinds map[string]*kind
	wake  chan struct{} // there may be something to claim
	count counters

	mu     sync.Mutex
	claims map[string]*claim // by operation: what this engine is working on
}

// New makes an engine on the catalog. Register all kinds before Run.
func New(store *catalog.Store, opt Options) *Engine {
	opt.defaults()
	return &Engine{store: store, opt: opt, kinds: map[string]*kind{}, wake: make(chan struct{}, 1),
		count: newCounters(opt.Registry), claims: map[string]*claim{}}
}

// kind is a Kind[D] without its D.
type kind struct {
	name  string
	long  bool
	steps []step
	check func(data json.RawMessage) error // decodes into D
}

type step struct {
	StepInfo
	do, undo    func(ctx context.Context, t *try) error // undo may be nil
	plan        func(ctx context.Context, t *try) (string, error)
	timeout     time.Duration
	maxAttempts int
}

func (k *kind) index(name string) int {
	for i := range k.steps {
		if k.steps[i].Name == name {
			return i
		}
	}
	return -1
}

// undoFrom returns the greatest step at or before i that has something to undo, or -1.
func (k *kind) undoFrom(i int) int {
	for i >= 0 && k.steps[i].undo == nil {
		i--
	}
	return i
}

// Register makes a kind known. It panics on a kind without name or steps, a
// doubled name or two NoReturn steps: those are bugs in the program.
func Register[D any](e *Engine, k Kind[D]) {
	if k.Name == "" || len(k.Steps) == 0 || e.kinds[k.Name] != nil {
		panic(fmt.Sprintf("operation: kind %q: needs a name of its own and steps", k.Name))
	}
	erased := &kind{name: k.Name, long: k.Long, check: func(data json.RawMessage) error {
		var d D
		return json.Unmarshal(data, &d)
	}}
	noReturn := 0
	for _, s := range k.Steps {
		if s.Name == "" || s.Do == nil || erased.index(s.Name) >= 0 {
			panic(fmt.Sprintf("operation: kind %q: step %q: needs a name of its own and Do", k.Name, s.Name))
		}
		if s.NoReturn {
			noReturn++
		}
		erased.steps = append(erased.steps, erase(s))
	}
	if noReturn > 1 {
		panic(fmt.Sprintf("operation: kind %q: more than one point of no return", k.Name))
	}
	e.kinds[k.Name] = erased
}

func erase[D any](s Step[D]) step {
	out := step{
		StepInfo: StepInfo{Name: s.Name, Title: s.Title, NoReturn: s.NoReturn},
		do:       bind(s.Do),
		timeout:  s.Timeout, maxAttempts: s.MaxAttempts,
	}
	if s.Undo != nil {
		out.undo = bind(s.Undo)
	}
	if s.Check != nil {
		out.plan = func(ctx context.Context, t *try) (does string, err error) {
			err = bind(func(ctx context.Context, r *Run[D]) (err error) {
				does, err = s.Check(ctx, r)
				return err
			})(ctx, t)
			return does, err
		}
	}
	if out.timeout <= 0 {
		out.timeout = defaultTimeout
	}
	if out.maxAttempts <= 0 {
		out.maxAttempts = defaultAttempts
	}
	return out
}

// bind gives fn its typed document and takes back what fn made of it.
func bind[D any](fn func(ctx context.Context, r *Run[D]) error) func(ctx context.Context, t *try) error {
	return func(ctx context.Context, t *try) error {
		op := *t.claim.op
		r := &Run[D]{Op: &op, DryRun: t.dry, core: t}
		if err := json.Unmarshal(op.Data, &r.Data); err != nil {
			return Permanent(fmt.Errorf("document of operation %s: %w", op.ID, err))
		}
		done := fn(ctx, r)
		var wait *waitError
		if done != nil && (!errors.As(done, &wait) || wait.again == nil) {
			return done
		}
		data, err := json.Marshal(r.Data)
		if err != nil {
			return Permanent(fmt.Errorf("document of operation %s: %w", op.ID, err))
		}
		t.data = data
		return done
	}
}

// StepInfo describes one step of a kind.
type StepInfo struct {
	Name     string `json:"name"`
	Title    string `json:"title"`
	NoReturn bool   `json:"no_return"`
}

func (e *Engine) kind(name string) (*kind, error) {
	if k := e.kinds[name]; k != nil {
		return k, nil
	}
	return nil, fmt.Errorf("%w: %q", ErrUnknownKind, name)
}

// StepsOf lists the steps of a registered kind in order. Errors: ErrUnknownKind.
func (e *Engine) StepsOf(kind string) ([]StepInfo, error) {
	k, err := e.kind(kind)
	if err != nil {
		return nil, err
	}
	infos := make([]StepInfo, 0, len(k.steps))
	for i := range k.steps {
		infos = append(infos, k.steps[i].StepInfo)
	}
	return infos, nil
}

// StepPlan is what a dry run says of one step.
type StepPlan struct {
	StepInfo
	Does string `json:"does"` // what the step would do, in words
}

// DryRun walks the kind's steps with Check instead of Do and records nothing.
// The first Check that fails ends it: its error comes with the plan so far.
// What a Check puts into the document, the next one finds there.
func (e *Engine) DryRun(ctx context.Context, s Spec) ([]StepPlan, error) {
	k, data, err := e.document(s)
	if err != nil {
		return nil, err
	}
	op := &Operation{Kind: s.Kind, Tenant: s.Tenant, State: Pending, Data: data, CreatedBy: s.Actor.Name, Actor: s.Actor, Reason: s.Actor.Reason}
	plan := make([]StepPlan, 0, len(k.steps))
	for i := range k.steps {
		st := &k.steps[i]
		p := StepPlan{StepInfo: st.StepInfo, Does: st.Title}
		if st.plan != nil {
			op.Step = st.Name
			t := &try{claim: &claim{e: e, kind: k, op: op}, step: st, dry: true}
			err := guard(e.opt.Logger, func() (err error) { p.Does, err = st.plan(ctx, t); return err })
			if err != nil {
				return plan, fmt.Errorf("%s: %w", st.Name, err)
			}
			op.Data = t.data
		}
		plan = append(plan, p)
	}
	return plan, nil
}

// document encodes the spec's document and checks that the kind can read it.
func (e *Engine) document(s Spec) (*kind, json.RawMessage, error) {
	k, err := e.kind(s.Kind)
	if err != nil {
		return nil, nil, err
	}
	data, err := json.Marshal(s.Data)
	if err == nil {
		err = k.check(data)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("document of a %s: %w", s.Kind, err)
	}
	return k, data, nil
}
