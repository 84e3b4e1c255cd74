package shard_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/tenantdb"
)

// become runs one statement as a node does: login, role, one transaction, rolled back.
func become(ctx context.Context, conn *pgx.Conn, role, sql string) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // the connection stays usable either way
	if role != "" {
		if _, err := tx.Exec(ctx, "SELECT set_config('role', $1, true)", role); err != nil {
			return fmt.Errorf("become: %w", err)
		}
	}
	_, err = tx.Exec(ctx, sql)
	return err
}

func TestARequestMayWhatItsRoleMay(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	db := newName(t)
	login := f.Database(t, "a", db)
	conn, err := bounced(ctx, f, "a", db, login)
	require.NoError(t, err)
	defer conn.Close(ctx) //nolint:errcheck // ends with the test

	rw, ro := shard.RWRole(db), shard.RORole(db)
	allowed := []struct{ role, sql string }{
		{rw, "INSERT INTO customers (name) VALUES ('x') RETURNING id"},
		{rw, "UPDATE customers SET name = 'y'"},
		{rw, "DELETE FROM customers"},
		{rw, "INSERT INTO activity (what) VALUES ('x')"},
		{rw, "SELECT nextval('invoice_number')"},
		{rw, "SELECT invoice_total(1)"},
		{ro, "SELECT * FROM customers"},
		{ro, "SELECT * FROM open_invoices"},
		{ro, "SELECT invoice_total(1)"},
		{ro, "SELECT count(*) FROM pg_catalog.pg_class"},
		{ro, "SELECT table_name FROM information_schema.tables"},
	}
	for _, c := range allowed {
		require.NoError(t, become(ctx, conn, c.role, c.sql), "%s: %s", c.role, c.sql)
	}
	refused := []struct{ role, sql string }{
		{"", "SELECT * FROM customers"}, // the login by itself
		{ro, "INSERT INTO customers (name) VALUES ('x')"},
		{ro, "SELECT nextval('invoice_number')"},
		{ro, "TRUNCATE customers"},
		{rw, "TRUNCATE customers"},
		{rw, "CREATE TABLE public.mine ()"},
		{rw, "CREATE TEMPORARY TABLE mine ()"},
		{rw, "CREATE SCHEMA mine"},
		{rw, "ALTER TABLE customers ADD COLUMN x int"},
		{rw, "DROP TABLE customers CASCADE"},
		{rw, "SELECT * FROM migrations.goose_db_version"},
		{rw, "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'"},
		{rw, "CREATE EXTENSION pgcrypto"},
	}
	for _, c := range refused {
		require.Error(t, become(ctx, conn, c.role, c.sql), "%s: %s", c.role, c.sql)
	}
	var timeout string
	require.NoError(t, conn.QueryRow(ctx, "SHOW statement_timeout").Scan(&timeout))
	require.Equal(t, "30s", timeout)
	require.NoError(t, conn.QueryRow(ctx, "SHOW temp_file_limit").Scan(&timeout))
	require.Equal(t, "16MB", timeout)
	_, err = conn.Exec(ctx, "SET temp_file_limit = -1")
	require.Error(t, err, "it is not the tenant's to change")
	_, err = conn.Exec(ctx, "SELECT count(*) FROM (SELECT repeat(md5(n::text), 20) AS t FROM generate_series(1, 100000) n ORDER BY 1 OFFSET 1) s")
	require.ErrorContains(t, err, "temp_file_limit")

	// What the owner makes later is granted the same way.
	owner := temporary(t, f, "a", db, shard.AccessOwner)
	oc, err := direct(ctx, f, "a", db, owner)
	require.NoError(t, err)
	defer oc.Close(ctx) //nolint:errcheck // ends with the test
	for _, sql := range []string{
		"CREATE TABLE later (id bigserial PRIMARY KEY, v text)", "CREATE TYPE mood AS ENUM ('good')",
		"CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n'",
		"CREATE SCHEMA extra", "CREATE TEMPORARY TABLE scratch (x int)", "CREATE EXTENSION IF NOT EXISTS pgcrypto",
	} {
		_, err := oc.Exec(ctx, sql)
		require.NoError(t, err, sql)
	}
	require.NoError(t, become(ctx, conn, rw, "INSERT INTO later (v) VALUES (twice(2)::text)"))
	require.NoError(t, become(ctx, conn, ro, "SELECT * FROM later"))
	require.Error(t, become(ctx, conn, ro, "SELECT twice(2)"))
	require.Error(t, become(ctx, conn, ro, "DELETE FROM later"))
}

func temporary(t testing.TB, f *shardtest.Fleet, on, db string, as shard.Access) secret.Login {
	t.Helper()
	login, _, err := shard.TempLogin(bounded(t), admin(t, f, "a", "postgres"), db, as, time.Hour)
	require.NoError(t, err, on)
	return login
}

// every returns all of the platform's logins to a database.
func every(t testing.TB, db string, document secret.Login) (logins []secret.Login) {
	t.Helper()
	for l := range tenantdb.Login(tenantdb.Logins) {
		login, err := l.From(document, db)
		require.NoError(t, err)
		logins = append(logins, login)
	}
	return logins
}

// A tenant's login opens that tenant's database and nothing else, at either door.
func TestALoginIsRefusedEverywhereElse(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	mine, other := newName(t), newName(t)
	login, _ := f.Database(t, "a", mine), f.Database(t, "a", other)
	logins := append(every(t, mine, login), temporary(t, f, "a", mine, shard.AccessOwner), temporary(t, f, "a", mine, shard.AccessRO))
	for _, l := range logins {
		for _, connect := range []func(context.Context, *shardtest.Fleet, string) (*pgx.Conn, error){
			func(ctx context.Context, f *shardtest.Fleet, db string) (*pgx.Conn, error) {
				return direct(ctx, f, "a", db, l)
			},
			func(ctx context.Context, f *shardtest.Fleet, db string) (*pgx.Conn, error) {
				return bounced(ctx, f, "a", db, l)
			},
		} {
			conn, err := connect(ctx, f, mine)
			require.NoError(t, err, l.User)
			_, err = conn.Exec(ctx, "SELECT 1")
			require.NoError(t, err, l.User)
			require.NoError(t, conn.Close(ctx))
		}
		var wg sync.WaitGroup // PgBouncer takes its time to refuse a database that it can't look into
		for _, db := range []string{other, "postgres", "template1", "template0", shard.TemplateApp, shard.TemplateBase, "pgbouncer", "nowhere"} {
			wg.Go(func() {
				_, err := direct(ctx, f, "a", db, l)
				assert.Error(t, err, "%s directly to %s", l.User, db)
				_, err = bounced(ctx, f, "a", db, l)
				assert.Error(t, err, "%s through PgBouncer to %s", l.User, db)
			})
		}
		wg.Wait()
		_, err := direct(ctx, f, "a", other, l)
		require.Contains(t, []string{"28000", "42501"}, pg.Code(err), "%s", err)
		_, err = bounced(ctx, f, "a", other, l)
		require.ErrorContains(t, err, "no such user")
		bad := l
		bad.Password = pg.NewPassword()
		_, err = direct(ctx, f, "a", mine, bad)
		require.Equal(t, "28P01", pg.Code(err))
	}
	// The login that PgBouncer looks up with reads nothing of the tenant's.
	var n int
	conn := admin(t, f, "a", mine)
	require.NoError(t, conn.QueryRow(ctx, "SELECT count(*) FROM freehold.lookup($1)", shard.AuthLogin(other)).Scan(&n))
	require.Zero(t, n, "a lookup of another database's login")
	require.NoError(t, conn.QueryRow(ctx, "SELECT count(*) FROM freehold.lookup($1)", "freehold_admin").Scan(&n))
	require.Zero(t, n, "a lookup of the superuser")
	require.NoError(t, conn.QueryRow(ctx, "SELECT count(*) FROM freehold.lookup($1)", shard.AuthLogin(mine)).Scan(&n))
	require.Equal(t, 1, n)
	require.Error(t, become(ctx, conn, shard.BouncerRole, "SELECT * FROM public.customers"))
	// Even with the CONNECT privilege back by mistake pg_hba.conf refuses.
	_, err := admin(t, f, "a", "postgres").Exec(ctx, "GRANT CONNECT ON DATABASE "+pg.Ident(other)+" TO PUBLIC")
	require.NoError(t, err)
	_, err = direct(ctx, f, "a", other, login)
	require.Equal(t, "28000", pg.Code(err))
}

// Nothing that the owner (the strongest role a tenant has) or the data plane's
// login tries reaches another tenant or the server.
func TestAttacksFromInside(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	mine, other := newName(t), newName(t)
	login, _ := f.Database(t, "a", mine), f.Database(t, "a", other)
	owner, logins := temporary(t, f, "a", mine, shard.AccessOwner), every(t, mine, login)
	x := func(sql string) string {
		return strings.NewReplacer("{mine}", mine, "{other}", other).Replace(sql)
	}
	attacks := []string{
		// To become someone.
		"SET ROLE {other}_owner", "SET ROLE {other}_rw", "SET ROLE freehold_admin", "SET ROLE freehold_bouncer", "SET ROLE freehold_app_owner",
		"SET SESSION AUTHORIZATION freehold_admin", "SET ROLE pg_read_all_data", "SET ROLE pg_execute_server_program",
		"GRANT {other}_owner TO {mine}_owner", "GRANT pg_monitor TO {mine}_owner", "GRANT freehold_admin TO {mine}_owner",
		"CREATE ROLE intruder", "ALTER ROLE {mine}_owner CREATEROLE", "ALTER ROLE {mine}_owner SUPERUSER", "ALTER ROLE {other}_auth_a PASSWORD 'x'",
		"ALTER ROLE freehold_bouncer PASSWORD 'x'", "DROP ROLE {other}_auth_a",
		// To change a database from outside or around it.
		"ALTER DATABASE {mine} CONNECTION LIMIT 1000", "ALTER DATABASE {mine} OWNER TO {mine}_owner", "ALTER DATABASE {mine} RENAME TO intruder",
		"DROP DATABASE {mine}", "DROP DATABASE {other}", "CREATE DATABASE intruder", "CREATE DATABASE intruder TEMPLATE freehold_app",
		"ALTER DATABASE {mine} SET search_path = intruder", "ALTER DATABASE {other} SET search_path = intruder",
		// To read others' secrets and doings.
		"SELECT * FROM pg_authid", "SELECT * FROM pg_shadow", "SELECT rolpassword FROM pg_authid", "SELECT * FROM freehold.lookup('{mine}_auth_a')",
		"SELECT * FROM pg_stat_activity", "SELECT * FROM pg_stat_get_activity(NULL)", "SELECT * FROM pg_stat_replication", "SELECT * FROM pg_locks",
		"SELECT * FROM pg_lock_status()", "SELECT * FROM pg_stat_database", "SELECT * FROM pg_prepared_xacts", "SELECT * FROM pg_replication_slots",
		"SELECT * FROM pg_db_role_setting", "SELECT pg_database_size('{other}')", "SELECT * FROM pg_hba_file_rules", "SELECT * FROM pg_file_settings",
		"SELECT * FROM pg_stat_ssl", "SELECT * FROM pg_stat_get_backend_activity(1)", "SELECT pg_tablespace_size('pg_default')",
		"SELECT * FROM freehold.barrier", "INSERT INTO freehold.barrier (id) VALUES (gen_random_uuid())", "DROP SCHEMA freehold CASCADE",
		"CREATE TABLE freehold.mine ()", "SELECT * FROM pg_subscription", "SELECT * FROM pg_user_mapping",
		// To reach files and programs.
		"COPY public.customers TO PROGRAM 'id'", "COPY public.customers FROM '/etc/passwd'", "COPY public.customers TO '/tmp/freehold-attack'",
		"SELECT pg_read_file('/etc/passwd')", "SELECT pg_ls_dir('.')", "SELECT pg_stat_file('PG_VERSION')", "SELECT pg_read_binary_file('PG_VERSION')",
		"SELECT lo_import('/etc/passwd')", "SELECT lo_export(1, '/tmp/freehold-attack')", "SELECT lo_create(0)", "SELECT lo_from_bytea(0, 'x')", "SELECT lo_creat(-1)",
		"SELECT pg_current_logfile()", "SELECT pg_ls_logdir()", "SELECT pg_ls_waldir()", "LOAD 'auto_explain'",
		"CREATE FUNCTION public.sh(cstring) RETURNS int LANGUAGE c AS 'libc.so.6', 'system'", "CREATE LANGUAGE plpython3u", "CREATE EXTENSION file_fdw",
		"CREATE EXTENSION dblink", "CREATE EXTENSION postgres_fdw", "CREATE EXTENSION adminpack", "CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw",
		"CREATE TABLESPACE intruder LOCATION '/tmp'",
		// To disturb the server.
		"ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()", "SELECT pg_rotate_logfile()", "CHECKPOINT", "SELECT pg_switch_wal()",
		"SELECT pg_create_restore_point('x')", "SELECT pg_promote()", "SELECT pg_create_logical_replication_slot('x', 'pgoutput')",
		"SELECT pg_create_physical_replication_slot('x')", "SELECT pg_drop_replication_slot('x')", "CREATE SUBSCRIPTION s CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false)",
		"CREATE PUBLICATION p FOR ALL TABLES", "SELECT pg_replication_origin_create('x')", "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION touch()",
		"SELECT pg_terminate_backend((SELECT min(pid) FROM pg_stat_activity))", "SELECT pg_cancel_backend(1)", "SET session_replication_role = replica",
		"SET log_statement = 'none'", "SET temp_file_limit = -1", "SET wal_compression = off", "SET zero_damaged_pages = on",
		"SELECT pg_stat_reset()", "SELECT pg_log_backend_memory_contexts(1)",
		"SELECT pg_logical_emit_message(false, 'x', 'x')", "SELECT pg_logical_emit_message(true, 'x', '\\x00'::bytea)",
		"SELECT set_config('allow_system_table_mods', 'on', false)",
		"CREATE FUNCTION pg_catalog.evil() RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE CAST (int AS text) WITH INOUT AS IMPLICIT",
		"UPDATE pg_catalog.pg_class SET relowner = 10", "REASSIGN OWNED BY freehold_app_owner TO {mine}_owner", "ALTER TABLE public.customers OWNER TO {other}_owner",
		"SECURITY LABEL ON TABLE public.customers IS 'x'", "ALTER DEFAULT PRIVILEGES FOR ROLE {other}_owner GRANT ALL ON TABLES TO PUBLIC",
	}
	require.Greater(t, len(attacks), 80)
	for who, l := range map[string]struct {
		login secret.Login
		roles []string
	}{
		"owner":  {owner, []string{""}},
		"auth":   {login, []string{"", shard.RWRole(mine), shard.RORole(mine)}},
		"own":    {logins[tenantdb.Owner], []string{"", logins[tenantdb.Owner].User}},
		"sql_rw": {logins[tenantdb.SQLWrite], []string{"", logins[tenantdb.SQLWrite].User}},
		"sql_ro": {logins[tenantdb.SQLRead], []string{"", logins[tenantdb.SQLRead].User}},
	} {
		conn, err := direct(ctx, f, "a", mine, l.login)
		require.NoError(t, err)
		defer conn.Close(ctx) //nolint:errcheck // ends with the test
		for _, role := range l.roles {
			for _, sql := range attacks {
				if strings.Contains(sql, "pg_cancel_backend(1)") { // a pid that is none of Postgres' gives a warning and false
					var hit bool
					if conn.QueryRow(ctx, sql).Scan(&hit) == nil {
						require.False(t, hit)
					}
					continue
				}
				require.Error(t, become(ctx, conn, role, x(sql)), "%s as %q: %s", who, role, sql)
			}
		}
	}
	// Names leak through pg_roles and pg_database (they are opaque), rows don't.
	conn, err := direct(ctx, f, "a", mine, owner)
	require.NoError(t, err)
	defer conn.Close(ctx) //nolint:errcheck // ends with the test
	var n int
	require.NoError(t, conn.QueryRow(ctx, "SELECT count(*) FROM pg_database WHERE has_database_privilege(datname, 'CONNECT') AND datname <> current_database()").Scan(&n))
	require.Zero(t, n)
}

// From each login only the roles can be reached that requests by it may work as.
func TestALoginReachesItsOwnRolesOnly(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	db := newName(t)
	logins := every(t, db, f.Database(t, "a", db))
	owner, rw, ro := shard.OwnerRole(db), shard.RWRole(db), shard.RORole(db)
	for l, reach := range map[tenantdb.Login][]string{
		tenantdb.REST: {rw, ro}, tenantdb.Owner: {owner}, tenantdb.SQLWrite: {rw}, tenantdb.SQLRead: {ro},
	} {
		conn, err := bounced(ctx, f, "a", db, logins[l])
		require.NoError(t, err)
		defer conn.Close(ctx) //nolint:errcheck // ends with the test
		var works string
		require.NoError(t, conn.QueryRow(ctx, "SELECT current_user::text").Scan(&works))
		if want := reach[0]; l != tenantdb.REST {
			require.Equal(t, want, works)
		}
		reach = append(reach, db) // the anchor has nothing
		for _, role := range []string{owner, rw, ro, db} {
			err := become(ctx, conn, role, "SELECT 1")
			require.Equal(t, slices.Contains(reach, role), err == nil, "%s as %s: %v", l, role, err)
		}
		for _, other := range logins {
			if other.User != logins[l].User {
				require.Error(t, become(ctx, conn, other.User, "SELECT 1"), "%s as %s", l, other.User)
			}
		}
	}
	// What the owner's login makes belongs to the role, so that it outlives the login.
	conn, err := bounced(ctx, f, "a", db, logins[tenantdb.Owner])
	require.NoError(t, err)
	defer conn.Close(ctx) //nolint:errcheck // ends with the test
	_, err = conn.Exec(ctx, "CREATE TABLE made (id int)")
	require.NoError(t, err)
	var of string
	require.NoError(t, conn.QueryRow(ctx, "SELECT tableowner FROM pg_tables WHERE tablename = 'made'").Scan(&of))
	require.Equal(t, owner, of)
	rest, err := bounced(ctx, f, "a", db, logins[tenantdb.REST])
	require.NoError(t, err)
	defer rest.Close(ctx) //nolint:errcheck // ends with the test
	require.NoError(t, become(ctx, rest, ro, "SELECT * FROM made"))
	require.NoError(t, become(ctx, rest, rw, "INSERT INTO made VALUES (1)"))
}

// A login can give itself away (on Postgres 15 everyone may, for himself), but not the database.
func TestALoginGivenAwayOpensNothing(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	mine, other := newName(t), newName(t)
	logins, theirs := every(t, mine, f.Database(t, "a", mine)), every(t, other, f.Database(t, "a", other))
	for _, l := range logins {
		conn, err := direct(ctx, f, "a", mine, l)
		require.NoError(t, err)
		defer conn.Close(ctx) //nolint:errcheck // ends with the test
		_, err = conn.Exec(ctx, "RESET ROLE")
		require.NoError(t, err)
		for _, to := range theirs {
			_, _ = conn.Exec(ctx, "SET ROLE "+l.User)
			_, _ = conn.Exec(ctx, "GRANT "+l.User+" TO "+to.User) // whether Postgres lets it or not
		}
	}
	for _, to := range theirs {
		_, err := direct(ctx, f, "a", mine, to)
		require.Error(t, err, to.User)
		_, err = bounced(ctx, f, "a", mine, to)
		require.Error(t, err, to.User)
	}
}
