package move

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/move/stream"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

// awkward tables: found by nothing, by an index, by the whole row, twice the same row.
const awkward = `
CREATE TABLE nokey (a int, b text); INSERT INTO nokey SELECT i % 3, 'same' FROM generate_series(1, 60) i;
CREATE TABLE by_index (code text NOT NULL UNIQUE, n int); INSERT INTO by_index SELECT 'c' || i, i FROM generate_series(1, 50) i;
CREATE TABLE nothing (id int PRIMARY KEY, v int); ALTER TABLE nothing REPLICA IDENTITY NOTHING; INSERT INTO nothing SELECT i, i FROM generate_series(1, 20) i;
CREATE TABLE chosen (id int PRIMARY KEY, code text NOT NULL); CREATE UNIQUE INDEX chosen_code ON chosen (code); ALTER TABLE chosen REPLICA IDENTITY USING INDEX chosen_code;
INSERT INTO chosen SELECT i, 'c' || i FROM generate_series(1, 20) i;
CREATE SEQUENCE loose START 7 INCREMENT 3;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM nokey;`

// stir changes every awkward table.
const stir = `
DELETE FROM nokey WHERE ctid IN (SELECT ctid FROM nokey WHERE a = 1 LIMIT 7); UPDATE nokey SET b = 'other' WHERE ctid IN (SELECT ctid FROM nokey WHERE a = 2 LIMIT 5); INSERT INTO nokey VALUES (2, 'other'), (2, 'other');
UPDATE by_index SET n = n + 1 WHERE n % 2 = 0; DELETE FROM by_index WHERE n % 7 = 0; UPDATE by_index SET code = code || 'x' WHERE n % 5 = 0;
UPDATE nothing SET v = v + 100; DELETE FROM nothing WHERE id % 4 = 0;
UPDATE chosen SET code = code || 'y' WHERE id % 3 = 0; DELETE FROM chosen WHERE id % 5 = 0;
SELECT nextval('loose'), nextval('loose');`

// soaked moves with a soak and requires that it has begun.
func (w *world) soaked(id shardmap.TenantID, to shardmap.ShardID) (*operation.Operation, Receipt) {
	w.t.Helper()
	op, err := w.Move(w.t.Context(), Request{Tenant: id, To: to, MaxPause: w.budget, Soak: time.Hour}, tester, "")
	require.NoError(w.t, err)
	op, rec := w.ended(op)
	require.Equal(w.t, operation.Done, op.State, op.Error)
	require.NotNil(w.t, rec.SoakUntil, "%+v", rec)
	require.Equal(w.t, catalog.Soaking, w.soakState(op.ID))
	return op, rec
}

func (w *world) reverse(id string, soak time.Duration) *operation.Operation {
	w.t.Helper()
	op, err := w.Reverse(w.t.Context(), ReverseRequest{Operation: id, MaxPause: w.budget, Soak: soak}, tester, "")
	require.NoError(w.t, err)
	return op
}

func (w *world) soakState(id string) catalog.SoakState {
	w.t.Helper()
	k, err := w.store.GetSoak(w.t.Context(), id)
	require.NoError(w.t, err)
	return k.State
}

// rows are all rows of the tenant's tables, in an order of their own.
func (w *world) rows(on shardmap.ShardID, db string) []string {
	w.t.Helper()
	return slices.DeleteFunc(lines(w.dump(on, db, "--data-only", "--table=public.*")), func(line string) bool { return strings.Contains(line, "setval") })
}

// requireFollowing waits until a change at home is at the old place.
func (w *world) requireFollowing(db string, home, old shardmap.ShardID) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	token := uuid.NewString()
	_, err := w.conn(home, db).Exec(ctx, stream.BarrierSQL, token)
	require.NoError(w.t, err)
	require.NoError(w.t, stream.Arrived(ctx, w.conn(old, db), token), "what is written on %s does not reach %s", home, old)
}

func (w *world) keep() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = w.Run(ctx) }()
	w.t.Cleanup(func() { cancel(); <-done })
}

// A tenant goes there, takes writes, and is taken back with all of them, while
// clients at both PgBouncers write and see no error. Then there again over the
// link that the way back left, and stays. All of it by TLS, with certificates
// verified on every link.
func TestTakenBackWithAllThatWasWritten(t *testing.T) {
	t.Parallel()
	w := newSecureWorld(t, "a", "b")
	db, login := w.tenant("fickle", "a")
	w.asOwner("a", db, trafficSchema+awkward)
	before := w.dump("a", db, "--schema-only")
	tr := w.startTraffic(db, login, 5*time.Millisecond, false, "a")
	op, rec := w.soaked("fickle", "b")
	require.Equal(t, Equal, rec.Verification.Final)
	here := w.startTraffic(db, login, 5*time.Millisecond, false, "b") // these come by the PgBouncer of the place that will be left
	w.requireFollowing(db, "b", "a")
	_, err := w.Move(t.Context(), Request{Tenant: "fickle", To: "a"}, tester, "")
	require.ErrorIs(t, err, catalog.ErrConflict)
	require.ErrorContains(t, err, op.ID)
	writes := tr.writes.Load()
	w.asOwner("b", db, stir)
	require.Eventually(t, func() bool { return tr.writes.Load() > writes+50 }, time.Minute, 5*time.Millisecond)

	_, err = w.DryRunReverse(t.Context(), ReverseRequest{Operation: op.ID}, tester)
	require.NoError(t, err)
	back, rec := w.ended(w.reverse(op.ID, time.Hour))
	require.Equal(t, operation.Done, back.State, back.Error)
	require.Equal(t, Equal, rec.Verification.Final, "%+v", rec)
	require.Equal(t, catalog.Reversed, w.soakState(op.ID))
	require.Equal(t, catalog.Soaking, w.soakState(back.ID))
	t.Logf("back: pause %v ms, attached %v ms", rec.PauseMS, rec.AttachedPauseMS)
	w.requireFollowing(db, "a", "b")
	w.asOwner("a", db, stir+"REFRESH MATERIALIZED VIEW counted")

	again, rec := w.ended(w.reverse(back.ID, 0))
	require.Equal(t, operation.Done, again.State, again.Error)
	require.Equal(t, Equal, rec.Verification.Final, "%+v", rec)
	w.asOwner("b", db, stir)
	here.cancel()
	here.wg.Wait()
	tr.cancel()
	tr.wg.Wait()
	require.Empty(t, here.errs)
	maps.Copy(tr.acked, here.acked)
	maps.Copy(tr.unknown, here.unknown)
	tr.requireBalanced(w, w.requireServedOnce("fickle", "a", "b"))
	require.Equal(t, before, w.dump("b", db, "--schema-only"), "what the moves gave the tables was not taken back")
	row, err := w.store.GetDatabase(t.Context(), "a", db)
	require.NoError(t, err)
	require.Equal(t, catalog.DatabaseRetired, row.State)
	require.NotNil(t, row.DropAfter)
	t.Logf("%d writes acknowledged, longest gap of a client %v and %v", len(tr.acked), tr.gap, here.gap)
}

// Completed, a soak leaves nothing, and the tables as they were.
func TestCompletedSoakLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("settled", "a")
	w.asOwner("a", db, awkward)
	before := w.dump("a", db, "--schema-only")
	op, _ := w.soaked("settled", "b")
	w.asOwner("b", db, stir)
	w.requireFollowing(db, "b", "a")
	require.Empty(t, cmp.Diff(w.rows("b", db), w.rows("a", db)))
	done, err := w.Complete(t.Context(), op.ID, tester, "once")
	require.NoError(t, err)
	done, _ = w.ended(done)
	require.Equal(t, operation.Done, done.State, done.Error)
	again, err := w.Complete(t.Context(), op.ID, tester, "once")
	require.NoError(t, err)
	require.Equal(t, done.ID, again.ID)
	_, err = w.Complete(t.Context(), op.ID, tester, "")
	require.ErrorIs(t, err, catalog.ErrConflict)
	_, err = w.Reverse(t.Context(), ReverseRequest{Operation: op.ID}, tester, "")
	require.ErrorIs(t, err, catalog.ErrConflict)
	require.EqualValues(t, "b", w.requireServedOnce("settled", "a", "b"))
	require.Equal(t, before, w.dump("b", db, "--schema-only"), "what the move gave the tables was not taken back")
	row, err := w.store.GetDatabase(t.Context(), "a", db)
	require.NoError(t, err)
	require.NotNil(t, row.DropAfter)
	_, err = w.DryRun(t.Context(), Request{Tenant: "settled", To: "a"}, tester)
	require.NoError(t, err, "it may move again")
}

// A reverse that is cancelled before its cutover leaves the soak as it was, and
// no link of its own.
func TestCancelledReverseLeavesTheSoak(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, login := w.tenant("hesitant", "a")
	w.asOwner("a", db, trafficSchema+awkward)
	tr := w.startTraffic(db, login, 5*time.Millisecond, false, "a")
	op, _ := w.soaked("hesitant", "b")
	w.hit = func(name string) error {
		if name == "move/cutover/barrier" { // keeps it from passing by
			return errors.New("not yet")
		}
		return nil
	}
	becomes := func(from, to catalog.ShardState) {
		catalogtest.Tx(t, w.store, func(ctx context.Context, tx pgx.Tx) error {
			_, err := w.store.SetShardState(ctx, tx, "a", []catalog.ShardState{from}, to)
			return err
		})
	}
	becomes(catalog.ShardActive, catalog.ShardDraining)
	byHand := ReverseRequest{Operation: op.ID, MaxPause: w.budget, Soak: time.Hour, Manual: true}
	_, err := w.Reverse(t.Context(), byHand, tester, "")
	require.ErrorIs(t, err, catalog.ErrConflict)
	require.ErrorContains(t, err, "tenant-ops shard undrain a")
	becomes(catalog.ShardDraining, catalog.ShardCordoned) // the place is the tenant's all the same
	back, err := w.Reverse(t.Context(), byHand, tester, "")
	require.NoError(t, err)
	old := w.conn("a", "postgres")
	require.Contains(t, w.waits(back.ID, "the word: tenant-ops op cutover "+back.ID), "the target follows")
	_, err = w.CutOver(t.Context(), back.ID, tester)
	require.NoError(t, err)
	pgtest.Eventually(t, "the reverse has a link of its own", func() bool {
		now, err := w.engine.Get(t.Context(), back.ID)
		require.NoError(t, err)
		require.False(t, now.State.Final(), now.Error)
		var n int
		require.NoError(t, old.QueryRow(t.Context(), "SELECT count(*) FROM pg_replication_slots WHERE database = $1", db).Scan(&n))
		return now.Step == "cutover" && n > 0
	})
	_, err = w.engine.Cancel(t.Context(), back.ID, tester)
	require.NoError(t, err)
	back, _ = w.ended(back)
	require.Equal(t, operation.Canceled, back.State, back.Error)
	require.Equal(t, catalog.Soaking, w.soakState(op.ID))
	var slots int
	require.NoError(t, w.conn("a", "postgres").QueryRow(t.Context(), "SELECT count(*) FROM pg_replication_slots WHERE database = $1", db).Scan(&slots))
	require.Zero(t, slots, "the cancelled reverse left a slot")
	fenced, err := shard.Fenced(t.Context(), w.conn("a", "postgres"), db)
	require.NoError(t, err)
	require.True(t, fenced)
	w.asOwner("b", db, stir)
	w.requireFollowing(db, "b", "a")

	w.hit = func(string) error { return nil }
	byHand.Soak = 0
	back, err = w.Reverse(t.Context(), byHand, tester, "")
	require.NoError(t, err)
	_, err = w.CutOver(t.Context(), back.ID, tester)
	require.NoError(t, err)
	back, rec := w.ended(back)
	require.Equal(t, operation.Done, back.State, back.Error)
	require.True(t, slices.ContainsFunc(rec.Warnings, func(f survey.Finding) bool { return f.Code == "cordoned" }), "%+v", rec.Warnings)
	tr.requireBalanced(w, w.requireServedOnce("hesitant", "a", "b"))
}

// Cancelled after the link back was made, a move leaves no trace of that either.
func TestCancelTakesTheLinkBackAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("undecided", "a")
	w.asOwner("a", db, awkward)
	before := w.dump("a", db, "--schema-only")
	linked := make(chan struct{}, 100)
	w.hit = func(name string) error {
		switch name {
		case "move/soak/linked":
			linked <- struct{}{}
		case "move/cutover/barrier":
			return errors.New("not yet")
		}
		return nil
	}
	op, err := w.Move(t.Context(), Request{Tenant: "undecided", To: "b", MaxPause: w.budget, Soak: time.Hour}, tester, "")
	require.NoError(t, err)
	select {
	case <-linked:
	case <-time.After(time.Minute):
		t.Fatal("the link back was not made")
	}
	_, err = w.engine.Cancel(t.Context(), op.ID, tester)
	require.NoError(t, err)
	op, _ = w.ended(op)
	require.Equal(t, operation.Canceled, op.State, op.Error)
	require.EqualValues(t, "a", w.requireServedOnce("undecided", "a", "b"))
	require.Equal(t, before, w.dump("a", db, "--schema-only"))
	var slots int
	require.NoError(t, w.conn("b", "postgres").QueryRow(t.Context(), "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE $1 || '%'", linkName(op)).Scan(&slots))
	require.Zero(t, slots)
	_, err = w.store.GetSoak(t.Context(), op.ID)
	require.ErrorIs(t, err, catalog.ErrNotFound)
}

// The keeper ends a soak that leads back no more, or costs too much, and says why.
func TestKeeperEndsSoaks(t *testing.T) {
	t.Parallel()
	shared := newWorld(t, "a", "b")
	shared.opt.SoakEvery = 200 * time.Millisecond
	shared.keep()
	cases := map[shardmap.TenantID]struct {
		why  string
		make func(w *world, db string, op *operation.Operation)
	}{
		"expired": {"its time was over", func(w *world, _ string, op *operation.Operation) {
			_, err := w.store.Pool().Exec(w.t.Context(), "update soaks set until = clock_timestamp() where operation = $1", op.ID)
			require.NoError(w.t, err)
		}},
		"migrated": {"the tenant's schema changed", func(w *world, db string, _ *operation.Operation) {
			w.asOwner("b", db, "ALTER TABLE nokey ADD COLUMN more int; UPDATE nokey SET more = 1")
		}},
		"deleted": {"the tenant was deleted", func(w *world, db string, _ *operation.Operation) {
			catalogtest.Tx(w.t, w.store, func(ctx context.Context, tx pgx.Tx) error {
				at := time.Now().Add(time.Hour)
				_, err := w.store.SetTenantState(ctx, tx, "deleted", []shardmap.State{shardmap.Active}, shardmap.Deleted, &at)
				return err
			})
			require.NoError(w.t, shard.Fence(w.t.Context(), w.conn("b", "postgres"), db))
		}},
		"unslotted": {"slot is gone", func(w *world, db string, op *operation.Operation) {
			script(w.t, w.conn("a", db), `ALTER SUBSCRIPTION "`+backName(op)+`" DISABLE`)
			home := w.conn("b", db)
			pgtest.Eventually(w.t, "nobody reads the slot", func() bool {
				_, err := home.Exec(w.t.Context(), "SELECT pg_drop_replication_slot($1)", backName(op))
				return err == nil
			})
		}},
		"failing": {"can't be applied", func(w *world, db string, _ *operation.Operation) {
			script(w.t, w.conn("a", db), "DROP TABLE public.by_index")
			w.asOwner("b", db, stir)
		}},
	}
	for id, c := range cases {
		t.Run(string(id), func(t *testing.T) {
			t.Parallel()
			w := *shared
			w.t = t
			db, _ := w.tenant(id, "a")
			w.asOwner("a", db, awkward)
			op, _ := w.soaked(id, "b")
			c.make(&w, db, op)
			w.requireEnded(db, op, c.why)
		})
	}
}

// requireEnded waits until the keeper has ended the soak, and checks that it leaves nothing.
func (w *world) requireEnded(db string, op *operation.Operation, why string) {
	w.t.Helper()
	require.Eventually(w.t, func() bool { return w.soakState(op.ID) == catalog.Ended }, 2*time.Minute, 20*time.Millisecond)
	k, err := w.store.GetSoak(w.t.Context(), op.ID)
	require.NoError(w.t, err)
	require.Contains(w.t, k.Reason, why)
	for _, on := range []shardmap.ShardID{"a", "b"} {
		w.requireNoTrace(on, db)
	}
	row, err := w.store.GetDatabase(w.t.Context(), "a", db)
	require.NoError(w.t, err)
	require.NotNil(w.t, row.DropAfter)
}

// An old place that does not read costs disk where the tenant lives: only so much.
func TestKeeperBoundsTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	w.opt.SoakEvery, w.opt.SoakMaxWAL = 200*time.Millisecond, 1<<20
	db, _ := w.tenant("unread", "a")
	w.asOwner("a", db, awkward)
	op, _ := w.soaked("unread", "b")
	script(t, w.conn("a", db), `ALTER SUBSCRIPTION "`+backName(op)+`" DISABLE`)
	w.asOwner("b", db, "INSERT INTO nokey SELECT 1, repeat('x', 1000) FROM generate_series(1, 4000)")
	w.keep()
	w.requireEnded(db, op, "of the server's log were kept")
}

// So it is while a reverse waits, which for want of a server may be for ever.
func TestKeeperBoundsTheLogOfAWaitingReverse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	w.opt.SoakEvery, w.opt.SoakMaxWAL = 200*time.Millisecond, 1<<20
	db, _ := w.tenant("stuck", "a")
	w.asOwner("a", db, awkward)
	op, _ := w.soaked("stuck", "b")
	w.stop()
	back := w.reverse(op.ID, 0)
	script(t, w.conn("a", db), `ALTER SUBSCRIPTION "`+backName(op)+`" DISABLE`)
	w.asOwner("b", db, "INSERT INTO nokey SELECT 1, repeat('x', 1000) FROM generate_series(1, 4000)")
	w.keep()
	home := w.conn("b", db)
	pgtest.Eventually(t, "the slot is dropped", func() bool {
		var n int
		require.NoError(t, home.QueryRow(t.Context(), "SELECT count(*) FROM pg_replication_slots WHERE database = $1", db).Scan(&n))
		return n == 0
	})
	require.Equal(t, catalog.Soaking, w.soakState(op.ID))
	w.replica()
	back, _ = w.ended(back)
	require.Equal(t, operation.Failed, back.State)
	require.Contains(t, back.Error, "slot is gone")
	w.requireEnded(db, op, "slot is gone")
}

// A reverse that waits for somebody's word ends at once when it can't come true any
// more: it would keep its tenant's schema, and everybody, waiting for nothing.
func TestWaitingReverseGivesUpWhatCanNotBe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("undecided", "a")
	op, _ := w.soaked("undecided", "b")
	fails := func(why string, happens func()) {
		t.Helper()
		back, err := w.Reverse(t.Context(), ReverseRequest{Operation: op.ID, MaxPause: w.budget, Manual: true}, tester, "")
		require.NoError(t, err)
		w.waits(back.ID, "the word")
		happens()
		catalogtest.Tx(t, w.store, func(ctx context.Context, tx pgx.Tx) error { return w.engine.WakeTx(ctx, tx, back.ID) })
		back, _ = w.ended(back)
		require.Equal(t, operation.Failed, back.State, back.Error)
		require.Contains(t, back.Error, why)
		require.Equal(t, catalog.Soaking, w.soakState(op.ID))
		p, err := w.store.GetPlacement(t.Context(), "undecided")
		require.NoError(t, err)
		require.EqualValues(t, "b", p.Shard)
	}
	becomes := func(from, to catalog.ShardState) {
		catalogtest.Tx(t, w.store, func(ctx context.Context, tx pgx.Tx) error {
			_, err := w.store.SetShardState(ctx, tx, "a", []catalog.ShardState{from}, to)
			return err
		})
	}
	fails("shard a is being emptied", func() { becomes(catalog.ShardActive, catalog.ShardDraining) })
	becomes(catalog.ShardDraining, catalog.ShardActive)
	fails("slot is gone", func() {
		script(t, w.conn("a", db), `ALTER SUBSCRIPTION "`+backName(op)+`" DISABLE`)
		home := w.conn("b", db)
		pgtest.Eventually(t, "the slot is dropped", func() bool { return stream.DropSlot(t.Context(), home, backName(op)) == nil })
	})
}

// So it is between the flip and the soak, where a comparison may take hours.
func TestKeeperBoundsTheLogOfASoakToCome(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	w.opt.SoakEvery, w.opt.SoakMaxWAL = 200*time.Millisecond, 1<<20
	db, _ := w.tenant("betrothed", "a")
	w.asOwner("a", db, awkward)
	flipped, gate := make(chan struct{}), make(chan struct{})
	letGo := sync.OnceFunc(func() { close(gate) })
	w.t.Cleanup(letGo)
	var once sync.Once
	w.hit = func(name string) error {
		if name == "move/soak/unlinked" { // the old place follows next
			once.Do(func() { close(flipped) })
			<-gate
		}
		return nil
	}
	op, err := w.Move(t.Context(), Request{Tenant: "betrothed", To: "b", MaxPause: w.budget, Soak: time.Hour}, tester, "")
	require.NoError(t, err)
	w.keep()
	select {
	case <-flipped:
	case <-time.After(time.Minute):
		t.Fatal("the soak is not come to")
	}
	w.asOwner("b", db, "INSERT INTO nokey SELECT 1, repeat('x', 1000) FROM generate_series(1, 4000)")
	home := w.conn("b", db)
	pgtest.Eventually(t, "the slot is dropped", func() bool {
		var n int
		require.NoError(t, home.QueryRow(t.Context(), "SELECT count(*) FROM pg_replication_slots WHERE database = $1", db).Scan(&n))
		return n == 0
	})
	letGo()
	op, rec := w.ended(op)
	require.Equal(t, operation.Done, op.State, op.Error)
	require.Nil(t, rec.SoakUntil)
	require.Contains(t, strings.Join(rec.Notes, "\n"), "there is no soak: advance slot: the replication slot is gone")
	require.EqualValues(t, "b", w.requireServedOnce("betrothed", "a", "b"))
}

// A slot goes at once even while another operation has the tenant for long.
func TestKeeperDropsTheSlotOfABusyTenant(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	w.opt.SoakEvery = 100 * time.Millisecond
	db, _ := w.tenant("busy", "a")
	op, _ := w.soaked("busy", "b")
	_, err := w.store.Pool().Exec(t.Context(), `insert into operations (id, kind, tenant, state, data, created_by, actor)
		values (gen_random_uuid(), 'a-long-one', 'busy', 'pending', '{}', 'tester', '{}')`)
	require.NoError(t, err)
	_, err = w.store.Pool().Exec(t.Context(), "update soaks set until = clock_timestamp() where operation = $1", op.ID)
	require.NoError(t, err)
	w.keep()
	home := w.conn("b", db)
	pgtest.Eventually(t, "the slot is dropped", func() bool {
		var n int
		require.NoError(t, home.QueryRow(t.Context(), "SELECT count(*) FROM pg_replication_slots WHERE database = $1", db).Scan(&n))
		return n == 0
	})
	require.Equal(t, catalog.Ending, w.soakState(op.ID))
	_, err = w.store.Pool().Exec(t.Context(), "update operations set state = 'failed', finished_at = clock_timestamp() where kind = 'a-long-one'")
	require.NoError(t, err)
	pgtest.Eventually(t, "the soak is ended", func() bool { return w.soakState(op.ID) == catalog.Ended })
	w.requireNoTrace("a", db)
	w.requireNoTrace("b", db)
}

// A reverse that was asked for in time goes first, though the soak is over
// before a worker takes it up.
func TestReverseAskedForInTimeGoesFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("hurried", "a")
	op, _ := w.soaked("hurried", "b")
	script(t, w.conn("a", "postgres"), "ALTER DATABASE "+db+" SET work_mem = '7MB'") // of before, not of now
	w.stop()
	back := w.reverse(op.ID, 0)
	_, err := w.store.Pool().Exec(t.Context(), "update soaks set until = clock_timestamp() where operation = $1", op.ID)
	require.NoError(t, err)
	w.opt.SoakEvery = 50 * time.Millisecond
	w.keep()
	for range 3 {
		_, err := w.store.Pool().Exec(t.Context(), "update soaks set looked_at = 'epoch' where operation = $1", op.ID)
		require.NoError(t, err)
		pgtest.Eventually(t, "the keeper looks", func() (looked bool) {
			require.NoError(t, w.store.Pool().QueryRow(t.Context(), "select looked_at > 'epoch' from soaks where operation = $1", op.ID).Scan(&looked))
			return looked
		})
	}
	w.replica()
	back, _ = w.ended(back)
	require.Equal(t, operation.Done, back.State, back.Error)
	require.Equal(t, catalog.Reversed, w.soakState(op.ID))
	require.EqualValues(t, "a", w.requireServedOnce("hurried", "a", "b"))
	var setting string
	require.NoError(t, w.conn("a", db).QueryRow(t.Context(), "SELECT coalesce(max(array_to_string(setconfig, ',')), '') FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = $1 AND s.setrole = 0", db).Scan(&setting))
	require.NotContains(t, setting, "work_mem", "a setting came back that the tenant did not have any more")
}

// A changed schema can't be taken back, and the refusal says what can be done.
func TestReverseRefusesAChangedSchema(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("grown", "a")
	op, _ := w.soaked("grown", "b")
	w.asOwner("b", db, "CREATE TABLE later (id int PRIMARY KEY)")
	back, _ := w.ended(w.reverse(op.ID, 0))
	require.Equal(t, operation.Failed, back.State)
	require.Contains(t, back.Error, "schema changed")
	require.Equal(t, catalog.Soaking, w.soakState(op.ID))
	_, err := w.DryRunReverse(t.Context(), ReverseRequest{Operation: op.ID}, tester)
	var refused *RefusedError
	require.ErrorAs(t, err, &refused)
	_, err = w.Reverse(t.Context(), ReverseRequest{Operation: back.ID}, tester, "")
	require.ErrorIs(t, err, catalog.ErrConflict, "a failed reverse does not soak")
}
