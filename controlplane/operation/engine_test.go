package operation_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/leaktest"
	"github.com/freehold-db/freehold/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	t.Cleanup(cancel)
	return ctx
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

type doc struct {
	N     int
	Notes []string
}

func note(s string) func(context.Context, *operation.Run[doc]) error {
	return func(_ context.Context, r *operation.Run[doc]) error {
		r.Data.Notes = append(r.Data.Notes, s)
		return nil
	}
}

// start runs an engine with these steps until the test ends.
func start(t *testing.T, store *catalog.Store, steps ...operation.Step[doc]) *operation.Engine {
	t.Helper()
	// A lease that no busy machine loses, and so short that a request to cancel, seen when it is renewed, is seen soon.
	e := operation.New(store, operation.Options{LeaseFor: 6 * time.Second, Logger: quiet, Worker: "w1"})
	operation.Register(e, operation.Kind[doc]{Name: "test", Steps: steps})
	run(t, e)
	return e
}

func run(t *testing.T, e *operation.Engine) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	stop = func() {
		cancel()
		select {
		case err := <-done:
			require.NoError(t, err)
			done <- nil
		case <-time.After(time.Minute):
			t.Error("engine did not stop")
		}
	}
	t.Cleanup(stop)
	return stop
}

func until(t *testing.T, e *operation.Engine, id string, what func(*operation.Operation) bool) *operation.Operation {
	t.Helper()
	ctx := testContext(t)
	var op *operation.Operation
	require.Eventually(t, func() bool {
		var err error
		op, err = e.Get(ctx, id)
		require.NoError(t, err)
		return what(op)
	}, time.Minute, 5*time.Millisecond)
	return op
}

func ended(t *testing.T, e *operation.Engine, id string) *operation.Operation {
	t.Helper()
	return until(t, e, id, func(op *operation.Operation) bool { return op.State.Final() })
}

func begin(t *testing.T, e *operation.Engine, s operation.Spec) *operation.Operation {
	t.Helper()
	if s.Data == nil {
		s.Data = doc{}
	}
	s.Kind = "test"
	op, err := e.Start(testContext(t), s)
	require.NoError(t, err)
	return op
}

func notes(t *testing.T, op *operation.Operation) []string {
	t.Helper()
	var d doc
	require.NoError(t, json.Unmarshal(op.Data, &d))
	return d.Notes
}

func TestStepsRunInOrder(t *testing.T) {
	t.Parallel()
	e := start(t, catalogtest.Open(t),
		operation.Step[doc]{Name: "one", Title: "doing one", Do: note("one")},
		operation.Step[doc]{Name: "two", NoReturn: true, Do: func(ctx context.Context, r *operation.Run[doc]) error {
			r.Data.Notes = append(r.Data.Notes, "two")
			if err := r.SetReceipt(map[string]int{"bytes": 7}); err != nil {
				return err
			}
			return r.Commit(ctx, func(context.Context, pgx.Tx) error { return nil })
		}},
		operation.Step[doc]{Name: "three", Do: note("three")})
	op := ended(t, e, begin(t, e, operation.Spec{Actor: catalog.Actor{Name: "ann", Reason: "why not"}}).ID)
	require.Equal(t, operation.Done, op.State)
	require.True(t, op.PastNoReturn)
	require.Equal(t, []string{"one", "two", "three"}, notes(t, op))
	require.JSONEq(t, `{"bytes": 7}`, string(op.Receipt))
	require.Equal(t, "ann", op.CreatedBy)
	require.InDelta(t, 100, op.Progress.Percent, 0)
	steps, err := e.Steps(testContext(t), op.ID)
	require.NoError(t, err)
	require.Len(t, steps, 3)
	for _, s := range steps {
		require.NotNil(t, s.FinishedAt)
		require.Empty(t, s.Error)
		require.Equal(t, 1, s.Attempt)
	}
	_, err = e.Cancel(testContext(t), op.ID, catalog.Actor{Name: "bob"})
	require.ErrorIs(t, err, operation.ErrFinal)
}

func TestFailureUndoesInReverse(t *testing.T) {
	t.Parallel()
	var undoTries atomic.Int32
	tries := 0
	e := start(t, catalogtest.Open(t),
		operation.Step[doc]{Name: "one", Do: note("one"), Undo: note("undo one")},
		operation.Step[doc]{Name: "two", Do: note("two")},
		operation.Step[doc]{Name: "three", MaxAttempts: 2, Do: func(context.Context, *operation.Run[doc]) error {
			tries++
			panic("ouch")
		}, Undo: func(ctx context.Context, r *operation.Run[doc]) error {
			if undoTries.Add(1) == 1 {
				return operation.Permanent(errors.New("not yet"))
			}
			return note("undo three")(ctx, r)
		}},
		operation.Step[doc]{Name: "four", Do: note("four"), Undo: note("undo four")})
	op := ended(t, e, begin(t, e, operation.Spec{}).ID)
	require.Equal(t, operation.Failed, op.State)
	require.Contains(t, op.Error, "ouch")
	require.Equal(t, 2, tries)
	require.Equal(t, []string{"one", "two", "undo three", "undo one"}, notes(t, op))
}

func TestWaitIsShownAndUsesUpNoAttempt(t *testing.T) {
	t.Parallel()
	var open atomic.Bool
	e := start(t, catalogtest.Open(t), operation.Step[doc]{Name: "one", MaxAttempts: 1, Do: func(context.Context, *operation.Run[doc]) error {
		if !open.Load() {
			return operation.Wait(10*time.Millisecond, "the door is shut")
		}
		return nil
	}})
	op := begin(t, e, operation.Spec{})
	until(t, e, op.ID, func(op *operation.Operation) bool { return op.Progress.Waiting == "the door is shut" })
	open.Store(true)
	op = ended(t, e, op.ID)
	require.Equal(t, operation.Done, op.State)
	steps, err := e.Steps(testContext(t), op.ID)
	require.NoError(t, err)
	require.Len(t, steps, 1)
}

func TestAfterNoReturnOnlyForward(t *testing.T) {
	t.Parallel()
	var tries atomic.Int32
	e := start(t, catalogtest.Open(t),
		operation.Step[doc]{Name: "one", NoReturn: true, Do: note("one"), Undo: note("undo")},
		operation.Step[doc]{Name: "two", MaxAttempts: 1, Do: func(context.Context, *operation.Run[doc]) error {
			if tries.Add(1) < 4 {
				return operation.Permanent(errors.New("hard luck"))
			}
			return nil
		}, Undo: note("undo")})
	op := begin(t, e, operation.Spec{})
	until(t, e, op.ID, func(op *operation.Operation) bool { return op.Error == "hard luck" })
	_, err := e.Cancel(testContext(t), op.ID, catalog.Actor{Name: "bob"})
	require.ErrorIs(t, err, operation.ErrPastNoReturn)
	op = ended(t, e, op.ID)
	require.Equal(t, operation.Done, op.State)
	require.Equal(t, []string{"one"}, notes(t, op))
}

func TestCancel(t *testing.T) {
	t.Parallel()
	store := catalogtest.Open(t)
	entered := make(chan struct{}, 1)
	steps := []operation.Step[doc]{
		{Name: "one", Do: note("one"), Undo: note("undo one")},
		{Name: "two", Do: func(ctx context.Context, r *operation.Run[doc]) error {
			entered <- struct{}{}
			<-ctx.Done()
			if !r.CancelRequested() {
				return errors.New("who woke me?")
			}
			return ctx.Err()
		}, Undo: note("undo two")},
		{Name: "three", NoReturn: true, Do: note("three")},
	}
	idle := operation.New(store, operation.Options{})
	operation.Register(idle, operation.Kind[doc]{Name: "test", Steps: steps})
	op := begin(t, idle, operation.Spec{})
	op, err := idle.Cancel(testContext(t), op.ID, catalog.Actor{Name: "bob", Reason: "typo"})
	require.NoError(t, err)
	require.Equal(t, operation.Canceled, op.State)
	require.Equal(t, "canceled by bob: typo", op.Error)

	e := start(t, store, steps...)
	op = begin(t, e, operation.Spec{})
	<-entered
	asked := time.Now()
	_, err = idle.Cancel(testContext(t), op.ID, catalog.Actor{Name: "bob"})
	require.NoError(t, err)
	op = ended(t, e, op.ID)
	require.Equal(t, operation.Canceled, op.State)
	require.Equal(t, "canceled by bob", op.Error)
	require.Equal(t, []string{"one", "undo two", "undo one"}, notes(t, op))
	require.Less(t, time.Since(asked), 30*time.Second)
}

func TestRequestsAndTenants(t *testing.T) {
	t.Parallel()
	ctx, store := testContext(t), catalogtest.Open(t)
	e := operation.New(store, operation.Options{})
	operation.Register(e, operation.Kind[doc]{Name: "test", Steps: []operation.Step[doc]{{Name: "one", Do: note("one")}}})
	ann := catalog.Actor{Name: "ann"}
	first := begin(t, e, operation.Spec{Tenant: "acme", Actor: ann, RequestKey: "k", Data: doc{N: 1}})
	again := begin(t, e, operation.Spec{Tenant: "acme", Actor: ann, RequestKey: "k", Data: doc{N: 1}})
	require.Equal(t, first.ID, again.ID)
	found, err := e.FindRequest(ctx, "ann", "k")
	require.NoError(t, err)
	require.Equal(t, first.ID, found.ID)
	_, err = e.Start(ctx, operation.Spec{Kind: "test", Tenant: "acme", Actor: ann, RequestKey: "k", Data: doc{N: 2}})
	require.ErrorIs(t, err, catalog.ErrKeyReused)
	_, err = e.Start(ctx, operation.Spec{Kind: "test", Tenant: "acme", Actor: ann, Data: doc{}})
	require.ErrorIs(t, err, catalog.ErrBusy)
	require.ErrorContains(t, err, first.ID)
	_, err = e.Start(ctx, operation.Spec{Kind: "nope"})
	require.ErrorIs(t, err, operation.ErrUnknownKind)

	record := func(tenant string) (op *operation.Operation, err error) {
		err = store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			op, err = e.RecordDone(ctx, tx, operation.Spec{Kind: "test", Tenant: "other", Actor: ann, Data: doc{}, RequestKey: tenant}, map[string]int{"ms": 3})
			return err
		})
		return op, err
	}
	done, err := record("other")
	require.NoError(t, err)
	require.Equal(t, operation.Done, done.State)
	require.JSONEq(t, `{"ms": 3}`, string(done.Receipt))
	err = store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := e.RecordDone(ctx, tx, operation.Spec{Kind: "test", Tenant: "acme", Data: doc{}}, nil)
		return err
	})
	require.ErrorIs(t, err, catalog.ErrBusy)

	ops, next, err := e.List(ctx, operation.Filter{}, catalog.Page{Limit: 1})
	require.NoError(t, err)
	require.Equal(t, done.ID, ops[0].ID)
	ops, next, err = e.List(ctx, operation.Filter{}, catalog.Page{Limit: 1, After: next})
	require.NoError(t, err)
	require.Equal(t, first.ID, ops[0].ID)
	require.Empty(t, next)
	ops, _, err = e.List(ctx, operation.Filter{Unfinished: true, Tenant: "acme", States: []operation.State{operation.Pending}, Kind: "test"}, catalog.Page{})
	require.NoError(t, err)
	require.Len(t, ops, 1)
	_, err = e.Get(ctx, "no-uuid")
	require.ErrorIs(t, err, catalog.ErrNotFound)
	_, err = e.Cancel(ctx, "01980000-0000-7000-8000-000000000000", ann)
	require.ErrorIs(t, err, catalog.ErrNotFound)
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	ctx, store := testContext(t), catalogtest.Open(t)
	e := operation.New(store, operation.Options{})
	refuse := errors.New("no room")
	operation.Register(e, operation.Kind[doc]{Name: "test", Steps: []operation.Step[doc]{
		{Name: "one", Title: "doing one", Do: note("never"), Check: func(_ context.Context, r *operation.Run[doc]) (string, error) {
			r.Report(operation.Progress{})
			r.Data.N++
			return "would do one", nil
		}},
		{Name: "two", Title: "doing two", Do: note("never")},
		{Name: "three", Do: note("never"), Check: func(_ context.Context, r *operation.Run[doc]) (string, error) {
			if !r.DryRun || r.Data.N != 2 {
				return "", errors.New("the first check is forgotten")
			}
			return "", refuse
		}},
	}})
	plan, err := e.DryRun(ctx, operation.Spec{Kind: "test", Data: doc{N: 1}})
	require.ErrorIs(t, err, refuse)
	require.Len(t, plan, 2)
	require.Equal(t, "would do one", plan[0].Does)
	require.Equal(t, "doing two", plan[1].Does)
	ops, _, err := e.List(ctx, operation.Filter{}, catalog.Page{})
	require.NoError(t, err)
	require.Empty(t, ops)
}

func TestProgressIsThrottledAndTheLastIsKept(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	e := start(t, catalogtest.Open(t), operation.Step[doc]{Name: "one", Title: "copying", Do: func(ctx context.Context, r *operation.Run[doc]) error {
		for i := range 10_000 {
			r.Report(operation.Progress{BytesDone: int64(i)})
		}
		<-release
		r.Report(operation.Progress{BytesDone: 12345})
		return operation.Wait(time.Hour, "a rest")
	}})
	op := begin(t, e, operation.Spec{})
	op = until(t, e, op.ID, func(op *operation.Operation) bool { return op.Progress.BytesDone == 9999 })
	require.Equal(t, "copying", op.Progress.Phase)
	close(release)
	until(t, e, op.ID, func(op *operation.Operation) bool {
		return op.Progress.BytesDone == 12345 && op.Progress.Waiting == "a rest"
	})
}

// A worker that slept through its lease wakes up and can record nothing.
func TestPausedWorkerRecordsNothing(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	store, dsn := catalogtest.OpenDSN(t)
	proxy := catalogtest.NewProxy(t, dsn)
	sleepy, err := catalog.Open(ctx, proxy.DSN)
	require.NoError(t, err)
	t.Cleanup(sleepy.Close)

	asleep, wake, result := make(chan struct{}, 1), make(chan struct{}), make(chan error, 1)
	kind := func(do func(ctx context.Context, r *operation.Run[doc]) error) operation.Kind[doc] {
		return operation.Kind[doc]{Name: "test", Steps: []operation.Step[doc]{{Name: "one", NoReturn: true, Do: do}}}
	}
	old := operation.New(sleepy, operation.Options{LeaseFor: 2 * time.Second, Logger: quiet, Worker: "old"})
	operation.Register(old, kind(func(_ context.Context, r *operation.Run[doc]) error {
		asleep <- struct{}{}
		<-wake
		err := r.Commit(context.WithoutCancel(ctx), func(context.Context, pgx.Tx) error { return nil }) // as if it had not noticed
		result <- err
		return err
	}))
	run(t, old)
	op := begin(t, old, operation.Spec{})
	<-asleep
	proxy.Pause()

	young := operation.New(store, operation.Options{LeaseFor: 6 * time.Second, Logger: quiet, Worker: "young"})
	operation.Register(young, kind(func(ctx context.Context, r *operation.Run[doc]) error {
		r.Data.Notes = append(r.Data.Notes, "young")
		return r.Commit(ctx, func(context.Context, pgx.Tx) error { return nil })
	}))
	run(t, young)
	op = ended(t, young, op.ID)
	require.Equal(t, operation.Done, op.State)
	proxy.Resume()
	close(wake)
	require.ErrorIs(t, <-result, operation.ErrLeaseLost)
	op, err = young.Get(ctx, op.ID)
	require.NoError(t, err)
	require.Equal(t, []string{"young"}, notes(t, op))
}

func TestStopGivesTheClaimBack(t *testing.T) {
	t.Parallel()
	store := catalogtest.Open(t)
	entered := make(chan struct{}, 1)
	var second atomic.Bool
	kind := operation.Kind[doc]{Name: "test", Steps: []operation.Step[doc]{{Name: "one", MaxAttempts: 1, Do: func(ctx context.Context, _ *operation.Run[doc]) error {
		if second.Load() {
			return nil
		}
		entered <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}}}}
	// With a lease of an hour only a claim given back can be taken again.
	opt := operation.Options{LeaseFor: time.Hour, Logger: quiet}
	a := operation.New(store, opt)
	operation.Register(a, kind)
	stop := run(t, a)
	op := begin(t, a, operation.Spec{})
	<-entered
	stop()
	second.Store(true)
	b := operation.New(store, opt)
	operation.Register(b, kind)
	run(t, b)
	require.Equal(t, operation.Done, ended(t, b, op.ID).State)
}

// Not parallel: it looks at the goroutines of the whole process.
func TestRunLeavesNothingBehind(t *testing.T) {
	_, dsn := catalogtest.OpenDSN(t)
	before := goleak.IgnoreCurrent()
	store, err := catalog.Open(testContext(t), dsn)
	require.NoError(t, err)
	e := operation.New(store, operation.Options{Logger: quiet})
	operation.Register(e, operation.Kind[doc]{Name: "test", Steps: []operation.Step[doc]{
		{Name: "one", Do: func(_ context.Context, r *operation.Run[doc]) error {
			r.Report(operation.Progress{Percent: 50})
			return nil
		}},
		{Name: "two", Do: func(ctx context.Context, _ *operation.Run[doc]) error { <-ctx.Done(); return ctx.Err() }}}})
	ctx, stop := context.WithCancel(testContext(t))
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	op := begin(t, e, operation.Spec{})
	until(t, e, op.ID, func(op *operation.Operation) bool { return op.Step == "two" && op.Attempt == 1 })
	stop()
	require.NoError(t, <-done)
	op, err = e.Get(testContext(t), op.ID)
	require.NoError(t, err)
	require.Equal(t, operation.Pending, op.State)
	require.Empty(t, op.Worker)
	store.Close()
	leaktest.None(t, before)
}

func TestRegisterRefusesNonsense(t *testing.T) {
	t.Parallel()
	e := operation.New(nil, operation.Options{})
	ok := operation.Step[doc]{Name: "one", Do: note("")}
	for name, kind := range map[string]operation.Kind[doc]{
		"no name":          {Steps: []operation.Step[doc]{ok}},
		"no steps":         {Name: "x"},
		"doubled step":     {Name: "x", Steps: []operation.Step[doc]{ok, ok}},
		"no Do":            {Name: "x", Steps: []operation.Step[doc]{{Name: "one"}}},
		"two ways of none": {Name: "x", Steps: []operation.Step[doc]{{Name: "a", Do: ok.Do, NoReturn: true}, {Name: "b", Do: ok.Do, NoReturn: true}}},
	} {
		require.Panics(t, func() { operation.Register(e, kind) }, name)
	}
}
