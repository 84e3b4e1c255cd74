package move

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/shard"
)

func TestMoveThereAndBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("acme", "a")
	w.asOwner("a", db, "INSERT INTO customers (name) SELECT 'c' || i FROM generate_series(1, 1000) i")
	rec := w.moved("acme", "b")
	t.Logf("%+v", rec)
	require.Equal(t, Equal, rec.Verification.Copy)
	require.Equal(t, Equal, rec.Verification.Final)
	require.EqualValues(t, "b", w.requireServedOnce("acme", "a", "b"))
	rec = w.moved("acme", "a")
	t.Logf("%+v", rec)
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
