package provision_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/schemachange"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/shardmap"
)

func TestThePoolFollowsTheSchema(t *testing.T) {
	dir := t.TempDir()
	copyFile := func(name string) {
		text, err := os.ReadFile(filepath.Join(sample, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	copyFile("00001_people_and_projects.sql")
	w := newWorld(t, provision.Options{WarmPool: 1, MigrationsDir: dir}, "a")
	w.run(w.Run)
	at := func(version int64) int {
		n, err := w.store.CountReady(w.ctx(), "a", version)
		require.NoError(t, err)
		return n
	}
	pgtest.Eventually(t, "the pool fills", func() bool { return at(1) == 1 })
	copyFile("00002_invoices.sql")
	w.Wake()
	pgtest.Eventually(t, "the pool is made anew", func() bool { return at(2) == 1 && at(1) == 0 })
	catalogTx(w, func(ctx context.Context, tx pgx.Tx) error {
		_, err := w.store.BeginDrain(ctx, tx, "a", tester)
		return err
	})
	w.Wake()
	pgtest.Eventually(t, "the pool of a shard that is emptied goes", func() bool { return at(2) == 0 })
	catalogTx(w, func(ctx context.Context, tx pgx.Tx) error {
		_, err := w.store.EndDrain(ctx, tx, "a")
		return err
	})
	w.Wake()
	pgtest.Eventually(t, "it comes back", func() bool { return at(2) == 1 })
}

// What crashed tries left is dropped; what an operation still works on is not.
func TestLeftoversAreDropped(t *testing.T) {
	w := newWorld(t, provision.Options{}, "a")
	insert := func(name string, state catalog.DatabaseState, tenant shardmap.TenantID) {
		catalogTx(w, func(ctx context.Context, tx pgx.Tx) error {
			return w.store.InsertDatabase(ctx, tx, catalog.Database{Shard: "a", Name: name, State: state, Tenant: tenant})
		})
	}
	// Half made: a row, roles, a database, an open database.
	const bare, roles, fenced, open = "t_00000000000000a1", "t_00000000000000a2", "t_00000000000000a3", "t_00000000000000a4"
	conn, err := w.fleet.Admin(w.ctx(), "a", "postgres")
	require.NoError(t, err)
	defer conn.Close(w.ctx()) //nolint:errcheck // nothing is lost with it
	for i, name := range []string{bare, roles, fenced, open} {
		insert(name, catalog.DatabaseBuilding, "")
		if i > 0 {
			require.NoError(t, shard.CreateRoles(w.ctx(), conn, name, secret.Login{User: shard.AuthLogin(name), Password: "p"}, shard.Limits{}))
		}
		if i > 1 {
			require.NoError(t, w.fleet.CreateDatabase(w.ctx(), "a", name, shard.TemplateApp, shard.Limits{}))
		}
		if i > 2 {
			require.NoError(t, shard.Unfence(w.ctx(), conn, name))
		}
	}
	// A creation whose worker stopped after its first step.
	op, err := w.Create(w.ctx(), provision.CreateSpec{ID: "acme"}, tester, "")
	require.NoError(t, err)
	stopEngine := w.run(w.engine.Run)
	var worked []catalog.Database
	pgtest.Eventually(t, "it reserved a database", func() bool {
		rows, _, err := w.store.ListDatabases(w.ctx(), catalog.DatabaseFilter{Shard: "a"}, catalog.Page{})
		require.NoError(t, err)
		worked = rows
		return len(rows) == 5
	})
	stopEngine()

	w.run(w.Run)
	pgtest.Eventually(t, "leftovers are gone", func() bool {
		rows, _, err := w.store.ListDatabases(w.ctx(), catalog.DatabaseFilter{Shard: "a"}, catalog.Page{})
		require.NoError(t, err)
		worked = rows
		return len(rows) == 1
	})
	for _, name := range []string{bare, roles, fenced, open} {
		require.False(t, w.exists("a", name), name)
	}
	w.replica(provision.Options{})
	w.run(w.engine.Run)
	w.done(op, nil)
	p, err := w.store.GetPlacement(w.ctx(), "acme")
	require.NoError(t, err)
	require.Equal(t, worked[0].Name, p.Database)
	w.serves(p)
}

// A move's source is dropped after its grace; its PgBouncer entry stays while clients are attached to it.
func TestRetiredDatabasesAreDropped(t *testing.T) {
	w := newWorld(t, provision.Options{}, "a", "b")
	w.run(w.engine.Run)
	w.done(w.Create(w.ctx(), provision.CreateSpec{ID: "acme", Fit: catalog.Fit{Shard: "a"}}, tester, ""))
	p, err := w.store.GetPlacement(w.ctx(), "acme")
	require.NoError(t, err)
	client, err := w.login(p)
	require.NoError(t, err)
	defer client.Close(w.ctx()) //nolint:errcheck // closed below

	// The bones of a move from a to b.
	src, err := w.fleet.Admin(w.ctx(), "a", "postgres")
	require.NoError(t, err)
	defer src.Close(w.ctx()) //nolint:errcheck // nothing is lost with it
	dst, err := w.fleet.Admin(w.ctx(), "b", "postgres")
	require.NoError(t, err)
	defer dst.Close(w.ctx()) //nolint:errcheck // nothing is lost with it
	catalogTx(w, func(ctx context.Context, tx pgx.Tx) error {
		return w.store.InsertDatabase(ctx, tx, catalog.Database{Shard: "b", Name: p.Database, State: catalog.DatabaseTarget, Tenant: "acme"})
	})
	require.NoError(t, shard.CreateTarget(w.ctx(), src, dst, p.Database))
	require.NoError(t, shard.Fence(w.ctx(), src, p.Database))
	soon := time.Now().Add(100 * time.Millisecond)
	catalogTx(w, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := w.store.FlipPlacement(ctx, tx, "acme", p, "b"); err != nil {
			return err
		}
		_, err := w.store.SetDatabaseState(ctx, tx, "a", p.Database, []catalog.DatabaseState{catalog.DatabaseRetired}, catalog.DatabaseRetired, &soon)
		return err
	})
	require.NoError(t, shard.Unfence(w.ctx(), dst, p.Database))
	require.NoError(t, w.fleet.SetRoute(w.ctx(), "a", p.Database, "b"))
	_, err = client.Exec(w.ctx(), "SELECT 1")
	require.NoError(t, err)

	w.run(w.Run)
	pgtest.Eventually(t, "the source is dropped", func() bool { return !w.exists("a", p.Database) })
	_, err = client.Exec(w.ctx(), "SELECT 1")
	require.NoError(t, err, "the client goes on at b through a's PgBouncer")
	d, err := w.store.GetDatabase(w.ctx(), "a", p.Database)
	require.NoError(t, err)
	require.Equal(t, catalog.DatabaseDropping, d.State)
	require.NoError(t, client.Close(w.ctx()))
	pgtest.Eventually(t, "the entry is dropped", func() bool {
		_, err := w.store.GetDatabase(w.ctx(), "a", p.Database)
		return err != nil
	})
	routes, err := w.fleet.Routes(w.ctx(), "a")
	require.NoError(t, err)
	defer routes.Close()
	there, err := routes.Has(p.Database)
	require.NoError(t, err)
	require.False(t, there)
	now, err := w.store.GetPlacement(w.ctx(), "acme")
	require.NoError(t, err)
	conn, err := w.login(now)
	require.NoError(t, err, "secret and target are untouched")
	require.NoError(t, conn.Close(w.ctx()))
}

// An entry that leads to an address which its shard no longer has is mended,
// unless an operation of its tenant is about to decide where it leads.
func TestRoutesFollowAShardsAddress(t *testing.T) {
	w := newWorld(t, provision.Options{}, "a", "b")
	stopEngine := w.run(w.engine.Run)
	var places []shardmap.Placement
	for _, id := range []shardmap.TenantID{"idle", "busy"} {
		w.done(w.Create(w.ctx(), provision.CreateSpec{ID: id, Fit: catalog.Fit{Shard: "b"}}, tester, ""))
		p, err := w.store.GetPlacement(w.ctx(), id)
		require.NoError(t, err)
		places = append(places, p)
		require.NoError(t, w.fleet.SetRoute(w.ctx(), "a", p.Database, "b"))
		t.Cleanup(func() { require.NoError(t, w.fleet.DropRoute(w.ctx(), "a", p.Database)) })
	}
	idle, busy := places[0], places[1]
	stopEngine()
	_, err := w.Suspend(w.ctx(), "busy", tester, "") // nobody works on it
	require.NoError(t, err)

	b, err := w.store.GetShard(w.ctx(), "b")
	require.NoError(t, err)
	was := b.PostgresHost
	b.PostgresHost = "localhost"
	catalogTx(w, func(ctx context.Context, tx pgx.Tx) error { _, err := w.store.UpdateShard(ctx, tx, b); return err })
	a, err := w.store.GetShard(w.ctx(), "a")
	require.NoError(t, err)
	w.run(w.Run)
	leadsTo := func(database, host string) bool {
		text, err := os.ReadFile(a.RoutesFile)
		require.NoError(t, err)
		return strings.Contains(string(text), fmt.Sprintf("%s = host='%s' port=%d ", database, host, b.PostgresPort))
	}
	pgtest.Eventually(t, "the entry follows", func() bool { return leadsTo(idle.Database, "localhost") })
	require.True(t, leadsTo(busy.Database, was))
	console, err := w.fleet.Console(w.ctx(), "a")
	require.NoError(t, err)
	defer console.Close()
	pgtest.Eventually(t, "PgBouncer knows", func() bool {
		entries, err := console.Databases(w.ctx())
		require.NoError(t, err)
		return entries[idle.Database].Host == "localhost"
	})
}

// A schema that can't be had must not keep expired logins open.
func TestExpiredLoginsAreSweptThoughTheSchemaIsBroken(t *testing.T) {
	w := newWorld(t, provision.Options{}, "a")
	w.run(w.engine.Run)
	p := w.create("acme")
	conn, err := w.fleet.Admin(w.ctx(), p.Shard, "postgres")
	require.NoError(t, err)
	defer conn.Close(w.ctx()) //nolint:errcheck // nothing is lost with it
	login, _, err := shard.TempLogin(w.ctx(), conn, p.Database, shard.AccessOwner, time.Second)
	require.NoError(t, err)
	w.replica(provision.Options{MigrationsDir: t.TempDir()}) // holds no migration
	w.run(w.Run)
	pgtest.Eventually(t, "the login is dropped", func() bool {
		return w.onServer(p.Shard, "SELECT count(*) FROM pg_roles WHERE rolname = $1", login.User) == 0
	})
}

// A database that can't be dropped, whatever the reason, keeps neither the next
// one from being dropped nor the pool from being filled.
func TestAStubbornLeftoverIsInNobodysWay(t *testing.T) {
	w := newWorld(t, provision.Options{WarmPool: 1}, "a")
	const stubborn, easy = "t_00000000000000b1", "t_00000000000000b2"
	conn, err := w.fleet.Admin(w.ctx(), "a", "postgres")
	require.NoError(t, err)
	defer conn.Close(w.ctx()) //nolint:errcheck // nothing is lost with it
	for _, name := range []string{stubborn, easy} {
		catalogTx(w, func(ctx context.Context, tx pgx.Tx) error {
			return w.store.InsertDatabase(ctx, tx, catalog.Database{Shard: "a", Name: name, State: catalog.DatabaseBuilding})
		})
	}
	_, err = conn.Exec(w.ctx(), "CREATE DATABASE "+stubborn+" IS_TEMPLATE true") // which no DROP takes
	require.NoError(t, err)
	t.Cleanup(func() {
		conn, err := w.fleet.Admin(w.ctx(), "a", "postgres")
		require.NoError(t, err)
		defer conn.Close(w.ctx()) //nolint:errcheck // nothing is lost with it
		for _, sql := range []string{"ALTER DATABASE " + stubborn + " IS_TEMPLATE false", "DROP DATABASE " + stubborn} {
			_, err = conn.Exec(w.ctx(), sql)
			require.NoError(t, err)
		}
	})
	w.run(w.Run)
	pgtest.Eventually(t, "the pool fills", func() bool { return w.ready("a") == 1 })
	_, err = w.store.GetDatabase(w.ctx(), "a", easy)
	require.ErrorIs(t, err, catalog.ErrNotFound)
	d, err := w.store.GetDatabase(w.ctx(), "a", stubborn)
	require.NoError(t, err)
	require.Equal(t, catalog.DatabaseDropping, d.State, "it is not forgotten")
}

func TestOneReplicaTendsAShard(t *testing.T) {
	w := newWorld(t, provision.Options{WarmPool: 3}, "a")
	w.run(w.Run)
	second := &world{t: t, store: w.store, secrets: w.secrets}
	second.replica(provision.Options{WarmPool: 3})
	second.run(second.Run)
	pgtest.Eventually(t, "the pool fills", func() bool { return w.ready("a") == 3 })
	rows, _, err := w.store.ListDatabases(w.ctx(), catalog.DatabaseFilter{Shard: "a"}, catalog.Page{})
	require.NoError(t, err)
	require.Len(t, rows, 3, "nobody made too many")
}

// A creation that can't be finished takes everything back.
func TestAFailedCreationLeavesNothing(t *testing.T) {
	w := newWorld(t, provision.Options{}, "a")
	w.run(w.engine.Run)
	op, err := w.Create(w.ctx(), provision.CreateSpec{ID: "acme"}, tester, "")
	require.NoError(t, err)
	if _, err = w.engine.Cancel(w.ctx(), op.ID, tester); err != nil {
		require.ErrorIs(t, err, operation.ErrPastNoReturn) // it was quicker
		return
	}
	op = w.ended(op, nil)
	require.Equal(t, operation.Canceled, op.State)
	rows, _, err := w.store.ListDatabases(w.ctx(), catalog.DatabaseFilter{}, catalog.Page{})
	require.NoError(t, err)
	require.Empty(t, rows)
	_, err = w.store.GetTenant(w.ctx(), "acme")
	require.ErrorIs(t, err, catalog.ErrNotFound)
}

// A database that an older version made gets the logins that came since, with
// the verifiers that follow from its secret, and keeps the one it has.
func TestOlderDatabasesGetTheirLogins(t *testing.T) {
	w := newWorld(t, provision.Options{}, "a")
	stopEngine := w.run(w.engine.Run)
	p := w.create("acme")
	stopEngine()
	conn, err := w.fleet.Admin(w.ctx(), "a", "postgres")
	require.NoError(t, err)
	defer conn.Close(w.ctx()) //nolint:errcheck // nothing is lost with it
	var before, after string
	verifier := "SELECT rolpassword FROM pg_authid WHERE rolname = '" + shard.AuthLogin(p.Database) + "'"
	require.NoError(t, conn.QueryRow(w.ctx(), verifier).Scan(&before))
	document, _, err := w.secrets.Get(w.ctx(), secret.DatabaseAuth(p.Database))
	require.NoError(t, err)
	var logins []secret.Login
	for l := range tenantdb.Login(tenantdb.Logins) {
		login, err := l.From(document, p.Database)
		require.NoError(t, err)
		logins = append(logins, login)
		if l != tenantdb.REST {
			_, err = conn.Exec(w.ctx(), "DROP OWNED BY "+login.User+"; DROP ROLE "+login.User, pgx.QueryExecModeSimpleProtocol)
			require.NoError(t, err)
		}
	}
	lacking, err := shard.LackingLogins(w.ctx(), conn, "", 1000)
	require.NoError(t, err)
	require.Contains(t, lacking, p.Database)

	w.run(w.Run)
	on, err := w.store.GetShard(w.ctx(), p.Shard)
	require.NoError(t, err)
	for _, login := range logins {
		pgtest.Eventually(t, login.User+" gets in", func() bool {
			c, err := pgtest.Channel(t).Connect(w.ctx(), on.BouncerHost, on.BouncerPort, p.Database, login)
			if err != nil {
				return false
			}
			return c.Close(w.ctx()) == nil
		})
	}
	require.NoError(t, conn.QueryRow(w.ctx(), verifier).Scan(&after))
	require.Equal(t, before, after)
	require.Equal(t, 4, w.onServer("a", "SELECT count(*) FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole WHERE r.rolname LIKE $1 AND setdatabase <> 0 AND 'statement_timeout=30000ms' = ANY(setconfig)", p.Database+"%"))
}

// A database that an older version made has what its template left open closed,
// and nobody's reading of its schema is thrown away for it.
func TestOlderDatabasesAreHardened(t *testing.T) {
	w := newWorld(t, provision.Options{}, "a")
	stopEngine := w.run(w.engine.Run)
	p := w.create("acme")
	stopEngine()
	inside, err := w.fleet.Admin(w.ctx(), "a", p.Database)
	require.NoError(t, err)
	defer inside.Close(w.ctx()) //nolint:errcheck // nothing is lost with it
	const open = `SELECT count(*) FROM pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) x WHERE x.grantee = 0 AND proname IN ('pg_logical_emit_message', 'lo_create')`
	var n int
	require.NoError(t, inside.QueryRow(w.ctx(), open).Scan(&n))
	require.Zero(t, n)
	_, err = inside.Exec(w.ctx(), "COMMENT ON ROLE "+p.Database+" IS NULL; GRANT EXECUTE ON FUNCTION pg_catalog.pg_logical_emit_message(boolean, text, text), pg_catalog.lo_create(oid) TO PUBLIC;"+
		"CREATE OR REPLACE FUNCTION freehold.expect(stamp bigint) RETURNS void LANGUAGE plpgsql AS 'BEGIN END'", pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	var before, after int64
	require.NoError(t, inside.QueryRow(w.ctx(), schemachange.Stamp).Scan(&before))
	softer, err := shard.Softer(w.ctx(), inside, "", 1000)
	require.NoError(t, err)
	require.Contains(t, softer, p.Database)

	w.run(w.Run)
	pgtest.Eventually(t, "it is closed", func() bool {
		require.NoError(t, inside.QueryRow(w.ctx(), open).Scan(&n))
		return n == 0
	})
	softer, err = shard.Softer(w.ctx(), inside, "", 1000)
	require.NoError(t, err)
	require.NotContains(t, softer, p.Database)
	require.NoError(t, inside.QueryRow(w.ctx(), schemachange.Stamp).Scan(&after))
	require.Equal(t, before, after)
	_, err = inside.Exec(w.ctx(), "SELECT "+schemachange.Expect, after+1)
	require.ErrorContains(t, err, schemachange.Code, "the check is today's")
}
