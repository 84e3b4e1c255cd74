package move

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/shardmap"
)

func TestMoveThereAndBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("acme", "a")
	w.asOwner("a", db, "INSERT INTO customers (name) SELECT 'c' || i FROM generate_series(1, 1000) i")
	stamp := func(on shardmap.ShardID) int64 {
		stamp, err := readStamp(t.Context(), w.conn(on, db))
		require.NoError(t, err)
		return *stamp
	}
	before := stamp("a")
	rec := w.moved("acme", "b")
	t.Logf("%+v", rec)
	require.Equal(t, before, stamp("b"), "who has read the schema knows it at the new place")
	require.Equal(t, before, stamp("a"), "and need not read it again for a move")
	require.Equal(t, Equal, rec.Verification.Copy)
	require.Equal(t, Equal, rec.Verification.Final)
	require.EqualValues(t, "b", w.requireServedOnce("acme", "a", "b"))
	w.asOwner("b", db, "CREATE TABLE later (id int PRIMARY KEY, n int)")
	changed := stamp("b")
	require.NotEqual(t, before, changed)
	rec = w.moved("acme", "a")
	t.Logf("%+v", rec)
	require.Equal(t, changed, stamp("a"))
	require.EqualValues(t, "a", w.requireServedOnce("acme", "a", "b"))
}

// A move back takes over what an earlier one left, even while it is being
// dropped by a keeper that was stopped in the middle.
func TestMoveBackTakesOverWhatIsBeingDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("acme", "a")
	w.moved("acme", "b")
	catalogtest.Tx(t, w.store, func(ctx context.Context, tx pgx.Tx) error {
		_, err := w.store.SetDatabaseState(ctx, tx, "a", db, []catalog.DatabaseState{catalog.DatabaseRetired}, catalog.DatabaseDropping, nil)
		return err
	})
	keeper := w.conn("a", "postgres")
	_, err := shard.Reserve(t.Context(), keeper, db)
	require.NoError(t, err)
	_, err = shard.Reserve(t.Context(), w.conn("a", "postgres"), db)
	require.ErrorIs(t, err, shard.ErrReserved)
	w.moved("acme", "a")
	require.Error(t, keeper.Ping(t.Context()), "it could still drop what is in use now")
	require.EqualValues(t, "a", w.requireServedOnce("acme", "a", "b"))
}
