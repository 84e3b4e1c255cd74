package move

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/shardmap"
)

// A worker that dies when it has retired the source, and is followed only when
// the grace is over and the source dropped, leaves nothing to be done.
func TestSourceIsGoneBeforeItsMoveEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	w.stop()
	db, _ := w.tenant("gone", "a")
	op := w.move("gone", "b")
	w.killedAt(Kind + "/clean/end")
	script(t, w.conn("a", "postgres"), "DROP DATABASE "+pg.Ident(db)+" WITH (FORCE)")
	require.NoError(t, w.store.Tx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := w.store.SetDatabaseState(ctx, tx, "a", db, []catalog.DatabaseState{catalog.DatabaseRetired}, catalog.DatabaseDropping, nil); err != nil {
			return err
		}
		return w.store.DeleteDatabase(ctx, tx, "a", db)
	}))
	w.replica()
	op, _ = w.ended(op)
	require.Equal(t, operation.Done, op.State, op.Error)
	p, err := w.store.GetPlacement(t.Context(), "gone")
	require.NoError(t, err)
	require.Equal(t, shardmap.ShardID("b"), p.Shard)
}
