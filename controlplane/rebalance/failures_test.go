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

// A tenant whose moves fail keeps auto mode from nothing else: it rests, longer each
// time, and is moved again once that is over.
func TestAutoModeLeavesWhoCantBeMoved(t *testing.T) {
	t.Parallel()
	c := &clock{at: time.Now()} // operations end by the catalog's clock
	w := newWorld(t, Options{Now: c.now}, "s1")
	w.add("s1", 1)
	w.refuse["t001"] = "it has no place to go back to"
	w.works()
	require.NoError(t, w.SetAuto(t.Context(), true, ann))
	catalogtest.AddShard(t, w.store, "s2")
	_, err := w.store.Pool().Exec(t.Context(), `update shards set state = 'draining', version = version + 1 where id = 's1'`)
	require.NoError(t, err)

	begun, rests := 0, []time.Duration{}
	for range 4 {
		st := w.lookNow()
		require.NotNil(t, st.Run, st.Says)
		op, rec := w.ended(st.Run.Operation.ID)
		require.Equal(t, operation.Failed, op.State)
		require.Len(t, rec.Stayed, 1)
		begun++
		require.Equal(t, begun, w.moves(), "one move a run, since preflight refuses it")

		// Until its rest is over nothing is tried, and everything else is.
		failed := c.now()
		resting, err := w.resting(t.Context(), failed)
		require.NoError(t, err)
		require.Contains(t, resting, shardmap.TenantID("t001"))
		rests = append(rests, resting["t001"].until.Sub(failed).Round(time.Minute))
		c.pass(resting["t001"].until.Sub(failed) - time.Second)
		require.Contains(t, w.lookNow().Says, "nothing to do without 1 tenants whose moves failed: t001 may be moved again at")
		require.Equal(t, begun, w.moves())
		c.pass(time.Minute)
	}
	require.Equal(t, []time.Duration{restFor, 2 * restFor, 4 * restFor, 8 * restFor}, rests)

	// A person's drain minds no rest, and what arrives is forgiven.
	w.mu.Lock()
	delete(w.refuse, "t001")
	w.mu.Unlock()
	op, err := w.Drain(t.Context(), "s1", ann, "")
	require.NoError(t, err)
	op, _ = w.ended(op.ID)
	require.Equal(t, operation.Done, op.State, op.Error)
	resting, err := w.resting(t.Context(), c.now())
	require.NoError(t, err)
	require.Empty(t, resting)
}

// loses has a shard out of reach for so long.
func (w *world) loses(id shardmap.ShardID, since time.Duration) {
	w.t.Helper()
	_, err := w.store.Pool().Exec(w.t.Context(), `insert into shard_usage (shard, measured_at, trouble) values ($1, clock_timestamp() - make_interval(secs => $2), 'no route to host')
		on conflict (shard) do update set measured_at = excluded.measured_at, trouble = excluded.trouble`, id, since.Seconds())
	require.NoError(w.t, err)
}

// A shard that is gone holds a run up for a while, and then plans do without it;
// it gets tenants again once it is back.
func TestRunsDoWithoutLostShards(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "s1", "s2", "s3")
	w.add("s1", 12)
	w.loses("s3", lostAfter-time.Minute)
	w.works()
	op := w.apply()
	w.until(func() bool {
		r := w.status(op.ID)
		return r.Counts[catalog.MoveMoved].Moves == 4 && r.Counts[catalog.MoveLeft].Moves == 4
	}, "tenants go to s2, and wait for s3")
	w.loses("s3", lostAfter+time.Minute)
	op, rec := w.ended(op.ID)
	require.Equal(t, operation.Done, op.State, op.Error)
	require.Equal(t, 6, rec.Moved)
	require.Equal(t, map[shardmap.ShardID]int{"s1": 6, "s2": 6}, w.on())
	require.Contains(t, w.status(op.ID).Replanned, "shard s3 can't be reached: s3 could not be measured")

	require.NoError(t, w.SetAuto(t.Context(), true, ann))
	require.Equal(t, "nothing to do", w.lookNow().Says)
	_, err := w.store.Pool().Exec(t.Context(), `delete from shard_usage`)
	require.NoError(t, err)
	st := w.lookNow()
	require.Contains(t, st.Says, "shard s1 carries too much since", "s3 is back, and was not added")
}

// A drain that a person asks for while auto mode has a run is the run's, and minds no rest either.
func TestDrainThatARunTakesOverMindsNoRest(t *testing.T) {
	t.Parallel()
	c := &clock{at: time.Now()}
	w := newWorld(t, Options{Now: c.now}, "s1", "s2")
	w.add("s1", 2)
	w.refuse["t001"] = "it has no place to go back to"
	w.works()
	op, err := w.Drain(t.Context(), "s1", ann, "")
	require.NoError(t, err)
	op, _ = w.ended(op.ID)
	require.Equal(t, operation.Failed, op.State)
	_, err = w.Undrain(t.Context(), "s1", ann)
	require.NoError(t, err)
	resting, err := w.resting(t.Context(), w.now())
	require.NoError(t, err)
	require.Contains(t, resting, shardmap.TenantID("t001"))
	fails := func(in time.Duration) {
		_, err := w.store.Pool().Exec(t.Context(), `update rebalance_moves set ended_at = clock_timestamp() + make_interval(secs => $1) where state = 'failed'`, in.Seconds())
		require.NoError(t, err)
	}
	fails(365 * 24 * time.Hour) // by the clock of a replica that was far ahead
	resting, err = w.resting(t.Context(), w.now())
	require.NoError(t, err)
	require.Empty(t, resting, "it would rest for a year")
	fails(0)

	w.mu.Lock()
	delete(w.refuse, "t001")
	gate := make(chan struct{})
	w.gate = gate
	w.mu.Unlock()
	// Auto mode has a run that another shard's tenant keeps under way.
	catalogtest.AddShard(t, w.store, "s3")
	w.add("s3", 1)
	_, err = w.store.Pool().Exec(t.Context(), `update shards set state = 'draining', version = version + 1 where id = 's3'`)
	require.NoError(t, err)
	require.NoError(t, w.SetAuto(t.Context(), true, ann))
	c.pass(2 * mustRest) // of auto mode, after the run that failed
	st := w.lookNow()
	require.NotNil(t, st.Run, st.Says)
	require.NotEmpty(t, st.Run.Trigger)
	w.until(func() bool { return w.status(st.Run.Operation.ID).Counts[catalog.MoveRunning].Moves > 0 }, "it moves somebody")
	op, err = w.Drain(t.Context(), "s1", ann, "")
	require.NoError(t, err)
	require.Equal(t, st.Run.Operation.ID, op.ID)
	close(gate)
	op, _ = w.ended(op.ID)
	require.Equal(t, operation.Done, op.State, op.Error)
	require.Equal(t, map[shardmap.ShardID]int{"s2": 3}, w.on())
}
