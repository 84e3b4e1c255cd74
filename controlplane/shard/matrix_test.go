package shard_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/tenantdb"
)

// who are the columns of the matrix: every kind of session there is at a shard.
//
//	auth    the REST login by itself, before it becomes anybody
//	rw ro   what editors' and viewers' REST requests become
//	custom  what a request with a role of the tenant's own becomes
//	own     owners, by REST and /sql
//	sqlrw   editors' own SQL
//	sqlro   viewers' own SQL
//	person  a person's temporary login as the owner
//	mover   a copy's login
//	bouncer PgBouncer's lookups
//	admin   the control plane
var who = strings.Fields("auth rw ro custom own sqlrw sqlro person mover bouncer admin")

// matrix says who may what, a line each: + may, - is refused, x is not asked.
// {mine} is the session's own database, {other} another tenant's.
var matrix = []struct{ may, class, sql string }{
	// auth rw ro custom own sqlrw sqlro person mover bouncer admin
	{"- + + + + + + + + - +", "schema: use", "SELECT 1/has_schema_privilege('public', 'USAGE')::int"},
	{"- - - - + - - + + - +", "schema: make", "CREATE SCHEMA made"},
	{"- - - - + - - + + - +", "schema: the migrations'", "SELECT FROM migrations.goose_db_version"},
	{"- - - - - - - - - - +", "schema: the platform's", "SELECT FROM freehold.barrier"},
	{"- - - - - - - - - - +", "schema: the platform's, to change", "CREATE TABLE freehold.made (x int)"},
	{"- + + - + + + + + - +", "table: read", "SELECT FROM public.customers"},
	{"- + - - + + - + + - +", "table: insert", "INSERT INTO public.customers (name) VALUES ('x')"},
	{"- + - - + + - + + - +", "table: update", "UPDATE public.customers SET name = 'x'"},
	{"- + - - + + - + + - +", "table: delete", "DELETE FROM public.activity"},
	{"- - - - + - - + + - +", "table: truncate", "TRUNCATE public.activity"},
	{"- - - - + - - + + - +", "table: alter", "ALTER TABLE public.customers ADD COLUMN x int"},
	{"- - - - + - - + + - +", "table: make", "CREATE TABLE public.made (x int)"},
	{"- - - - + - - + + - +", "table: temporary", "CREATE TEMPORARY TABLE made (x int)"},
	{"- - - - + - - + + - +", "table: drop", "DROP TABLE public.customers CASCADE"},
	{"- - - - + - - + + - +", "table: share", "DO $$ BEGIN GRANT SELECT ON public.customers TO freehold_bouncer; IF NOT has_table_privilege('freehold_bouncer', 'public.customers', 'SELECT') THEN RAISE insufficient_privilege; END IF; END $$"},
	{"- - - - - - - - + - +", "table: past its policies", "SELECT FROM public.guarded"},
	{"- + - - + + - + + - +", "sequence: next", "SELECT nextval('public.invoice_number')"},
	{"- - - - + - - + + - +", "sequence: set", "SELECT setval('public.invoice_number', 7)"},
	{"- + + - + + + + + - +", "function: call", "SELECT public.invoice_total(1)"},
	{"- + - - + + - + + - +", "function: call what writes", "SELECT public.settle(1)"},
	{"- - - - + - - + + - +", "function: make", "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'"},
	{"- - - - - - - - - - x", "function: in C", "CREATE FUNCTION public.f(cstring) RETURNS int LANGUAGE c AS 'libc.so.6', 'system'"},
	{"- + + + + + + + + - +", "type: use", "SELECT 'good'::public.mood"},
	{"- - - - + - - + + - +", "type: make", "CREATE TYPE public.t AS ENUM ('x')"},
	{"- - - - + - - + + - +", "extension: trusted", "CREATE EXTENSION pgcrypto SCHEMA public"},
	{"- - - - - - - - - - +", "extension: other servers", "CREATE EXTENSION dblink SCHEMA public"},
	{"+ + + + + + + + + + +", "catalog: tables", "SELECT FROM pg_class"},
	{"- - - - - - - - - - +", "catalog: verifiers", "SELECT FROM pg_authid"},
	{"- - - - - - - - - - +", "catalog: sessions", "SELECT FROM pg_stat_activity"},
	{"- - - - - - - - - - +", "catalog: locks", "SELECT FROM pg_locks"},
	{"- - - - - - - - - - +", "catalog: settings of roles", "SELECT FROM pg_db_role_setting"},
	{"- - - - - - - - - - +", "catalog: passwords of links", "SELECT subconninfo FROM pg_subscription"},
	{"- - - - - - - - - - +", "catalog: to change", "UPDATE pg_class SET relowner = relowner WHERE false"},
	{"- - - - - - - - - + +", "lookup: own verifiers", "SELECT FROM freehold.lookup('{mine}_auth_a')"},
	{"- - - - - - - - - - +", "log: write", "SELECT pg_logical_emit_message(true, 'x', 'x')"},
	{"- - - - - - - - - - +", "large object: make", "SELECT lo_create(0)"},
	{"- - - - - - - - - - +", "file: read", "SELECT pg_read_file('PG_VERSION')"},
	{"- - - - - - - - - - +", "file: write", "COPY (SELECT 1) TO '/dev/null'"},
	{"- - - - - - - - - - +", "program: run", "COPY (SELECT 1) TO PROGRAM 'cat > /dev/null'"},
	{"- - - - - - - - - - +", "role: make", "CREATE ROLE made_{mine}"},
	{"- - - - - - - - - - +", "role: more rights", "ALTER ROLE {mine}_owner CREATEROLE"},
	{"- - - - - - - - - - +", "role: more members", "GRANT {mine}_owner TO {mine}_auth_a"},
	{"- - - - - - - - - - +", "role: the server's", "GRANT pg_read_all_data TO {mine}_owner"},
	{"- - - - - - - - - - +", "role: another's password", "ALTER ROLE {other}_auth_a PASSWORD NULL"},
	{"- - - - + - - + + - +", "role: become the owner", "SET ROLE {mine}_owner"},
	{"+ + + + - + - - + - +", "role: become rw", "SET ROLE {mine}_rw"},
	{"+ + + + - - + - + - +", "role: become ro", "SET ROLE {mine}_ro"},
	{"- - - - - - - - - - +", "role: become another tenant", "SET ROLE {other}_ro"},
	{"- - - - - - - - - - +", "role: become the platform", "SET SESSION AUTHORIZATION freehold_admin"},
	{"- - - - - - - - - - x", "role: give to another tenant", "ALTER TABLE public.customers OWNER TO {other}_owner"},
	{"- - - - - - - - - - +", "database: make", "SELECT 1/rolcreatedb::int FROM pg_roles WHERE rolname = current_user"},
	{"- - - - - - - - - - +", "database: its settings", "ALTER DATABASE {mine} SET work_mem = '1MB'"},
	{"- - - - - - - - - - +", "database: its door", "DO $$ BEGIN GRANT CONNECT ON DATABASE {mine} TO {other}_auth_a; IF NOT has_database_privilege('{other}_auth_a', '{mine}', 'CONNECT') THEN RAISE insufficient_privilege; END IF; END $$"},
	{"- - - - - - - - - - +", "database: another's limit", "ALTER DATABASE {other} CONNECTION LIMIT 7"},
	{"- - - - - - - - - + +", "database: another's size", "SELECT pg_database_size('{other}')"},
	{"- - - - - - - - - - +", "server: settings", "SELECT pg_reload_conf()"},
	{"- - - - - - - - + - +", "server: triggers off", "SET session_replication_role = replica"},
	{"- - - - - - - - - - x", "server: slots", "SELECT pg_create_physical_replication_slot('made', true)"},
	{"- - - - - - - - - - +", "server: subscribe", "CREATE SUBSCRIPTION made CONNECTION 'host=nowhere.invalid' PUBLICATION p WITH (connect = false)"},
	{"- - - - - - - - - - x", "server: event triggers", "CREATE EVENT TRIGGER made ON sql_drop EXECUTE FUNCTION freehold.made()"},
}

// doors says who enters which databases at Postgres itself, a line each.
var doors = []struct{ database, may string }{
	//           auth own sqlrw sqlro person mover bouncer admin
	{"{mine}", " +    +   +     +     +      +     +       +"},
	{"{other}", "-    -   -     -     -      -     +       +"},
	{"postgres", "-   -   -     -     -      -     -       +"},
	{"template1", "-  -   -     -     -      -     -       +"},
	{shard.TemplateApp, "- - -   -     -      -     -       +"},
}

// session is one column: a connection, and what it becomes.
type session struct {
	login secret.Login
	role  string
}

func sessions(t *testing.T, f *shardtest.Fleet, mine string, document secret.Login) map[string]session {
	t.Helper()
	ctx := bounded(t)
	logins := every(t, mine, document)
	require.NoError(t, f.CreateCustomRole(ctx, "a", mine, "support"))
	mover, err := f.Mover(ctx, "a", mine)
	require.NoError(t, err)
	t.Cleanup(mover.Close)
	server := shardtest.Server(t, "a")
	return map[string]session{
		"auth": {document, ""}, "rw": {document, shard.RWRole(mine)}, "ro": {document, shard.RORole(mine)}, "custom": {document, shard.CustomRole(mine, "support")},
		"own": {logins[tenantdb.Owner], ""}, "sqlrw": {logins[tenantdb.SQLWrite], ""}, "sqlro": {logins[tenantdb.SQLRead], ""},
		"person": {temporary(t, f, "a", mine, shard.AccessOwner), ""}, "mover": {mover.Login(), ""}, "bouncer": {server.Auth, ""}, "admin": {server.Admin, ""},
	}
}

// For every kind of session and every class of objects: who may, and who may not.
func TestWhoMayWhat(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	mine, other := newName(t), newName(t)
	document, _ := f.Database(t, "a", mine), f.Database(t, "a", other)
	all := sessions(t, f, mine, document)
	owner, err := direct(ctx, f, "a", mine, all["own"].login)
	require.NoError(t, err)
	defer owner.Close(ctx) //nolint:errcheck // ends with the test
	for _, sql := range []string{"CREATE TYPE public.mood AS ENUM ('good')", "CREATE TABLE guarded (x int)", "ALTER TABLE guarded ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
		"CREATE FUNCTION settle(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1'"} {
		_, err := owner.Exec(ctx, sql)
		require.NoError(t, err, sql)
	}
	_, err = admin(t, f, "a", mine).Exec(ctx, "INSERT INTO public.guarded VALUES (1)")
	require.NoError(t, err)
	for i, name := range who {
		s := all[name]
		conn, err := direct(ctx, f, "a", mine, s.login)
		require.NoError(t, err, name)
		defer conn.Close(ctx) //nolint:errcheck // ends with the test
		for _, c := range matrix {
			marks := strings.Fields(c.may)
			require.Len(t, marks, len(who), c.class)
			if marks[i] == "x" { // not this one's to be asked
				continue
			}
			sql := strings.NewReplacer("{mine}", mine, "{other}", other).Replace(c.sql)
			got := mayDo(ctx, t, conn, s.role, sql, strings.HasPrefix(sql, "SELECT FROM public.guarded"))
			require.Equal(t, marks[i], got, "%s, %s: %s", name, c.class, sql)
		}
	}
}

// mayDo tells whether a statement is allowed (+), or refused for want of a
// privilege (-): that it sees no rows counts as well if rows are asked for. All is rolled back.
func mayDo(ctx context.Context, t *testing.T, conn *pgx.Conn, role, sql string, rows bool) string {
	t.Helper()
	tx, err := conn.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx) //nolint:errcheck // the connection stays usable either way
	if role != "" {
		_, err = tx.Exec(ctx, "SELECT set_config('role', $1, true)", role)
		require.NoError(t, err)
	}
	tag, err := tx.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		// No privilege; a viewer's session only reads; the statement itself asked whether it may.
		require.Contains(t, []string{"42501", "25006", "22012"}, pg.Code(err), "%s: %v", sql, err)
		return "-"
	}
	if rows && tag.RowsAffected() == 0 {
		return "-"
	}
	return "+"
}

func TestWhoEntersWhere(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	mine, other := newName(t), newName(t)
	document, _ := f.Database(t, "a", mine), f.Database(t, "a", other)
	all := sessions(t, f, mine, document)
	for i, name := range strings.Fields("auth own sqlrw sqlro person mover bouncer admin") {
		for _, d := range doors {
			database := strings.NewReplacer("{mine}", mine, "{other}", other).Replace(d.database)
			conn, err := direct(ctx, f, "a", database, all[name].login)
			got := "+"
			if err != nil {
				require.Contains(t, []string{"28000", "42501", "53300"}, pg.Code(err), "%s to %s: %v", name, database, err)
				got = "-"
			} else {
				require.NoError(t, conn.Close(ctx))
			}
			require.Equal(t, strings.Fields(d.may)[i], got, "%s to %s", name, database)
		}
	}
	// Nobody at all enters as the owner of a subscription.
	require.NoError(t, shard.Admit(ctx, admin(t, f, "a", "postgres"), mine))
	_, err := admin(t, f, "a", "postgres").Exec(ctx, "CREATE ROLE "+tenantdb.ApplyRole(mine)+" LOGIN; GRANT "+tenantdb.MoverRole(mine)+" TO "+tenantdb.ApplyRole(mine), pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	_, err = direct(ctx, f, "a", mine, secret.Login{User: tenantdb.ApplyRole(mine), Password: "x"})
	require.Equal(t, "28P01", pg.Code(err))
}
