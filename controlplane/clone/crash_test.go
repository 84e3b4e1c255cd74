package clone

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

// killedAt starts a worker armed to kill itself at a failpoint, and waits until it has.
func (w *world) killedAt(point string) {
	w.t.Helper()
	pgtest.KilledAt(w.t, point, workerEnv+"="+shardtest.WorkerEnv(w.dsn, w.keys, w.server(w.t, "a")))
}

// Wherever a worker is killed, the next one ends the clone, or takes it back whole.
func TestWorkerKilledAnywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db := w.tenant("mortal", "a")
	w.asOwner("a", db, "INSERT INTO customers (name) SELECT 'c' || i FROM generate_series(1, 1000) i")
	before := w.dump("a", db)
	w.stop()
	points := []string{"reserve/committed", "copy/end", "assign/committed"}
	if os.Getenv("FREEHOLD_SOAK") != "" {
		points = append(points, "preflight/begin", "preflight/end", "reserve/begin", "copy/begin", "assign/begin")
	}
	for i, point := range points {
		id := shardmap.TenantID("clone-" + string(rune('a'+i)))
		op := w.clone(Request{Source: "mortal", Tenant: id, To: "b"})
		w.killedAt(Kind + "/" + point)
		w.work()
		rec := w.done(op)
		w.stop()
		require.Equal(t, "equal", rec.Verification, point)
		p := w.placement(id)
		var n int
		conn := w.conn("b", p.Database)
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM public.customers").Scan(&n))
		require.Equal(t, 1000, n, point)
		w.requireNoMark("b", p.Database)
	}
	require.Equal(t, before, w.dump("a", db))
	w.requireNoMark("a", db)

	// One that is cancelled while nobody works on it is taken back by who comes next.
	op := w.clone(Request{Source: "mortal", Tenant: "undone", To: "b"})
	w.killedAt(Kind + "/copy/end")
	_, err := w.engine.Cancel(t.Context(), op.ID, tester)
	require.NoError(t, err)
	w.work()
	op = w.ended(op)
	require.Equal(t, operation.Canceled, op.State)
	w.requireNothing("undone", op, "b")
}
