package rebalance

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

// A plan is carried out: the fleet is even, each tenant was moved once, a second
// plan has nothing to do, and the plan can't be applied twice.
func TestPlanIsCarriedOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "s1", "s2", "s3")
	w.add("s1", 12)
	w.works()
	plan, err := w.Plan(t.Context(), Ask{}, ann)
	require.NoError(t, err)
	op, err := w.ApplyPlan(t.Context(), plan.ID, ann, "key")
	require.NoError(t, err)
	again, err := w.ApplyPlan(t.Context(), plan.ID, ann, "key")
	require.NoError(t, err)
	require.Equal(t, op.ID, again.ID)

	op, rec := w.ended(op.ID)
	require.Equal(t, operation.Done, op.State, op.Error)
	require.Equal(t, map[shardmap.ShardID]int{"s1": 4, "s2": 4, "s3": 4}, w.on())
	require.Equal(t, 8, rec.Moved)
	require.Equal(t, 8, w.moves())
	require.InDelta(t, 100, op.Progress.Percent, 0)
	moves, err := w.Moves(t.Context(), op.ID, 0, 100)
	require.NoError(t, err)
	require.Len(t, moves, 8)
	for i, m := range moves {
		require.Equal(t, i+1, m.N)
		require.Equal(t, catalog.MoveMoved, m.State)
		require.NotNil(t, m.EndedAt)
	}

	_, err = w.ApplyPlan(t.Context(), plan.ID, ann, "")
	require.ErrorIs(t, err, ErrStale)
	op, rec = w.ended(w.apply().ID)
	require.Equal(t, operation.Done, op.State)
	require.Zero(t, rec.Moved)
}

// A plan for another state of the fleet is refused with what differs, and nothing is changed.
func TestStalePlanIsRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(w *world, ctx context.Context, tx pgx.Tx) error
		says   string
	}{
		"a shard is new": {func(w *world, ctx context.Context, tx pgx.Tx) error {
			_, err := w.store.AddShard(ctx, tx, catalog.Shard{ID: "s3", PostgresHost: "h", PostgresPort: 1, BouncerHost: "h", BouncerPort: 2})
			return err
		}, "shard s3 is new"},
		"a shard is cordoned": {func(w *world, ctx context.Context, tx pgx.Tx) error {
			_, err := w.store.SetShardState(ctx, tx, "s2", []catalog.ShardState{catalog.ShardActive}, catalog.ShardCordoned)
			return err
		}, "shard s2 is cordoned and was active"},
		"a tenant moved": {func(w *world, ctx context.Context, tx pgx.Tx) error {
			p, err := w.store.GetPlacement(ctx, "t001")
			if err != nil {
				return err
			}
			if err := w.store.InsertDatabase(ctx, tx, catalog.Database{Shard: "s2", Name: p.Database, State: catalog.DatabaseTarget, Tenant: "t001"}); err != nil {
				return err
			}
			_, err = w.store.FlipPlacement(ctx, tx, "t001", p, "s2")
			return err
		}, "shard s1 has 3 tenants and had 4"},
		"needs changed": {func(w *world, ctx context.Context, tx pgx.Tx) error {
			if err := w.store.SetNeeds(ctx, tx, "t001", catalog.Needs{Pinned: true}, ann); err != nil {
				return err
			}
			_, err := w.store.SetPlacementPolicy(ctx, tx, "", ann)
			return err
		}, "policy, capacities or needs are at version 2 and were at 1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, Options{}, "s1", "s2")
			w.add("s1", 4)
			plan, err := w.Plan(t.Context(), Ask{}, ann)
			require.NoError(t, err)
			catalogtest.Tx(t, w.store, func(ctx context.Context, tx pgx.Tx) error { return tt.change(w, ctx, tx) })
			_, err = w.ApplyPlan(t.Context(), plan.ID, ann, "")
			require.ErrorIs(t, err, ErrStale)
			require.ErrorContains(t, err, tt.says)
			_, err = w.Pause(t.Context(), ann)
			require.ErrorIs(t, err, ErrNoRun)
		})
	}
	t.Run("scenario and age", func(t *testing.T) {
		t.Parallel()
		c := &clock{at: time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)}
		w := newWorld(t, Options{Now: c.now}, "s1", "s2")
		w.add("s1", 4)
		plan, err := w.Plan(t.Context(), Ask{Scenario: balance.Scenario{Add: 1}}, ann)
		require.NoError(t, err)
		_, err = w.ApplyPlan(t.Context(), plan.ID, ann, "")
		require.ErrorIs(t, err, ErrStale)
		require.ErrorContains(t, err, "add-shard=1")
		plan, err = w.Plan(t.Context(), Ask{}, ann)
		require.NoError(t, err)
		c.pass(PlanFor)
		_, err = w.ApplyPlan(t.Context(), plan.ID, ann, "")
		require.ErrorIs(t, err, ErrStale)
	})
}

// One run at a time; it can be paused, goes on, and ends when it is cancelled,
// with what was begun.
func TestPauseResumeCancel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "s1", "s2", "s3")
	w.add("s1", 12)
	gate := make(chan struct{})
	w.gate = gate
	w.works()
	op := w.apply()
	w.until(func() bool { return len(w.status(op.ID).Running) > 0 }, "nothing begins")
	plan, err := w.Plan(t.Context(), Ask{}, ann)
	require.NoError(t, err)
	_, err = w.ApplyPlan(t.Context(), plan.ID, ann, "")
	require.ErrorIs(t, err, ErrRunning)
	require.ErrorContains(t, err, op.ID)

	_, err = w.Pause(t.Context(), ann)
	require.NoError(t, err)
	close(gate)
	w.until(func() bool {
		r := w.status(op.ID)
		return len(r.Running) == 0 && r.Operation.State == operation.Pending && r.Operation.Progress.Waiting == "somebody to resume it: paused by ann (a test)"
	}, "it does not pause")
	moved := w.status(op.ID).Counts[catalog.MoveMoved].Moves
	require.Less(t, moved, 8)
	w.mu.Lock()
	gate = make(chan struct{})
	w.gate = gate
	w.mu.Unlock()
	_, err = w.Resume(t.Context(), ann)
	require.NoError(t, err)
	w.until(func() bool { return len(w.status(op.ID).Running) > 0 }, "it does not go on")

	_, err = w.Cancel(t.Context(), false, ann)
	require.NoError(t, err)
	begun := w.moves()
	w.until(func() bool { return w.status(op.ID).Operation.State == operation.Undoing }, "it does not wind down")
	close(gate)
	op, rec := w.ended(op.ID)
	require.Equal(t, operation.Canceled, op.State)
	require.Equal(t, begun, w.moves())
	require.Equal(t, begun, rec.Moved)
	require.Equal(t, 8-begun, rec.Left)
	require.Equal(t, 12-begun, w.on()["s1"])
}

// Cancelled at once, the moves go too that still can.
func TestCancelAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "s1", "s2")
	w.add("s1", 4)
	w.gate = make(chan struct{})
	w.works()
	op := w.apply()
	w.until(func() bool { return len(w.status(op.ID).Running) > 0 }, "nothing begins")
	_, err := w.Cancel(t.Context(), true, ann)
	require.NoError(t, err)
	op, rec := w.ended(op.ID)
	require.Equal(t, operation.Canceled, op.State)
	require.Zero(t, rec.Moved)
	require.Equal(t, map[shardmap.ShardID]int{"s1": 4}, w.on())
}

// What can't be moved is told, and not tried for ever; what failed on the way is
// tried once more; the others go.
func TestFailedMovesAreTold(t *testing.T) {
	t.Parallel()
	c := &clock{at: time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)}
	w := newWorld(t, Options{Now: c.now}, "s1", "s2")
	ids := w.add("s1", 4)
	w.refuse[ids[0]] = "it has an unlogged table"
	w.fails[ids[1]], w.fails[ids[2]] = 1, 2
	w.works()
	op, err := w.Drain(t.Context(), "s1", ann, "")
	require.NoError(t, err)
	w.until(func() bool {
		r := w.status(op.ID)
		return r.Counts[catalog.MoveMoved].Moves == 1 && r.Counts[catalog.MoveFailed].Moves == 3 && len(r.Running) == 0
	}, "each is tried")
	c.pass(retryIn + time.Second)
	w.wake(op.ID)
	op, rec := w.ended(op.ID)
	require.Equal(t, operation.Failed, op.State)
	require.Equal(t, 2, rec.Moved)
	require.Len(t, rec.Stayed, 2)
	stayed := map[shardmap.TenantID]string{}
	for _, s := range rec.Stayed {
		stayed[s.Tenant] = s.Why
		require.NotEmpty(t, s.Operation)
	}
	require.Equal(t, map[shardmap.TenantID]string{ids[0]: "it has an unlogged table", ids[2]: "the cable was cut"}, stayed)
	require.Contains(t, op.Error, "2 tenants were moved, and 2 could not be")
	require.Equal(t, 6, w.moves())
	d, err := w.Draining(t.Context(), "s1")
	require.NoError(t, err)
	require.Equal(t, 2, d.Living)
	require.Equal(t, catalog.ShardDraining, d.Shard.State)

	// Asked again, it tries again.
	w.mu.Lock()
	clear(w.refuse)
	w.mu.Unlock()
	op, err = w.Drain(t.Context(), "s1", ann, "")
	require.NoError(t, err)
	op, rec = w.ended(op.ID)
	require.Equal(t, operation.Done, op.State, op.Error)
	require.Equal(t, []shardmap.ShardID{"s1"}, rec.Drained)
}

// The control plane is killed at every point of a run's way: each tenant is
// moved once and no more, and the next replica brings the run to its end.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "s1", "s2", "s3")
	w.add("s1", 12)
	op := w.apply()
	for _, point := range []string{"rebalance/beginning", "rebalance/begun", "tenant-move/cutover/committed", "rebalance/ending", "rebalance/ended"} {
		pgtest.KilledAt(t, point, workerEnv+"="+w.dsn)
	}
	w.works()
	op, rec := w.ended(op.ID)
	require.Equal(t, operation.Done, op.State, op.Error)
	require.Equal(t, map[shardmap.ShardID]int{"s1": 4, "s2": 4, "s3": 4}, w.on())
	require.Equal(t, 8, rec.Moved)
	require.Equal(t, 8, w.moves())
}

// The fleet changes under a run: it plans anew, and ends where that leads.
func TestFleetChangesUnderARun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "s1", "s2")
	w.add("s1", 12)
	gate := make(chan struct{})
	w.gate = gate
	w.works()
	op := w.apply()
	w.until(func() bool { return len(w.status(op.ID).Running) > 0 }, "nothing begins")
	catalogtest.AddShard(t, w.store, "s3")
	var gone shardmap.TenantID
	require.NoError(t, func() error { // a tenant that was to move is deleted
		left, err := w.store.RebalanceMoves(t.Context(), op.ID, 0, catalog.MoveLeft)
		require.NotEmpty(t, left)
		catalogtest.Tx(t, w.store, func(ctx context.Context, tx pgx.Tx) error {
			gone = left[len(left)-1].Tenant
			_, err := tx.Exec(ctx, `update placements set state = 'deleted', epoch = epoch + 1 where tenant = $1`, gone)
			return err
		})
		return err
	}())
	close(gate)
	op, _ = w.ended(op.ID)
	require.Equal(t, operation.Done, op.State, op.Error)
	on := w.on()
	for _, id := range []shardmap.ShardID{"s1", "s2", "s3"} {
		require.InDelta(t, 3.7, on[id], 1, fmt.Sprint(on))
	}
	// It may have planned between the two.
	require.Contains(t, []string{"shards or policy changed", "tenant " + string(gone) + " is deleted"}, w.status(op.ID).Replanned)
}
