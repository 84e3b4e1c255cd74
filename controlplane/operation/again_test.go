package operation_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/operation"
)

// A step that goes on later keeps its document and what is seen of it, holds no
// worker, forgets its failures, and goes on when it is woken or cancelled.
func TestAgainRestsWithoutAWorker(t *testing.T) {
	t.Parallel()
	store := catalogtest.Open(t)
	e := operation.New(store, operation.Options{LeaseFor: 6 * time.Second, Logger: quiet, Workers: 2})
	operation.Register(e, operation.Kind[doc]{Name: "test", Steps: []operation.Step[doc]{{Name: "one", Title: "doing", MaxAttempts: 2,
		Do: func(_ context.Context, r *operation.Run[doc]) error {
			if r.Data.N == 0 { // one that passes by
				return nil
			}
			r.Data.N++
			if r.Data.N%2 == 0 && r.Op.Attempt == 1 {
				return errors.New("a mishap") // and the document is as it was
			}
			return operation.Again(time.Hour, operation.Progress{Percent: float64(r.Data.N), Waiting: "the sun"})
		},
		Undo: func(_ context.Context, r *operation.Run[doc]) error {
			if r.Data.Notes = append(r.Data.Notes, "undone"); len(r.Data.Notes) < 3 {
				return operation.Again(time.Millisecond, operation.Progress{})
			}
			return nil
		}}}})
	run(t, e)
	n := func(op *operation.Operation) int {
		var d doc
		require.NoError(t, json.Unmarshal(op.Data, &d))
		return d.N
	}
	resting := make([]*operation.Operation, 4)
	for i := range resting {
		resting[i] = begin(t, e, operation.Spec{Data: doc{N: 1}})
	}
	for _, op := range resting {
		op = until(t, e, op.ID, func(op *operation.Operation) bool { return n(op) == 2 })
		require.Equal(t, operation.Pending, op.State)
		require.Equal(t, operation.Progress{Phase: "doing", Percent: 2, Waiting: "the sun"}, op.Progress)
		require.Empty(t, op.Worker)
		require.Empty(t, op.Error)
		require.Zero(t, op.Attempt)
	}
	require.Equal(t, operation.Done, ended(t, e, begin(t, e, operation.Spec{}).ID).State)

	// Each round's failure is one of the round: more rounds than attempts are no matter.
	for round := 3; round < 8; round++ {
		catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error { return e.WakeTx(ctx, tx, resting[0].ID) })
		until(t, e, resting[0].ID, func(op *operation.Operation) bool { return n(op) == round && op.State == operation.Pending })
	}
	_, err := e.Cancel(testContext(t), resting[0].ID, catalog.Actor{Name: "bob"})
	require.NoError(t, err)
	op := ended(t, e, resting[0].ID)
	require.Equal(t, operation.Canceled, op.State)
	require.Equal(t, []string{"undone", "undone", "undone"}, notes(t, op))
}

// Long kinds hold no more than their part of the workers, and the others are
// done meanwhile; when a long one ends, the next takes its place.
func TestLongKindsLeaveWorkers(t *testing.T) {
	t.Parallel()
	const workers, most = 3, 2
	e := operation.New(catalogtest.Open(t), operation.Options{LeaseFor: 6 * time.Second, Logger: quiet, Workers: workers})
	var mu sync.Mutex
	running, peak := 0, 0
	release := make(chan struct{})
	operation.Register(e, operation.Kind[doc]{Name: "long", Long: true, Steps: []operation.Step[doc]{{Name: "one",
		Do: func(ctx context.Context, _ *operation.Run[doc]) error {
			mu.Lock()
			running++
			peak = max(peak, running)
			mu.Unlock()
			defer func() { mu.Lock(); running--; mu.Unlock() }()
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}}})
	operation.Register(e, operation.Kind[doc]{Name: "test", Steps: []operation.Step[doc]{{Name: "one", Do: note("one")}}})
	run(t, e)
	var long []*operation.Operation
	for i := range 5 {
		op, err := e.Start(testContext(t), operation.Spec{Kind: "long", Data: doc{N: i}})
		require.NoError(t, err)
		long = append(long, op)
	}
	require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return running == most }, time.Minute, 5*time.Millisecond)
	for i := range 3 {
		require.Equal(t, operation.Done, ended(t, e, begin(t, e, operation.Spec{Data: doc{N: i}}).ID).State, fmt.Sprint(i))
	}
	close(release)
	for _, op := range long {
		require.Equal(t, operation.Done, ended(t, e, op.ID).State)
	}
	require.Equal(t, most, peak)
}

// Who lost the lease changes nothing in a step's own transaction either.
func TestTxIsTheHoldersOnly(t *testing.T) {
	t.Parallel()
	store := catalogtest.Open(t)
	_, err := store.Pool().Exec(testContext(t), `create table marks (n int)`)
	require.NoError(t, err)
	mark := func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `insert into marks values (1)`)
		return err
	}
	type outcome struct {
		late  error
		marks int
	}
	said := make(chan outcome, 1)
	e := start(t, store, operation.Step[doc]{Name: "one", Do: func(ctx context.Context, r *operation.Run[doc]) error {
		if err := r.Tx(ctx, mark); err != nil {
			return err
		}
		if err := r.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return errors.Join(mark(ctx, tx), errors.New("no")) }); err == nil {
			return errors.New("an error of the transaction's own is lost")
		}
		if _, err := store.Pool().Exec(ctx, `update operations set token = token + 1 where id = $1`, r.Op.ID); err != nil {
			return err
		}
		o := outcome{late: r.Tx(context.WithoutCancel(ctx), mark)}
		if err := store.Pool().QueryRow(context.WithoutCancel(ctx), `select count(*) from marks`).Scan(&o.marks); err != nil {
			return err
		}
		select {
		case said <- o:
		default: // it runs again later
		}
		return operation.ErrLeaseLost
	}})
	begin(t, e, operation.Spec{})
	select {
	case o := <-said:
		require.ErrorIs(t, o.late, operation.ErrLeaseLost)
		require.Equal(t, 1, o.marks)
	case <-time.After(time.Minute):
		t.Fatal("the step was not run")
	}
}
