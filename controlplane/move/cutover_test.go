package move

import (
	"context"
	"errors"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

// points in the cutover, in order; from after-flip on there is no way back.
var beforeFlip = []string{"hold", "paused", "fenced", "barrier", "before-flip"}

// Each attempt fails at another point, is taken back whole, and the next goes
// on; after the flip whatever fails is made good by the next step. All the
// while clients write and see no error.
func TestEveryPointOfTheCutoverCanFail(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, login := w.tenant("unlucky", "a")
	w.asOwner("a", db, trafficSchema)
	failed := map[string]bool{}
	var mu sync.Mutex
	w.hit = func(name string) error {
		mu.Lock()
		defer mu.Unlock()
		if failed[name] || name == "move/cutover/released" || name == "move/cutover/routed" {
			return nil
		}
		failed[name] = true
		return errors.New("injected at " + name)
	}
	tr := w.startTraffic(db, login, 5*time.Millisecond, false, "a", "a")
	rec := w.moved("unlucky", "b")
	last := len(rec.Attempts) - 1
	require.GreaterOrEqual(t, last, len(beforeFlip))
	given := slices.DeleteFunc(rec.Attempts[:last:last], func(a Attempt) bool { return !strings.Contains(a.Outcome, "injected") }) // a busy machine overruns the budget besides
	require.Len(t, given, len(beforeFlip))
	for i, point := range beforeFlip {
		require.Contains(t, given[i].Outcome, "injected at move/cutover/"+point)
	}
	require.Equal(t, "flipped", rec.Attempts[last].Outcome)
	require.Equal(t, Equal, rec.Verification.Final)
	tr.requireBalanced(w, w.requireServedOnce("unlucky", "a", "b"))
}

// A slot that is dropped in the middle of the cutover takes changes with it:
// the attempt is given up, and the tenant is copied again; also when that is cut
// short before the target follows.
func TestSlotDroppedInTheCutover(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	w.budget = 3 * time.Second // all of which the attempt waits for what will not come
	db, login := w.tenant("slotless", "a")
	w.asOwner("a", db, trafficSchema)
	server := w.conn("a", "postgres")
	var once sync.Once
	var short atomic.Bool
	w.hit = func(name string) (err error) {
		if name == "move/cutover/hold" {
			once.Do(func() { err = dropSlots(t.Context(), server, db) })
		}
		if name == "move/copied-again" && short.CompareAndSwap(false, true) {
			err = errors.New("the worker is cut off")
		}
		return err
	}
	tr := w.startTraffic(db, login, 5*time.Millisecond, false, "a", "a")
	rec := w.moved("slotless", "b")
	require.True(t, short.Load())
	require.GreaterOrEqual(t, rec.Copies, 2)
	require.Equal(t, Equal, rec.Verification.Final)
	tr.requireBalanced(w, w.requireServedOnce("slotless", "a", "b"))
}

// dropSlots drops a database's slots, whoever uses them and comes back at once.
func dropSlots(ctx context.Context, conn *pgx.Conn, db string) error {
	for deadline := time.Now().Add(30 * time.Second); ; {
		_, err := conn.Exec(ctx, `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = $1 AND active_pid IS NOT NULL`, db)
		if err == nil {
			_, err = conn.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1`, db)
		}
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// A transaction that does not end in time has the attempt given up; the tenant
// goes on at the source meanwhile, and the move succeeds once it has ended.
func TestLongTransactionAbortsAnAttemptOnly(t *testing.T) {
	// Before the first attempt, too, there may be a wait for a transaction, but for none of seconds.
	afterAbort := regexp.MustCompile(`was given up|open for [0-9.]+s`)
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, login := w.tenant("slow", "a")
	w.asOwner("a", db, trafficSchema)
	tr := w.startTraffic(db, login, 5*time.Millisecond, false, "a", "a")
	tx, err := tr.connect(t.Context(), w.server(t, "a"))
	require.NoError(t, err)
	defer closeConn(tx)
	var began atomic.Bool
	w.hit = func(name string) error {
		if name == "move/cutover/hold" && began.CompareAndSwap(false, true) { // just when it looked quiet
			_, err := tx.Exec(t.Context(), "BEGIN; SET LOCAL application_name = '"+applicationName+"'") // whatever it calls itself
			return err
		}
		return nil
	}
	op, err := w.Move(t.Context(), Request{Tenant: "slow", To: "b", MaxPause: time.Second}, tester, "")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		now, err := w.engine.Get(t.Context(), op.ID)
		return err == nil && now.Step == "cutover" && began.Load() && afterAbort.MatchString(now.Progress.Waiting)
	}, time.Minute, 10*time.Millisecond)
	writes := tr.writes.Load()
	require.Eventually(t, func() bool { return tr.writes.Load() > writes+20 }, 30*time.Second, 10*time.Millisecond, "the tenant is not served while the move waits")
	p, err := w.store.GetPlacement(t.Context(), "slow")
	require.NoError(t, err)
	require.EqualValues(t, "a", p.Shard)
	_, err = tx.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	op, rec := w.ended(op)
	require.Equal(t, operation.Done, op.State, op.Error)
	require.GreaterOrEqual(t, len(rec.Attempts), 2)
	require.Contains(t, rec.Attempts[0].Outcome, "budget")
	require.Less(t, float64(rec.Attempts[0].HeldMS), 20_000.0, "it waits for the transaction")
	tr.requireBalanced(w, w.requireServedOnce("slow", "a", "b"))
}

// Cancelled at any step before the flip, a move leaves no trace.
func TestCancelLeavesNoTrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, login := w.tenant("fickle", "a")
	w.asOwner("a", db, trafficSchema)
	w.asOwner("a", db, "CREATE TABLE full_one (a int); CREATE TABLE by_index (code text NOT NULL UNIQUE)")
	before := w.dump("a", db, "--schema-only")
	tr := w.startTraffic(db, login, 5*time.Millisecond, false, "a")
	for _, step := range []string{"target", "copy", "stream", "catch-up", "cutover"} {
		w.hit = func(name string) error { // keeps it from passing by
			if name == "move/cutover/barrier" {
				return errors.New("not yet")
			}
			return nil
		}
		op := w.move("fickle", "b")
		require.Eventually(t, func() bool {
			now, err := w.engine.Get(t.Context(), op.ID)
			require.NoError(t, err)
			return now.Step == step && now.State == operation.Running || now.State.Final() || now.Step == "cutover"
		}, time.Minute, time.Millisecond)
		_, err := w.engine.Cancel(t.Context(), op.ID, tester)
		require.NoError(t, err)
		op, _ = w.ended(op)
		require.Equal(t, operation.Canceled, op.State, op.Error)
		require.EqualValues(t, "a", w.requireServedOnce("fickle", "a", "b"))
		require.Equal(t, before, w.dump("a", db, "--schema-only"), "replica identities were not given back")
		_, err = w.store.GetDatabase(t.Context(), "b", db)
		require.ErrorIs(t, err, catalog.ErrNotFound)
	}
	tr.requireBalanced(w, "a")
}

// What the stream does not carry, and changes while the move is under way, is noticed.
func TestChangesBesideTheStreamAreNoticed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	w.budget = time.Minute // no attempt is to fail for another reason
	db, _ := w.tenant("lively", "a")
	w.asOwner("a", db, "CREATE TABLE d (id int PRIMARY KEY); CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM d; INSERT INTO d SELECT generate_series(1, 10)")
	changes := []string{
		"ALTER TABLE d ADD COLUMN more int DEFAULT 7; INSERT INTO d VALUES (11, 8)",
		"REFRESH MATERIALIZED VIEW m",
		"CREATE TABLE new_one (id int PRIMARY KEY); INSERT INTO new_one VALUES (1)",
	}
	var mu sync.Mutex
	w.hit = func(name string) error {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case name == "move/cutover/hold" && len(changes) > 0:
			w.asOwner("a", db, "SET application_name = '"+applicationName+"';"+changes[0]) // past the guard
			changes = changes[1:]
		case name == "move/cutover/hold" && len(changes) == 0:
			changes = nil
		}
		return nil
	}
	rec := w.moved("lively", "b")
	require.Equal(t, 3, rec.Copies, "%+v", rec)
	var outcomes string
	for _, a := range rec.Attempts {
		outcomes += a.Outcome + "\n"
	}
	require.Contains(t, outcomes, errSchemaChanged.Error())
	require.Contains(t, outcomes, errViewsChanged.Error())
	require.Equal(t, Equal, rec.Verification.Final)
	var n, more, one int
	require.NoError(t, w.conn("b", db).QueryRow(t.Context(), "SELECT (SELECT n FROM public.m), (SELECT more FROM public.d WHERE id = 11), (SELECT id FROM public.new_one)").Scan(&n, &more, &one))
	require.Equal(t, []int{11, 8, 1}, []int{n, more, one})
	w.requireServedOnce("lively", "a", "b")
}

// A login made or rotated, and a setting changed, in the middle of a cutover arrive as well.
func TestRolesAndSettingsFollow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	w.budget = time.Minute
	db, _ := w.tenant("social", "a")
	var once sync.Once
	var login string
	w.hit = func(name string) error {
		if name == "move/cutover/hold" {
			once.Do(func() {
				l, _, err := shard.TempLogin(t.Context(), w.conn("a", db), db, shard.AccessRO, time.Hour)
				require.NoError(t, err)
				login = l.User
				script(t, w.conn("a", "postgres"), "ALTER DATABASE "+db+" SET work_mem = '5MB'")
			})
		}
		return nil
	}
	rec := w.moved("social", "b")
	require.GreaterOrEqual(t, len(rec.Attempts), 2)
	conn := w.conn("b", "postgres")
	var same bool
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT has_database_privilege($1, $2, 'CONNECT')", login, db).Scan(&same))
	require.True(t, same)
	var here, there string
	for on, into := range map[shardmap.ShardID]*string{"a": &here, "b": &there} {
		require.NoError(t, w.conn(on, "postgres").QueryRow(t.Context(), `SELECT string_agg(rolname || coalesce(rolpassword, '') || coalesce(nullif(rolvaliduntil, 'infinity')::text, ''), ',' ORDER BY rolname) FROM pg_authid WHERE rolname LIKE $1 || '%' AND rolname !~ '_(apply|mv)' -- each server has its own
			`, db).Scan(into))
	}
	require.Equal(t, here, there)
	var setting string
	require.NoError(t, w.conn("b", db).QueryRow(t.Context(), "SHOW work_mem").Scan(&setting))
	require.Equal(t, "5MB", setting)
}

// A suspended tenant moves and stays closed.
func TestSuspendedTenantStaysClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("asleep", "a")
	catalogtest.Tx(t, w.store, func(ctx context.Context, tx pgx.Tx) error {
		_, err := w.store.SetTenantState(ctx, tx, "asleep", []shardmap.State{shardmap.Active}, shardmap.Suspended, nil)
		return err
	})
	require.NoError(t, shard.Fence(t.Context(), w.conn("a", "postgres"), db))
	w.moved("asleep", "b")
	for _, on := range []shardmap.ShardID{"a", "b"} {
		fenced, err := shard.Fenced(t.Context(), w.conn(on, "postgres"), db)
		require.NoError(t, err)
		require.True(t, fenced, "on %s", on)
	}
}

// PgBouncer dies in the cutover: before the flip the attempt is taken back,
// after it the move goes forward. It comes back without memory of any pause.
func TestPgBouncerDiesInTheCutover(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"hold", "fenced", "after-flip"} {
		t.Run(point, func(t *testing.T) {
			w := newWorld(t, "c", "d") // shards of its own: others' clients must not lose their PgBouncer
			db, login := w.tenant("dropped", "c")
			w.asOwner("c", db, trafficSchema)
			bouncer := pgtest.SharedShard(t, "c").Bouncer
			var once sync.Once
			w.hit = func(name string) error {
				if name == "move/cutover/"+point {
					once.Do(func() {
						require.NoError(t, bouncer.Kill())
						go func() {
							time.Sleep(300 * time.Millisecond)
							if err := bouncer.Start(context.Background()); err != nil {
								t.Errorf("PgBouncer does not come back: %v", err)
							}
						}()
					})
				}
				return nil
			}
			tr := w.startTraffic(db, login, 5*time.Millisecond, true, "c")
			rec := w.moved("dropped", "d")
			require.Equal(t, Equal, rec.Verification.Final, "%+v", rec)
			writes := tr.writes.Load()
			require.Eventually(t, func() bool { return tr.writes.Load() > writes+5 }, time.Minute, 10*time.Millisecond, "the client does not get on again: %v", tr.errs)
			tr.requireBalanced(w, w.requireServedOnce("dropped", "c", "d"))
		})
	}
}

// A worker that was stopped, and wakes up after another took over, can neither
// open nor close anything.
func TestStaleWorkerIsNotObeyed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("haunted", "a")
	older, newer := w.conn("a", db), w.conn("a", db)
	stale, fresh := lease{"op", 1}, lease{"op", 2}
	held := func(context.Context) error { return nil }
	over := func(context.Context) error { return operation.ErrLeaseLost }
	fence := func(conn *pgx.Conn) error { return shard.RaiseFence(t.Context(), conn, db) }
	fenced := func() bool {
		t.Helper()
		yes, err := shard.Fenced(t.Context(), w.conn("a", "postgres"), db)
		require.NoError(t, err)
		return yes
	}
	require.NoError(t, claim(t.Context(), older, stale, held))
	require.NoError(t, guarded(t.Context(), older, stale, fence))
	require.True(t, fenced())
	require.NoError(t, guarded(t.Context(), older, stale, func(conn *pgx.Conn) error { return shard.Unfence(t.Context(), conn, db) }))
	require.NoError(t, claim(t.Context(), newer, fresh, held))
	must := func(*pgx.Conn) error { t.Error("a stale worker was obeyed"); return nil }
	require.ErrorIs(t, guarded(t.Context(), older, stale, must), operation.ErrLeaseLost)
	require.ErrorIs(t, claim(t.Context(), older, stale, held), operation.ErrLeaseLost)
	// Another operation of the tenant: the one before is over, which only the catalog knows.
	another := lease{"another operation", 1}
	require.NoError(t, claim(t.Context(), newer, another, held))
	require.ErrorIs(t, guarded(t.Context(), newer, fresh, must), operation.ErrLeaseLost)
	require.ErrorIs(t, claim(t.Context(), older, fresh, over), operation.ErrLeaseLost)
	require.NoError(t, guarded(t.Context(), newer, another, func(*pgx.Conn) error { return nil }), "a worker of an operation that is over took the database")
	require.NoError(t, unclaim(t.Context(), newer))
	require.ErrorIs(t, guarded(t.Context(), older, stale, must), operation.ErrLeaseLost)
	require.ErrorIs(t, claim(t.Context(), older, stale, over), operation.ErrLeaseLost)
	w.requireNoTrace("a", db)
	// One that was stopped inside the guard loses its session to the next, and with it what it had done.
	require.NoError(t, claim(t.Context(), older, stale, held))
	require.Error(t, guarded(t.Context(), older, stale, func(conn *pgx.Conn) error {
		require.NoError(t, fence(conn))
		require.NoError(t, claim(t.Context(), newer, fresh, held))
		return nil
	}))
	require.False(t, fenced())
}

// A flip whose COMMIT is still under way when its worker gives up is waited
// for: the source is not opened on what a mere reader sees.
func TestFlipUnderWayIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	w.stop()
	db, _ := w.tenant("torn", "a")
	op := w.move("torn", "b")
	p, err := w.store.GetPlacement(t.Context(), "torn")
	require.NoError(t, err)
	r := &run{Op: op, Data: Doc{Request: Request{Tenant: "torn", To: "b"}, From: p}}
	require.NoError(t, shard.Fence(t.Context(), w.conn("a", "postgres"), db))
	reopened := make(chan bool, 1)
	catalogtest.Tx(t, w.store, func(ctx context.Context, tx pgx.Tx) error {
		if err := w.store.InsertDatabase(ctx, tx, catalog.Database{Shard: "b", Name: db, State: catalog.DatabaseTarget, Tenant: "torn"}); err != nil {
			return err
		}
		if _, err := w.store.FlipPlacement(ctx, tx, "torn", p, "b"); err != nil {
			return err
		}
		go func() {
			flipped, err := w.stage(r).Flipped(context.WithoutCancel(ctx))
			reopened <- flipped && err == nil
		}()
		pgtest.Eventually(t, "it waits for the flip", func() bool {
			var n int
			require.NoError(t, w.store.Pool().QueryRow(ctx, "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()").Scan(&n))
			return n > 0
		})
		return nil
	})
	require.True(t, <-reopened)
	fenced, err := shard.Fenced(t.Context(), w.conn("a", "postgres"), db)
	require.NoError(t, err)
	require.True(t, fenced)
}

// A PgBouncer that is out of reach, unlike one that is gone, may still be
// paused: the source is not open again before it was told to go on.
func TestPgBouncerOutOfReachIsNotForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	w.stop()
	_, _ = w.tenant("stuck", "a")
	p, err := w.store.GetPlacement(t.Context(), "stuck")
	require.NoError(t, err)
	r := &run{Data: Doc{Request: Request{Tenant: "stuck", To: "b"}, From: p}}
	require.NoError(t, w.stage(r).Resume(t.Context()))
	port := func(n int) {
		_, err := w.store.Pool().Exec(t.Context(), "update shards set bouncer_port = $1 where id = 'a'", n)
		require.NoError(t, err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	require.NoError(t, err)
	defer silent.Close() //nolint:errcheck // nothing is lost with it
	port(silent.Addr().(*net.TCPAddr).Port)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	require.Error(t, w.stage(r).Resume(ctx))
	port(1) // nobody listens there
	require.NoError(t, w.stage(r).Resume(t.Context()), "one that is gone has forgotten its pause")
}

// With the target gone, what is undone at the source is undone: a slot left
// there would have it keep its log until the disk is full.
func TestUndoDoesNotWaitForTheOtherSide(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("widowed", "a")
	port := func(n int) {
		_, err := w.store.Pool().Exec(t.Context(), "update shards set postgres_port = $1 where id = 'b'", n)
		require.NoError(t, err)
	}
	var was int
	require.NoError(t, w.store.Pool().QueryRow(t.Context(), "select postgres_port from shards where id = 'b'").Scan(&was))
	w.hit = func(string) error { return errors.New("not yet") } // keeps it from passing by
	op := w.move("widowed", "b")
	require.Eventually(t, func() bool {
		now, err := w.engine.Get(t.Context(), op.ID)
		return err == nil && (now.Step == "stream" || now.Step == "catch-up" || now.Step == "cutover")
	}, time.Minute, time.Millisecond)
	port(1) // nobody listens there
	_, err := w.engine.Cancel(t.Context(), op.ID, tester)
	require.NoError(t, err)
	source := w.conn("a", db)
	pgtest.Eventually(t, "the source is clean", func() bool {
		var n int
		require.NoError(t, source.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()) + (SELECT count(*) FROM pg_publication)`).Scan(&n))
		return n == 0
	})
	port(was)
	op, _ = w.ended(op)
	require.Equal(t, operation.Canceled, op.State, op.Error)
	require.EqualValues(t, "a", w.requireServedOnce("widowed", "a", "b"))
}

// The control of the final comparison: a target that differs is told loudly,
// and the source is kept.
func TestMismatchAfterTheFlipIsLoud(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("wronged", "a")
	w.asOwner("a", db, "INSERT INTO customers (name) VALUES ('right')")
	w.hit = func(name string) error {
		if name == "move/cutover/fenced" {
			script(t, w.conn("b", db), "UPDATE public.customers SET name = 'wrong'")
		}
		return nil
	}
	rec := w.moved("wronged", "b")
	require.Equal(t, Mismatch, rec.Verification.Final)
	require.Contains(t, rec.Verification.Detail[0], `"public"."customers"`)
	row, err := w.store.GetDatabase(t.Context(), "a", db)
	require.NoError(t, err)
	require.Equal(t, catalog.DatabaseRetired, row.State)
	require.Nil(t, row.DropAfter, "the source must be kept")
}
