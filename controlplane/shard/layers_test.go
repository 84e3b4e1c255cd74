package shard_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
)

// A tenant's login at another tenant's database, as a router gone wrong would
// bring it there, is refused at each layer; and when that one is switched off,
// at the next. (What comes before the login, the token and the placement, is the
// gateway's and the router's: see test/e2e.)
func TestEachLayerHoldsWithoutTheOneAbove(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	mine, other := newName(t), newName(t)
	login, theirs := f.Database(t, "a", mine), f.Database(t, "a", other)
	server, inside := admin(t, f, "a", "postgres"), admin(t, f, "a", other)
	_, err := inside.Exec(ctx, "INSERT INTO public.customers (name) VALUES ('theirs')")
	require.NoError(t, err)
	// attempt reads the other tenant's rows by the door and returns the refusal.
	attempt := func(door func(context.Context, *shardtest.Fleet, string, secret.Login) (*pgx.Conn, error)) error {
		conn, err := door(ctx, f, other, login)
		if err != nil {
			return err
		}
		defer conn.Close(ctx) //nolint:errcheck // the server notices either way
		_, err = conn.Exec(ctx, "SELECT * FROM public.customers")
		return err
	}
	bouncer := func(ctx context.Context, f *shardtest.Fleet, db string, l secret.Login) (*pgx.Conn, error) {
		return bounced(ctx, f, "a", db, l)
	}
	postgres := func(ctx context.Context, f *shardtest.Fleet, db string, l secret.Login) (*pgx.Conn, error) {
		return direct(ctx, f, "a", db, l)
	}
	off := func(layer, sql string) {
		t.Helper()
		_, err := inside.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err, layer)
	}
	require.NoError(t, attemptAs(ctx, f, other, theirs, shard.RORole(other)), "the control: its own login reads it")

	// PgBouncer's lookup does not know the login there.
	require.ErrorContains(t, attempt(bouncer), "no such user")
	off("lookup", `CREATE OR REPLACE FUNCTION freehold.lookup(login text) RETURNS TABLE (usename name, passwd text)
		LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT rolname, rolpassword FROM pg_catalog.pg_authid WHERE rolname = login'`)

	// pg_hba.conf: the login is no member of the database's anchor. PgBouncer
	// hands on what Postgres said, or says for a moment that it keeps failing.
	require.Error(t, attempt(bouncer))
	require.Equal(t, "28000", pg.Code(attempt(postgres)))
	off("pg_hba.conf", "GRANT "+other+" TO "+login.User)

	// CONNECT.
	require.Error(t, attempt(bouncer))
	err = attempt(postgres)
	require.Equal(t, "42501", pg.Code(err))
	require.ErrorContains(t, err, "permission denied for database")
	off("CONNECT", "GRANT CONNECT ON DATABASE "+other+" TO "+login.User)

	// The privileges on schema and tables: at either door now.
	err = attempt(postgres)
	require.Equal(t, "42501", pg.Code(err))
	require.ErrorContains(t, err, "permission denied for schema")
	pgtest.Eventually(t, "PgBouncer lets it through", func() bool {
		err := attempt(bouncer)
		require.Error(t, err)
		return pg.Code(err) == "42501"
	})
	off("schema", "GRANT USAGE ON SCHEMA public TO "+login.User)
	err = attempt(postgres)
	require.Equal(t, "42501", pg.Code(err))
	require.ErrorContains(t, err, "permission denied for table")
	conn, err := direct(ctx, f, "a", other, login)
	require.NoError(t, err)
	defer conn.Close(ctx) //nolint:errcheck // ends with the test
	for _, role := range []string{shard.OwnerRole(other), shard.RWRole(other), shard.RORole(other), shard.AuthLogin(other)} {
		require.Error(t, become(ctx, conn, role, "SELECT 1"), "it becomes none of the other's roles")
	}
	// And when that is switched off as well, it is in: nothing else kept it out.
	off("table", "GRANT SELECT ON public.customers TO "+login.User)
	require.NoError(t, attempt(postgres))
	off("clean up", "REVOKE "+other+" FROM "+login.User)
	_, err = server.Exec(ctx, "SELECT 1")
	require.NoError(t, err)
}

func attemptAs(ctx context.Context, f *shardtest.Fleet, db string, login secret.Login, role string) error {
	conn, err := bounced(ctx, f, "a", db, login)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // the server notices either way
	return become(ctx, conn, role, "SELECT * FROM public.customers")
}

// The lookup shows PgBouncer one row: the verifier of a login of this very
// database that may log in now. Nothing else that the role may see is a secret.
func TestLookupShowsOneRowAndNothingElse(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	mine, other := newName(t), newName(t)
	document, _ := f.Database(t, "a", mine), f.Database(t, "a", other)
	server := admin(t, f, "a", "postgres")
	expired, _, err := shard.TempLogin(ctx, server, mine, shard.AccessRO, -time.Minute)
	require.NoError(t, err)
	person := temporary(t, f, "a", mine, shard.AccessRO)
	mover, err := f.Mover(ctx, "a", mine)
	require.NoError(t, err)
	defer mover.Close()
	conn, err := direct(ctx, f, "a", mine, shardtest.Server(t, "a").Auth)
	require.NoError(t, err)
	defer conn.Close(ctx) //nolint:errcheck // ends with the test
	shown := func(login string) []string {
		rows, err := conn.Query(ctx, "SELECT usename::text FROM freehold.lookup($1)", login)
		require.NoError(t, err)
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return names
	}
	for _, l := range append(every(t, mine, document), person) {
		require.Equal(t, []string{l.User}, shown(l.User))
	}
	for _, hidden := range []string{
		shard.AuthLogin(other), mine, shard.OwnerRole(mine), shard.RWRole(mine), "freehold_admin", "freehold_bouncer", "postgres", expired.User, mover.Login().User,
		"%", "", "' OR true --", shard.AuthLogin(mine) + " ", "T_" + mine[2:] + "_auth_a", mine + "_auth_%",
	} {
		require.Empty(t, shown(hidden), hidden)
	}
	for _, sql := range []string{"SELECT rolpassword FROM pg_authid", "SELECT * FROM pg_shadow", "SELECT * FROM public.customers", "SELECT * FROM freehold.barrier",
		"SELECT * FROM pg_stat_activity", "SET ROLE " + shard.RORole(mine), "CREATE TABLE public.x ()", "CREATE TEMPORARY TABLE x ()", "SELECT lo_create(0)"} {
		_, err := conn.Exec(ctx, sql)
		require.Equal(t, "42501", pg.Code(err), sql)
	}
	for _, db := range []string{"postgres", "template1", shard.TemplateApp} {
		_, err := direct(ctx, f, "a", db, shardtest.Server(t, "a").Auth)
		require.Error(t, err, db)
	}
}

// Several copies of one database begin at once, the first there ever are.
func TestMoversAtOnce(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	db := newName(t)
	f.Database(t, "a", db)
	require.NoError(t, shard.Fence(ctx, admin(t, f, "a", "postgres"), db))
	var g errgroup.Group
	for range 8 {
		g.Go(func() error {
			m, err := f.Mover(ctx, "a", db)
			if err != nil {
				return err
			}
			defer m.Close()
			conn, err := m.Connect(ctx, "test")
			if err != nil {
				return err
			}
			return conn.Close(ctx)
		})
	}
	require.NoError(t, g.Wait())
}
