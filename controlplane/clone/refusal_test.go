package clone

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/controlplane/worldtest"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

func TestRefusedByTheCatalog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	w.tenant("acme", "a")
	w.tenant("taken", "a")
	w.tenant("gone", "a")
	op, err := w.Tenants.Delete(t.Context(), "gone", worldtest.Tester, "")
	require.NoError(t, err)
	w.Ended(op)
	w.Stop() // nothing is to run
	w.needs("taken", catalog.Needs{Region: "mars"})
	for _, c := range []struct {
		req  Request
		want error
	}{
		{Request{Source: "nobody", Tenant: "new"}, catalog.ErrNotFound},
		{Request{Source: "acme", Tenant: "taken"}, catalog.ErrExists},
		{Request{Source: "acme", Tenant: "gone"}, catalog.ErrExists},
		{Request{Source: "acme", Tenant: "acme"}, catalog.ErrExists},
		{Request{Source: "gone", Tenant: "new"}, catalog.ErrConflict},
		{Request{Source: "acme", Tenant: "new", To: "z"}, catalog.ErrNotFound},
		{Request{Source: "acme", Tenant: "No Name"}, shardmap.ErrInvalidID},
		{Request{Source: "taken", Tenant: "new"}, catalog.ErrNoRoom}, // its contents have to be elsewhere
	} {
		_, err := w.Clone(t.Context(), c.req, worldtest.Tester, "")
		require.ErrorIs(t, err, c.want, "%+v", c.req)
	}
	w.needs("acme", catalog.Needs{Exclusive: true})
	_, err = w.Clone(t.Context(), Request{Source: "acme", Tenant: "new"}, worldtest.Tester, "")
	require.ErrorContains(t, err, "a belongs to one tenant alone")
	w.needs("acme", catalog.Needs{})
	first, err := w.Clone(t.Context(), Request{Source: "acme", Tenant: "new"}, worldtest.Tester, "key")
	require.NoError(t, err)
	again, err := w.Clone(t.Context(), Request{Source: "acme", Tenant: "new"}, worldtest.Tester, "key")
	require.NoError(t, err)
	require.Equal(t, first.ID, again.ID)
	_, err = w.Clone(t.Context(), Request{Source: "acme", Tenant: "new", SchemaOnly: true}, worldtest.Tester, "key")
	require.ErrorIs(t, err, catalog.ErrKeyReused)
	_, err = w.Clone(t.Context(), Request{Source: "acme", Tenant: "new"}, worldtest.Tester, "")
	require.ErrorIs(t, err, catalog.ErrBusy)
	_, err = w.Engine.Cancel(t.Context(), first.ID, worldtest.Tester)
	require.NoError(t, err)
	catalogtest.Tx(t, w.Store, func(ctx context.Context, tx pgx.Tx) error {
		_, err := w.Store.SetShardState(ctx, tx, "a", []catalog.ShardState{catalog.ShardActive}, catalog.ShardCordoned)
		return err
	})
	_, err = w.Clone(t.Context(), Request{Source: "acme", Tenant: "new"}, worldtest.Tester, "")
	require.ErrorIs(t, err, catalog.ErrConflict)
}

// What a clone would not carry is refused before anything is made, and what
// only streaming minds is not.
func TestPreflight(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	db := w.tenant("odd", "a")
	w.AsOwner("a", db, "CREATE TABLE shared (a int); CREATE TABLE no_equality (j json)") // without a key: none is needed
	admin := w.Conn("a", db)
	login, _, err := shard.TempLogin(t.Context(), admin, db, shard.AccessRO, time.Hour)
	require.NoError(t, err)
	w.Script(admin, "GRANT SELECT ON public.shared TO "+login.User+"; CREATE PUBLICATION mine FOR TABLE public.shared; CREATE ROLE outsider_"+db+"; GRANT SELECT ON public.shared TO outsider_"+db)
	_, err = w.DryRunClone(t.Context(), Request{Source: "odd", Tenant: "copy"}, worldtest.Tester)
	var refused *RefusedError
	require.ErrorAs(t, err, &refused)
	var codes []string
	for _, f := range refused.Findings {
		codes = append(codes, f.Code)
		require.NotEmpty(t, f.Remedy, f.Code)
	}
	require.ElementsMatch(t, []string{"foreign-role", "temporary-login"}, codes)
	op := w.Ended(w.clone(Request{Source: "odd", Tenant: "copy"}))
	require.Equal(t, operation.Failed, op.State)
	require.Contains(t, op.Error, "the clone can't be made for 2 reasons")
	w.requireNothing("copy", op, "a")

	w.Script(admin, "REVOKE ALL ON public.shared FROM "+login.User+", outsider_"+db+"; DROP ROLE outsider_"+db)
	steps, err := w.DryRunClone(t.Context(), Request{Source: "odd", Tenant: "copy"}, worldtest.Tester)
	require.NoError(t, err)
	require.Len(t, steps, 4)
	for _, s := range steps {
		require.NotEmpty(t, s.Does)
	}
	require.Contains(t, steps[0].Does, "note: mine: a publication of the tenant's own is not carried")
	w.Script(admin, "CREATE PUBLICATION freehold_move_of_a_test FOR TABLE public.shared")
	steps, err = w.DryRunClone(t.Context(), Request{Source: "odd", Tenant: "copy"}, worldtest.Tester)
	require.NoError(t, err)
	require.Contains(t, steps[0].Does, "would wait: the source is being moved")
	w.Script(admin, "DROP PUBLICATION freehold_move_of_a_test")
	rec := w.done(w.clone(Request{Source: "odd", Tenant: "copy"}))
	require.Equal(t, "publication", rec.Warnings[0].Code)
	w.requireNoMark("a", w.Placement("copy").Database)
}

// What no snapshot hides, a TRUNCATE or the tenant's own DDL during the copy, is
// seen, and the copy made anew; nobody waits for a clone meanwhile.
func TestChangesOfTheSourceDuringTheCopy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	db := w.tenant("lively", "a")
	w.AsOwner("a", db, "CREATE TABLE cache (id serial PRIMARY KEY); INSERT INTO cache SELECT FROM generate_series(1, 100); CREATE TABLE kept (id int PRIMARY KEY); INSERT INTO kept VALUES (1)")
	changes := []string{"TRUNCATE public.cache; INSERT INTO public.cache VALUES (1000)", "ALTER TABLE public.kept ADD more text DEFAULT 'x'", "INSERT INTO public.kept VALUES (2)"}
	tenant := w.Conn("a", db)
	var done atomic.Int64
	w.during = func(point string) error {
		if i := done.Load(); point == "schema" && i < int64(len(changes)) {
			done.Add(1)
			w.Script(tenant, "SET lock_timeout = '20s';"+changes[i]) // it waits for a dump at most
		}
		return nil
	}
	rec := w.done(w.clone(Request{Source: "lively", Tenant: "copy"}))
	require.Equal(t, 3, rec.Copies, "the last change is hidden by the snapshot")
	conn := w.Conn("a", w.Placement("copy").Database)
	var cache, kept int
	var more string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT (SELECT id FROM public.cache), (SELECT count(*) FROM public.kept), (SELECT more FROM public.kept WHERE id = 1)").Scan(&cache, &kept, &more))
	require.Equal(t, 1000, cache)
	require.Equal(t, 1, kept)
	require.Equal(t, "x", more)

	// It is not tried for ever, and then nothing is left.
	var n atomic.Int64
	w.during = func(point string) error {
		if point == "rows" {
			n.Add(1)
			w.Script(tenant, "TRUNCATE public.cache")
		}
		return nil
	}
	op := w.Ended(w.clone(Request{Source: "lively", Tenant: "other"}))
	require.Equal(t, operation.Failed, op.State)
	require.Contains(t, op.Error, "clone when no migration is under way")
	require.EqualValues(t, maxCopies, n.Load())
	w.requireNothing("other", op, "a")
	w.requireNoMark("a", db)
}

// A clone that is cancelled or fails in the middle of the copy leaves nothing;
// one whose worker was stopped, and woke up when another had begun anew, does no harm.
func TestCancelledFailedAndOvertaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	db := w.tenant("source", "a")
	begun := make(chan struct{})
	blocked := make(chan struct{})
	w.during = func(point string) error {
		if point != "rows" {
			return nil
		}
		close(begun)
		<-blocked
		return errors.New("the tests' own failure")
	}
	op := w.clone(Request{Source: "source", Tenant: "copy"})
	<-begun
	_, err := w.Engine.Cancel(t.Context(), op.ID, worldtest.Tester)
	require.NoError(t, err)
	close(blocked)
	op = w.Ended(op)
	require.Equal(t, operation.Canceled, op.State)
	w.requireNothing("copy", op, "a")
	w.requireNoMark("a", db)

	// Nor is anything made of a source that was erased when its copy was whole.
	erased := w.tenant("erased", "a")
	w.during = func(point string) error {
		if point != "checking" {
			return nil
		}
		return w.Store.Tx(context.Background(), func(ctx context.Context, tx pgx.Tx) error {
			_, err := w.Store.MarkErased(ctx, tx, "erased")
			return err
		})
	}
	op = w.Ended(w.clone(Request{Source: "erased", Tenant: "revived"}))
	require.Equal(t, operation.Failed, op.State)
	require.Contains(t, op.Error, "was erased")
	w.requireNothing("revived", op, "a")
	w.requireNoMark("a", erased)

	// The zombie: the database was made anew under its feet.
	source, err := w.Fleet.Session(t.Context(), "a", maintenance, applicationName)
	require.NoError(t, err)
	defer closeConn(source)
	name := provision.NewDatabaseName()
	anew := func() *provision.Blank {
		b, err := w.Tenants.Blank(t.Context(), provision.BlankSpec{Shard: "a", Database: name, Application: applicationName,
			Held: func(context.Context) error { return nil },
			Create: func(ctx context.Context, conn *pgx.Conn, document secret.Login) ([]string, error) {
				return shard.CloneTarget(ctx, source, conn, db, name, document, w.Tenants.Limits())
			}})
		require.NoError(t, err)
		t.Cleanup(b.Close)
		return b
	}
	zombie, worker := anew(), anew()
	_, err = zombie.Connect(t.Context())
	require.ErrorIs(t, err, operation.ErrLeaseLost)
	conn, err := worker.Connect(t.Context())
	require.NoError(t, err)
	closeConn(conn)
}

// A clone to a newer version is equal, too; one to an older is refused.
func TestCloneAcrossVersions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", shardtest.Newer)
	db := w.tenant("old", "a")
	w.AsOwner("a", db, "INSERT INTO customers (name) SELECT 'c' || i FROM generate_series(1, 500) i")
	rec := w.done(w.clone(Request{Source: "old", Tenant: "young", To: shardtest.Newer}))
	require.Equal(t, "equal", rec.Verification)
	p := w.Placement("young")
	require.Equal(t, shardtest.Newer, p.Shard)
	w.requireServed(p, db)
	op := w.Ended(w.clone(Request{Source: "young", Tenant: "back", To: "a"}))
	require.Equal(t, operation.Failed, op.State)
	require.Contains(t, op.Error, "older than the source's 18")
	w.requireNothing("back", op, "a")
}
