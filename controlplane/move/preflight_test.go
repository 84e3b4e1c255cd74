package move

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// Everything that a move would not carry is refused before anything is
// touched, all at once, each with its reason and remedy.
func TestPreflightRefusesWhatItCannotCarry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("odd", "a")
	w.asOwner("a", db, "CREATE UNLOGGED TABLE fast (a int); CREATE TABLE no_equality (j json); CREATE TABLE has_trigger (a int PRIMARY KEY);"+
		"CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"+
		"CREATE TRIGGER always BEFORE INSERT ON has_trigger FOR EACH ROW EXECUTE FUNCTION nothing(); ALTER TABLE has_trigger ENABLE ALWAYS TRIGGER always;"+
		"CREATE TABLE shared (a int)")
	admin := w.conn("a", db)
	script(t, admin, "SELECT lo_create(0)")
	script(t, admin, "CREATE PUBLICATION mine FOR TABLE public.has_trigger")
	script(t, admin, "SELECT pg_create_logical_replication_slot('own_"+db+"', 'pgoutput')")
	t.Cleanup(func() {
		conn, err := w.fleet.Admin(context.Background(), "a", db)
		if err == nil {
			_, _ = conn.Exec(context.Background(), "SELECT pg_drop_replication_slot('own_"+db+"')")
			closeConn(conn)
		}
	})
	script(t, admin, "CREATE FUNCTION public.et() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER et_"+db+" ON ddl_command_end EXECUTE FUNCTION public.et()")
	script(t, admin, "CREATE FOREIGN DATA WRAPPER fdw")
	script(t, admin, "CREATE ROLE outsider_"+db+"; GRANT SELECT ON public.shared TO outsider_"+db)

	script(t, admin, "CREATE TABLE public.the_platforms (a int)")

	want := []string{"superusers-relation", "large-objects", "unlogged-table", "replica-identity", "replica-trigger", "publication", "logical-slot", "event-trigger", "foreign-data", "foreign-role"}
	_, err := w.DryRun(t.Context(), Request{Tenant: "odd", To: "b"}, tester)
	var refused *RefusedError
	require.ErrorAs(t, err, &refused)
	var codes []string
	for _, f := range refused.Findings {
		codes = append(codes, f.Code)
		require.NotEmpty(t, f.Reason)
		require.NotEmpty(t, f.Remedy, f.Code)
	}
	require.ElementsMatch(t, want, codes)

	op, _ := w.ended(w.move("odd", "b"))
	require.Equal(t, operation.Failed, op.State)
	require.Contains(t, op.Error, "large objects")
	require.Contains(t, op.Error, "no equality")
	_, err = w.store.GetDatabase(t.Context(), "b", db)
	require.ErrorIs(t, err, catalog.ErrNotFound)
}

func TestMoveIsRefusedByTheCatalog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	w.stop() // nothing is to run
	w.tenant("still", "a")
	ctx := t.Context()
	_, err := w.Move(ctx, Request{Tenant: "nobody", To: "b"}, tester, "")
	require.ErrorIs(t, err, catalog.ErrNotFound)
	_, err = w.Move(ctx, Request{Tenant: "still", To: "z"}, tester, "")
	require.ErrorIs(t, err, catalog.ErrNotFound)
	_, err = w.Move(ctx, Request{Tenant: "still", To: "a"}, tester, "")
	require.ErrorIs(t, err, catalog.ErrConflict)
	op, err := w.Move(ctx, Request{Tenant: "still", To: "b"}, tester, "key")
	require.NoError(t, err)
	again, err := w.Move(ctx, Request{Tenant: "still", To: "b"}, tester, "key")
	require.NoError(t, err)
	require.Equal(t, op.ID, again.ID)
	_, err = w.Move(ctx, Request{Tenant: "still", To: "b", MaxPause: time.Second}, tester, "key")
	require.ErrorIs(t, err, catalog.ErrKeyReused)
	_, err = w.Move(ctx, Request{Tenant: "still", To: "b"}, tester, "")
	require.ErrorIs(t, err, catalog.ErrBusy)
	_, err = w.engine.Cancel(ctx, op.ID, tester)
	require.NoError(t, err)
	catalogtest.Tx(t, w.store, func(ctx context.Context, tx pgx.Tx) error {
		_, err := w.store.SetShardState(ctx, tx, "b", []catalog.ShardState{catalog.ShardActive}, catalog.ShardCordoned)
		return err
	})
	_, err = w.Move(ctx, Request{Tenant: "still", To: "b"}, tester, "")
	require.ErrorIs(t, err, catalog.ErrConflict)
	require.ErrorContains(t, err, "cordoned")
}

// A dry run tells what each step would do, and changes nothing.
func TestDryRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("curious", "a")
	before := w.dump("a", db)
	plan, err := w.DryRun(t.Context(), Request{Tenant: "curious", To: "b"}, tester)
	require.NoError(t, err)
	require.Len(t, plan, 10)
	for _, p := range plan {
		require.NotEmpty(t, p.Does)
		t.Logf("%-10s %s", p.Name, p.Does)
	}
	require.Equal(t, before, w.dump("a", db))
	require.EqualValues(t, "a", w.requireServedOnce("curious", "a", "b"))
	w.requireNoTrace("a", db)
	_, err = w.store.GetDatabase(t.Context(), "b", db)
	require.True(t, errors.Is(err, catalog.ErrNotFound))
}

// A shard that was registered before the fleet had TLS follows no other, and
// that is found out before the copy.
func TestPreflightWantsServersThatVerifyEachOther(t *testing.T) {
	t.Parallel()
	w := newSecureWorld(t, "a", "b")
	w.tenant("early", "a")
	for _, of := range []struct {
		on   shardmap.ShardID
		soak time.Duration
		ok   bool
	}{{"b", 0, false}, {"a", 0, true}, {"a", time.Hour, false}} {
		was, err := w.store.GetShard(t.Context(), of.on)
		require.NoError(t, err)
		update := func(row catalog.Shard) {
			catalogtest.Tx(t, w.store, func(ctx context.Context, tx pgx.Tx) error {
				_, err := w.store.UpdateShard(ctx, tx, row)
				return err
			})
		}
		without := was
		without.PostgresTLSDir = ""
		update(without)
		_, err = w.DryRun(t.Context(), Request{Tenant: "early", To: "b", Soak: of.soak}, tester)
		if of.ok {
			require.NoError(t, err)
		} else {
			var refused *RefusedError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, "tls-files", refused.Findings[0].Code)
			require.Equal(t, string(of.on), refused.Findings[0].Object)
		}
		update(was)
	}
}
