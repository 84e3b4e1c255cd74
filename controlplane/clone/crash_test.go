package clone

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/worldtest"
	"github.com/freehold-db/freehold/shardmap"
)

// Wherever a worker is killed, the next one ends the clone, or takes it back whole.
func TestWorkerKilledAnywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db := w.tenant("mortal", "a")
	w.AsOwner("a", db, "INSERT INTO customers (name) SELECT 'c' || i FROM generate_series(1, 1000) i")
	before := w.dump("a", db)
	w.Stop()
	points := []string{"reserve/committed", "copy/end", "assign/committed"}
	if os.Getenv("FREEHOLD_SOAK") != "" {
		points = append(points, "preflight/begin", "preflight/end", "reserve/begin", "copy/begin", "assign/begin")
	}
	for i, point := range points {
		id := shardmap.TenantID("clone-" + string(rune('a'+i)))
		op := w.clone(Request{Source: "mortal", Tenant: id, To: "b"})
		w.KilledAt(Kind + "/" + point)
		w.Work()
		rec := w.done(op)
		w.Stop()
		require.Equal(t, "equal", rec.Verification, point)
		p := w.Placement(id)
		var n int
		conn := w.Conn("b", p.Database)
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM public.customers").Scan(&n))
		require.Equal(t, 1000, n, point)
		w.requireNoMark("b", p.Database)
	}
	require.Equal(t, before, w.dump("a", db))
	w.requireNoMark("a", db)

	// One that is cancelled while nobody works on it is taken back by who comes next.
	op := w.clone(Request{Source: "mortal", Tenant: "undone", To: "b"})
	w.KilledAt(Kind + "/copy/end")
	_, err := w.Engine.Cancel(t.Context(), op.ID, worldtest.Tester)
	require.NoError(t, err)
	w.Work()
	op = w.Ended(op)
	require.Equal(t, operation.Canceled, op.State)
	w.requireNothing("undone", op, "b")
}
