package rebalance

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/placement"
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

// The run of a drain that is taken back goes on with the other shards that it empties.
func TestUndrainLeavesOtherDrains(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "s1", "s2", "s3")
	w.add("s1", 3)
	w.add("s2", 3)
	op, err := w.Drain(t.Context(), "s1", ann, "")
	require.NoError(t, err)
	joined, err := w.Drain(t.Context(), "s2", ann, "")
	require.NoError(t, err)
	require.Equal(t, op.ID, joined.ID)
	_, err = w.Undrain(t.Context(), "s1", ann)
	require.NoError(t, err)
	w.works()
	op, rec := w.ended(op.ID)
	require.Equal(t, operation.Done, op.State, op.Error)
	require.Equal(t, []shardmap.ShardID{"s2"}, rec.Drained)
	require.Zero(t, w.on()["s2"])
}

// A tenant that was sent to a shard before it was to be emptied is waited for.
func TestDrainWaitsForWhoIsOnTheWay(t *testing.T) {
	t.Parallel()
	c := &clock{at: time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)}
	w := newWorld(t, Options{Now: c.now}, "s1", "s2")
	w.add("s1", 1)
	late := catalog.Database{Shard: "s1", Name: "t_00000000000000ff", State: catalog.DatabaseBuilding, SchemaVersion: 1}
	pool := catalog.Database{Shard: "s1", Name: "t_00000000000000fe", State: catalog.DatabaseBuilding, SchemaVersion: 1} // nobody's
	creation, err := w.toys.engine.Start(t.Context(), operation.Spec{Kind: "busy", Data: struct{}{}})
	require.NoError(t, err)
	catalogtest.Tx(t, w.store, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `update operations set data = jsonb_build_object('database', $2::text) where id = $1`, creation.ID, late.Name)
		return errors.Join(err, w.store.InsertDatabase(ctx, tx, late), w.store.InsertDatabase(ctx, tx, pool))
	})
	w.works()
	op, err := w.Drain(t.Context(), "s1", ann, "")
	require.NoError(t, err)
	w.until(func() bool {
		return w.status(op.ID).Wait == "1 databases are still being made on shard s1, or moved there"
	}, "it does not wait")
	catalogtest.Tx(t, w.store, func(ctx context.Context, tx pgx.Tx) error {
		_, err := w.store.CreateTenant(ctx, tx, "late", "", late.Shard, late.Name)
		return err
	})
	c.pass(2 * comingFor)
	w.wake(op.ID)
	op, rec := w.ended(op.ID)
	require.Equal(t, operation.Done, op.State, op.Error)
	require.Equal(t, 2, rec.Moved)
	require.Equal(t, []shardmap.ShardID{"s1"}, rec.Drained)
	require.Equal(t, map[shardmap.ShardID]int{"s2": 2}, w.on())
}

// A drain is not handed to a run that is about to fail, nor taken for another request of the same key.
func TestDrainIsNotLeftToWhoEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "s1", "s2", "s3")
	w.add("s1", 4)
	_, err := w.toys.engine.Start(t.Context(), operation.Spec{Kind: "busy", Data: struct{}{}, Actor: ann, RequestKey: "key"})
	require.NoError(t, err)
	_, err = w.Drain(t.Context(), "s2", ann, "key")
	require.ErrorIs(t, err, catalog.ErrKeyReused)

	op := w.apply()
	_, err = w.store.Pool().Exec(t.Context(), `update operations set data = data || '{"ending": true}' where id = $1`, op.ID)
	require.NoError(t, err)
	_, err = w.Drain(t.Context(), "s2", ann, "")
	require.ErrorIs(t, err, ErrRunning)
	s, err := w.store.GetShard(t.Context(), "s2")
	require.NoError(t, err)
	require.Equal(t, catalog.ShardActive, s.State)
	w.works() // a replica that died then ends nothing
	op, _ = w.ended(op.ID)
	require.Equal(t, operation.Done, op.State, op.Error)
}

// Who waits for the coordinator leaves the one whose turn it is the connections that it needs.
func TestManyAtOnceGetTheirTurn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "s1", "s2")
	w.add("s1", 4)
	w.apply()
	few, err := catalog.Open(t.Context(), w.dsn+"&pool_max_conns=2")
	require.NoError(t, err)
	t.Cleanup(few.Close)
	_, replica := newReplica(few, Options{})
	var g errgroup.Group
	for range 8 {
		g.Go(func() error { _, err := replica.Pause(t.Context(), ann); return err })
	}
	require.NoError(t, g.Wait())
}

// Nobody is moved to where somebody to keep apart from lives, is on the way or is
// being made, though the plan did not know.
func TestMovesKeepApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "s1", "s2", "s3", "s4", "s5", "s6")
	a, b, c, gone := w.add("s1", 1)[0], w.add("s2", 1)[0], w.add("s3", 1)[0], w.add("s6", 1)[0]
	catalogtest.Tx(t, w.store, func(ctx context.Context, tx pgx.Tx) error {
		for _, id := range []shardmap.TenantID{a, b, gone} {
			if err := w.store.SetNeeds(ctx, tx, id, catalog.Needs{Apart: "banks"}, ann); err != nil {
				return err
			}
		}
		if err := w.store.SetNeeds(ctx, tx, c, catalog.Needs{Exclusive: true}, ann); err != nil {
			return err
		}
		_, err := w.store.SetTenantState(ctx, tx, gone, []shardmap.State{shardmap.Active}, shardmap.Deleted, new(time.Now().Add(time.Hour)))
		return err
	})
	_, err := w.toys.engine.Start(t.Context(), operation.Spec{Kind: move.Kind, Tenant: b, Data: toyDoc{Request: move.Request{Tenant: b, To: "s4"}}})
	require.NoError(t, err)
	refused := func(id shardmap.TenantID, to shardmap.ShardID) bool {
		err := w.store.Tx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
			return placement.MayMove(ctx, w.store, tx, id, to)
		})
		if err != nil {
			require.ErrorIs(t, err, catalog.ErrConflict)
		}
		return err != nil
	}
	require.True(t, refused(a, "s2"), "where one of its group lives")
	require.True(t, refused(a, "s3"), "where one lives alone")
	require.True(t, refused(a, "s4"), "where one of its group goes")
	require.False(t, refused(a, "s5"))
	require.False(t, refused(a, "s6"), "who is deleted")
	require.True(t, refused(c, "s1"), "it would not be alone")
	require.True(t, refused(c, "s4"), "it would not stay alone")
	require.False(t, refused(c, "s5"))
	require.False(t, refused(c, "s6"), "who is deleted")
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
