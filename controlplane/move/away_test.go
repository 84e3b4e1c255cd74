package move

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

// away has nobody find a shard's servers any more, until the returned function is called.
func (w *world) away(on shardmap.ShardID) (back func()) {
	w.t.Helper()
	ports := func(postgres, bouncer uint16) {
		_, err := w.store.Pool().Exec(context.Background(), "update shards set postgres_port = $2, bouncer_port = $3 where id = $1", on, postgres, bouncer)
		require.NoError(w.t, err)
	}
	was, err := w.store.GetShard(w.t.Context(), on)
	require.NoError(w.t, err)
	ports(1, 1) // nobody listens there
	return func() { ports(was.PostgresPort, was.BouncerPort) }
}

// down is what an operator says of a shard that will not come back.
func (w *world) down(on shardmap.ShardID) {
	w.t.Helper()
	catalogtest.Tx(w.t, w.store, func(ctx context.Context, tx pgx.Tx) error {
		_, err := w.store.SetShardState(ctx, tx, on, []catalog.ShardState{catalog.ShardActive}, catalog.ShardDown)
		return err
	})
}

func requireNoted(t *testing.T, rec Receipt, on shardmap.ShardID) {
	t.Helper()
	require.Contains(t, strings.Join(rec.Notes, "\n"), "shard "+string(on)+" is out of reach since")
}

// A move whose target is gone for good is taken back at the source, and ends
// when an operator says that the target is down. What is left there is dropped
// with the database, should it come back.
func TestMoveEndsThoughItsTargetIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("bereft", "a")
	w.hit = func(name string) error {
		if name == "move/cutover/barrier" {
			return errors.New("not yet") // keeps it from passing by
		}
		return nil
	}
	op := w.move("bereft", "b")
	pgtest.Eventually(t, "it cuts over", func() bool {
		now, err := w.engine.Get(t.Context(), op.ID)
		require.NoError(t, err)
		require.False(t, now.State.Final(), now.Error)
		return now.Step == "cutover"
	})
	back := w.away("b")
	_, err := w.engine.Cancel(t.Context(), op.ID, tester)
	require.NoError(t, err)
	pgtest.Eventually(t, "it waits for the target, and says how long", func() bool {
		now, err := w.engine.Get(t.Context(), op.ID)
		require.NoError(t, err)
		require.False(t, now.State.Final(), now.Error)
		return strings.Contains(now.Progress.Waiting, "for shard b, which is out of reach, until ")
	})
	w.down("b")
	op, rec := w.ended(op)
	require.Equal(t, operation.Canceled, op.State, op.Error)
	requireNoted(t, rec, "b")
	w.requireNoTrace("a", db)
	fenced, err := shard.Fenced(t.Context(), w.conn("a", "postgres"), db)
	require.NoError(t, err)
	require.False(t, fenced)
	row, err := w.store.GetDatabase(t.Context(), "b", db)
	require.NoError(t, err)
	require.Equal(t, catalog.DatabaseDropping, row.State, "its keeper drops it")
	back()
	require.NoError(t, shard.DropDatabaseAndRoles(t.Context(), w.conn("b", "postgres"), db), "as the keeper does")
}

// A move whose source is gone after the flip waits for it for a while, and ends.
func TestMoveEndsThoughItsSourceIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	w.opt.GoneAfter = time.Second
	db, _ := w.tenant("orphan", "a")
	w.hit = func(name string) error {
		if name == "move/cutover/routed" {
			w.t.Cleanup(w.away("a"))
		}
		return nil
	}
	op, rec := w.ended(w.move("orphan", "b"))
	require.Equal(t, operation.Done, op.State, op.Error)
	requireNoted(t, rec, "a")
	require.Equal(t, NotVerified, rec.Verification.Final)
	w.requireNoTrace("b", db)
	row, err := w.store.GetDatabase(t.Context(), "a", db)
	require.NoError(t, err)
	require.Equal(t, catalog.DatabaseRetired, row.State)
	require.NotNil(t, row.DropAfter, "its keeper drops it")
}

// A reverse whose target is gone is taken back, and the soak is as it was.
func TestReverseEndsThoughTheOldPlaceIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	w.opt.GoneAfter = time.Second
	db, _ := w.tenant("settler", "a")
	op, _ := w.soaked("settler", "b")
	w.hit = func(name string) error {
		if name == "move/cutover/barrier" {
			return errors.New("not yet") // keeps it from passing by
		}
		return nil
	}
	reverse := w.reverse(op.ID, 0)
	pgtest.Eventually(t, "it cuts over", func() bool {
		now, err := w.engine.Get(t.Context(), reverse.ID)
		require.NoError(t, err)
		require.False(t, now.State.Final(), now.Error)
		return now.Step == "cutover"
	})
	back := w.away("a")
	_, err := w.engine.Cancel(t.Context(), reverse.ID, tester)
	require.NoError(t, err)
	reverse, rec := w.ended(reverse)
	require.Equal(t, operation.Canceled, reverse.State, reverse.Error)
	requireNoted(t, rec, "a")
	require.Equal(t, catalog.Soaking, w.soakState(op.ID))
	back()
	w.hit = func(string) error { return nil }
	w.requireFollowing(db, "b", "a")
	reverse, _ = w.ended(w.reverse(op.ID, 0))
	require.Equal(t, operation.Done, reverse.State, reverse.Error)
	require.EqualValues(t, "a", w.requireServedOnce("settler", "a", "b"))
}
