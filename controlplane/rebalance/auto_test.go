package rebalance

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// lookNow has auto mode look, as its keeper does.
func (w *world) lookNow() Status {
	w.t.Helper()
	state, err := w.store.TakeRebalanceLook(w.t.Context(), 0)
	require.NoError(w.t, err)
	require.NoError(w.t, w.auto(w.t.Context(), state))
	st, err := w.Status(w.t.Context())
	require.NoError(w.t, err)
	return st
}

// Auto mode begins a run when a shard is added, and none while it is off.
func TestAutoModeBeginsRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "s1")
	w.add("s1", 6)
	w.works()
	_, err := w.store.TakeRebalanceLook(t.Context(), 0)
	require.ErrorIs(t, err, catalog.ErrNotFound, "it is off")
	require.NoError(t, w.SetAuto(t.Context(), true, ann))
	require.NoError(t, w.SetAuto(t.Context(), true, ann))
	require.Equal(t, "nothing to do", w.lookNow().Says)
	_, err = w.store.TakeRebalanceLook(t.Context(), time.Hour)
	require.ErrorIs(t, err, catalog.ErrNotFound, "one replica looked just now")

	catalogtest.AddShard(t, w.store, "s2")
	st := w.lookNow()
	require.NotNil(t, st.Run)
	require.Equal(t, "shard s2 was added", st.Run.Trigger)
	require.Equal(t, "system", st.Run.Operation.CreatedBy)
	require.Contains(t, st.Says, "was begun: shard s2 was added")
	op, rec := w.ended(st.Run.Operation.ID)
	require.Equal(t, operation.Done, op.State, op.Error)
	require.Equal(t, 3, rec.Moved)
	require.Equal(t, map[shardmap.ShardID]int{"s1": 3, "s2": 3}, w.on())
	require.Equal(t, "nothing to do", w.lookNow().Says)

	require.NoError(t, w.SetAuto(t.Context(), false, ann))
	_, err = w.store.TakeRebalanceLook(t.Context(), 0)
	require.ErrorIs(t, err, catalog.ErrNotFound)
	var audited int
	require.NoError(t, w.store.Pool().QueryRow(t.Context(), `select count(*) from audit_outbox where record->>'Action' in ('rebalance.auto', 'rebalance.begin')`).Scan(&audited))
	require.Equal(t, 3, audited)
}
