package move

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

// waits waits until the move says that it waits to cut over, and returns what it says.
func (w *world) waits(id, what string) (says string) {
	w.t.Helper()
	pgtest.Eventually(w.t, "it waits for "+what, func() bool {
		now, err := w.engine.Get(w.t.Context(), id)
		require.NoError(w.t, err)
		require.False(w.t, now.State.Final(), now.Error)
		says = now.Progress.Waiting
		return now.Step == "cutover" && strings.Contains(says, what)
	})
	return says
}

// A move by hand waits at its cutover, following, over crashes of its worker,
// until somebody says go.
func TestManualCutover(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, login := w.tenant("patient", "a")
	w.asOwner("a", db, trafficSchema)
	tr := w.startTraffic(db, login, 5*time.Millisecond, false, "a", "a")
	op, err := w.Move(t.Context(), Request{Tenant: "patient", To: "b", MaxPause: w.budget, Manual: true}, tester, "")
	require.NoError(t, err)
	require.Contains(t, w.waits(op.ID, "the word: tenant-ops op cutover "+op.ID), "the target follows")
	w.stop()
	before := tr.writes.Load()
	w.replica()
	pgtest.Eventually(t, "clients are served meanwhile", func() bool { return tr.writes.Load() > before+20 })
	w.waits(op.ID, "the word")
	p, err := w.store.GetPlacement(t.Context(), "patient")
	require.NoError(t, err)
	require.EqualValues(t, "a", p.Shard)
	_, err = w.CutOver(t.Context(), op.ID, tester)
	require.NoError(t, err)
	_, err = w.CutOver(t.Context(), op.ID, tester) // twice is once, as long as it is not over
	if !errors.Is(err, operation.ErrPastNoReturn) && !errors.Is(err, operation.ErrFinal) {
		require.NoError(t, err)
	}
	op, rec := w.ended(op)
	require.Equal(t, operation.Done, op.State, op.Error)
	require.Equal(t, Equal, rec.Verification.Final)
	tr.requireBalanced(w, w.requireServedOnce("patient", "a", "b"))
	_, err = w.CutOver(t.Context(), op.ID, tester)
	require.ErrorIs(t, err, operation.ErrFinal)
}

// A move at a time does not cut over before it, unless somebody says go, and can be cancelled.
func TestCutoverAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	_, _ = w.tenant("nightly", "a")
	start := func(at time.Time) *operation.Operation {
		op, err := w.Move(t.Context(), Request{Tenant: "nightly", To: "b", MaxPause: w.budget, NotBefore: at}, tester, "")
		require.NoError(t, err)
		return op
	}
	far := time.Now().Add(24 * time.Hour)
	op := start(far)
	w.waits(op.ID, far.UTC().Format(time.RFC3339)+" to cut over")
	_, err := w.engine.Cancel(t.Context(), op.ID, tester)
	require.NoError(t, err)
	op, _ = w.ended(op)
	require.Equal(t, operation.Canceled, op.State, op.Error)
	require.EqualValues(t, "a", w.requireServedOnce("nightly", "a", "b"))

	op = start(far)
	_, err = w.CutOver(t.Context(), op.ID, tester) // before it waits
	require.NoError(t, err)
	op, _ = w.ended(op)
	require.Equal(t, operation.Done, op.State, op.Error)

	op, err = w.Move(t.Context(), Request{Tenant: "nightly", To: "a", MaxPause: w.budget, NotBefore: time.Now().Add(-time.Hour)}, tester, "")
	require.NoError(t, err)
	op, _ = w.ended(op)
	require.Equal(t, operation.Done, op.State, op.Error)
	require.Equal(t, shardmap.ShardID("a"), w.requireServedOnce("nightly", "a", "b"))
}

// What does not wait takes no word.
func TestCutOverRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	w.stop()
	_, _ = w.tenant("prompt", "a")
	op := w.move("prompt", "b")
	_, err := w.CutOver(t.Context(), op.ID, tester)
	require.ErrorIs(t, err, ErrNotWaiting)
	_, err = w.engine.Cancel(t.Context(), op.ID, tester)
	require.NoError(t, err)
	_, err = w.CutOver(t.Context(), op.ID, tester)
	require.ErrorIs(t, err, operation.ErrFinal)
}
