package rebalance

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// wake has a run look now, though by the wall's clock nothing is due.
func (w *world) wake(id string) {
	w.t.Helper()
	catalogtest.Tx(w.t, w.store, func(ctx context.Context, tx pgx.Tx) error { return w.toys.engine.WakeTx(ctx, tx, id) })
}

// A drain waits for tenants that can be taken back or that another operation
// has, and says so; the others go meanwhile.
func TestDrainWaitsForWhoCantBeMovedNow(t *testing.T) {
	t.Parallel()
	c := &clock{at: time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)}
	w := newWorld(t, Options{Now: c.now}, "s1", "s2")
	ids := w.add("s1", 4)
	w.soaks[ids[0]] = true
	busy, err := w.toys.engine.Start(t.Context(), operation.Spec{Kind: "busy", Tenant: ids[1], Data: struct{}{}})
	require.NoError(t, err)
	w.works()
	op, err := w.Drain(t.Context(), "s1", ann, "")
	require.NoError(t, err)
	w.until(func() bool {
		r := w.status(op.ID)
		return r.Counts[catalog.MoveMoved].Moves == 2 && len(r.Held) == 2 && r.Operation.State == operation.Pending
	}, "the others don't go")
	r := w.status(op.ID)
	require.Contains(t, r.Held[ids[0]].Why, "it can still be taken back")
	require.Contains(t, r.Held[ids[1]].Why, "another operation has it")
	require.NotEmpty(t, r.Operation.Progress.Waiting)

	// Far beyond the patience that a run has for what need not be.
	c.pass(2 * patience)
	w.wake(op.ID)
	w.until(func() bool { r := w.status(op.ID); return r.Held[ids[0]].Until.After(c.now()) }, "it does not look again")
	require.False(t, w.status(op.ID).Operation.State.Final())
	w.mu.Lock()
	clear(w.soaks)
	w.mu.Unlock()
	_, err = w.toys.engine.Cancel(t.Context(), busy.ID, ann)
	require.NoError(t, err)
	c.pass(2 * soakFor)
	w.wake(op.ID)
	op, rec := w.ended(op.ID)
	require.Equal(t, operation.Done, op.State, op.Error)
	require.Equal(t, []shardmap.ShardID{"s1"}, rec.Drained)
	require.Equal(t, map[shardmap.ShardID]int{"s2": 4}, w.on())
}

// A run that is under way empties a shard too; taking the drain back leaves it to its plan.
func TestRunTakesADrainOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "s1", "s2", "s3")
	w.add("s1", 6)
	w.add("s3", 3)
	gate := make(chan struct{})
	w.gate = gate
	w.works()
	op := w.apply()
	w.until(func() bool { return len(w.status(op.ID).Running) > 0 }, "nothing begins")
	joined, err := w.Drain(t.Context(), "s3", ann, "")
	require.NoError(t, err)
	require.Equal(t, op.ID, joined.ID)
	close(gate)
	op, rec := w.ended(op.ID)
	require.Equal(t, operation.Done, op.State, op.Error)
	require.Equal(t, []shardmap.ShardID{"s3"}, rec.Drained)
	on := w.on()
	require.Zero(t, on["s3"])
	require.InDelta(t, 4.5, on["s1"], 0.6)
}

// Taken back, a shard is what it was before, its run is cancelled, and what was begun ends.
func TestUndrain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "s1", "s2")
	w.add("s1", 4)
	catalogtest.Tx(t, w.store, func(ctx context.Context, tx pgx.Tx) error {
		_, err := w.store.SetShardState(ctx, tx, "s1", []catalog.ShardState{catalog.ShardActive}, catalog.ShardCordoned)
		return err
	})
	gate := make(chan struct{})
	w.gate = gate
	w.works()
	op, err := w.Drain(t.Context(), "s1", ann, "")
	require.NoError(t, err)
	w.until(func() bool { return len(w.status(op.ID).Running) > 0 }, "nothing begins")
	s, err := w.Undrain(t.Context(), "s1", ann)
	require.NoError(t, err)
	require.Equal(t, catalog.ShardCordoned, s.State)
	close(gate)
	op, rec := w.ended(op.ID)
	require.Equal(t, operation.Canceled, op.State)
	require.Equal(t, 1, rec.Moved)
	require.Equal(t, map[shardmap.ShardID]int{"s1": 3, "s2": 1}, w.on())
	_, err = w.Undrain(t.Context(), "s1", ann)
	require.ErrorIs(t, err, catalog.ErrConflict)
}

// Without room a drain is refused with the constraint that stands against it, and nothing is changed.
func TestDrainWithoutRoomIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "s1", "s2", "s3")
	ids := w.add("s1", 2)
	catalogtest.Tx(t, w.store, func(ctx context.Context, tx pgx.Tx) error {
		return w.store.SetNeeds(ctx, tx, ids[0], catalog.Needs{Pinned: true}, ann)
	})
	_, err := w.Drain(t.Context(), "s1", ann, "")
	require.ErrorIs(t, err, balance.ErrInfeasible)
	require.ErrorContains(t, err, "shard s1 can't be drained: infeasible: t001: pinned")
	s, err := w.store.GetShard(t.Context(), "s1")
	require.NoError(t, err)
	require.Equal(t, catalog.ShardActive, s.State)
	_, _, err = w.current(t.Context())
	require.ErrorIs(t, err, ErrNoRun)
	_, err = w.Drain(t.Context(), "s9", ann, "")
	require.ErrorIs(t, err, catalog.ErrNotFound)
}

// Quiet hours hold a run, which says so, and goes on after them.
func TestRunWaitsForQuietHoursToEnd(t *testing.T) {
	t.Parallel()
	c := &clock{at: time.Date(2026, 1, 5, 5, 0, 0, 0, time.UTC)}
	w := newWorld(t, Options{Now: c.now}, "s1", "s2")
	w.add("s1", 4)
	catalogtest.Tx(t, w.store, func(ctx context.Context, tx pgx.Tx) error {
		_, err := w.store.SetPlacementPolicy(ctx, tx, `policy: {quiet: ["22:00-06:00"]}`, ann)
		return err
	})
	w.works()
	op := w.apply()
	w.until(func() bool { return w.status(op.ID).Wait == "quiet hours (until 2026-01-05T06:00:00Z)" }, "it does not wait")
	c.pass(59 * time.Minute)
	w.wake(op.ID)
	w.until(func() bool { return w.status(op.ID).LookAt.Equal(time.Date(2026, 1, 5, 5, 59, 30, 0, time.UTC)) }, "it does not look")
	require.Zero(t, w.moves())
	c.pass(time.Minute)
	w.wake(op.ID)
	op, _ = w.ended(op.ID)
	require.Equal(t, operation.Done, op.State)
}
