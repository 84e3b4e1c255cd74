package doctor_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/doctor"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/shardmap"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const sample = "../../deploy/sample"

// inventory stands in for the catalog.
type inventory struct {
	f         *shardtest.Fleet
	databases []string
}

func (i inventory) ListShards(context.Context) (all []catalog.ShardUsage, err error) {
	for _, s := range i.f.Rows {
		all = append(all, catalog.ShardUsage{Shard: s})
	}
	return all, nil
}

func (i inventory) ListDatabases(_ context.Context, f catalog.DatabaseFilter, _ catalog.Page) (all []catalog.Database, next string, err error) {
	for _, name := range i.databases {
		all = append(all, catalog.Database{Shard: f.Shard, Name: name, State: catalog.DatabaseAssigned})
	}
	return all, "", nil
}

// Whatever is planted is found, under its name, and nothing else is: neither
// before, nor when it is taken back.
func TestEveryDeviationIsFound(t *testing.T) {
	ctx := t.Context()
	f := shardtest.New(t, sample, "a")
	db := fmt.Sprintf("t_%016x", os.Getpid())
	f.Database(t, "a", db)
	admin, err := f.Admin(ctx, "a", "postgres")
	require.NoError(t, err)
	defer admin.Close(ctx) //nolint:errcheck // ends with the test
	inside, err := f.Admin(ctx, "a", db)
	require.NoError(t, err)
	defer inside.Close(ctx) //nolint:errcheck // ends with the test
	_, secured := os.LookupEnv(pgtest.EnvTLS)
	d := doctor.New(inventory{f, []string{db}}, f.Fleet, f.Secrets, doctor.Expect{Migrations: sample, TLS: secured})
	look := func() []doctor.Finding {
		r, err := d.Look(ctx, doctor.Options{})
		require.NoError(t, err)
		require.Equal(t, 1, r.Looked)
		return r.Findings
	}
	clean := look()
	require.Empty(t, clean)

	owner, rw, sqlRW := shard.OwnerRole(db), shard.RWRole(db), tenantdb.SQLWrite.User(db)
	for _, c := range []struct {
		check, what string // a finding of this check has this in where or what
		plant, undo string
		in          *pgx.Conn
	}{
		{"role-attributes", "SUPERUSER", "CREATE ROLE mallory SUPERUSER", "DROP ROLE mallory", admin},
		{"role-attributes", "CREATEROLE", "ALTER ROLE " + rw + " CREATEROLE", "ALTER ROLE " + rw + " NOCREATEROLE", admin},
		{"role-attributes", "BYPASSRLS", "ALTER ROLE " + rw + " BYPASSRLS", "ALTER ROLE " + rw + " NOBYPASSRLS", admin},
		{"role-attributes", "REPLICATION", "ALTER ROLE freehold_bouncer REPLICATION", "ALTER ROLE freehold_bouncer NOREPLICATION", admin},
		{"weak-verifier", "md5user", "CREATE ROLE md5user LOGIN PASSWORD 'md5" + strings.Repeat("0", 32) + "'", "DROP ROLE md5user", admin},
		{"verifier", sqlRW, "CREATE ROLE keep; UPDATE pg_catalog.pg_authid SET rolpassword = (SELECT rolpassword FROM pg_catalog.pg_authid x WHERE x.rolname = '" + sqlRW + "') WHERE rolname = 'keep'; ALTER ROLE " + sqlRW + " PASSWORD 'theirs'",
			"UPDATE pg_catalog.pg_authid SET rolpassword = (SELECT rolpassword FROM pg_catalog.pg_authid x WHERE x.rolname = 'keep') WHERE rolname = '" + sqlRW + "'; DROP ROLE keep", admin},
		{"apply-login", tenantdb.ApplyRole(db), "CREATE ROLE " + tenantdb.ApplyRole(db) + " LOGIN PASSWORD 'x'", "DROP ROLE " + tenantdb.ApplyRole(db), admin},
		{"membership", "pg_monitor", "GRANT pg_monitor TO " + owner, "REVOKE pg_monitor FROM " + owner, admin},
		{"membership", "a tenant's role", "CREATE ROLE eve; GRANT " + owner + " TO eve", "DROP ROLE eve", admin},
		{"membership", "ADMIN", "GRANT " + rw + " TO " + sqlRW + " WITH ADMIN OPTION", "REVOKE ADMIN OPTION FOR " + rw + " FROM " + sqlRW, admin},
		{"server-files", "pg_read_server_files", "CREATE ROLE eve; GRANT pg_read_server_files TO eve", "DROP ROLE eve", admin},
		{"role-setting", "role to", "ALTER ROLE " + sqlRW + " SET role = " + owner, "ALTER ROLE " + sqlRW + " SET role = " + rw, admin},
		{"role-setting", "log_statement", "ALTER ROLE " + sqlRW + " SET log_statement = 'all'", "ALTER ROLE " + sqlRW + " RESET log_statement", admin},
		{"role-setting", "which role it works as", "ALTER ROLE " + sqlRW + " RESET role", "ALTER ROLE " + sqlRW + " SET role = " + rw, admin},
		{"public-grant", "CONNECT", "GRANT CONNECT ON DATABASE " + db + " TO PUBLIC", "REVOKE CONNECT ON DATABASE " + db + " FROM PUBLIC", admin},
		{"public-grant", "template1", "GRANT TEMPORARY ON DATABASE template1 TO PUBLIC", "REVOKE TEMPORARY ON DATABASE template1 FROM PUBLIC", admin},
		{"connect-grant", "eve", "CREATE ROLE eve; GRANT CONNECT ON DATABASE " + db + " TO eve", "DROP OWNED BY eve; DROP ROLE eve", admin},
		{"connect-grant", sqlRW, "GRANT CONNECT ON DATABASE postgres TO " + sqlRW, "REVOKE CONNECT ON DATABASE postgres FROM " + sqlRW, admin},
		{"database-owner", owner, "ALTER DATABASE " + db + " OWNER TO " + owner, "ALTER DATABASE " + db + " OWNER TO CURRENT_USER; GRANT CREATE, TEMPORARY ON DATABASE " + db + " TO " + owner, admin},
		{"subscription", "theirs", "CREATE SUBSCRIPTION theirs CONNECTION 'host=nowhere.invalid' PUBLICATION p WITH (connect = false, slot_name = NONE)", "DROP SUBSCRIPTION theirs", inside},
		{"setting", "log_statement", "ALTER SYSTEM SET log_statement = 'all'", "ALTER SYSTEM RESET log_statement", admin},
		{"setting", "password_encryption", "ALTER SYSTEM SET password_encryption = 'md5'", "ALTER SYSTEM RESET password_encryption", admin},
		{"setting", "log_min_duration_statement", "ALTER SYSTEM SET log_min_duration_statement = 0", "ALTER SYSTEM RESET log_min_duration_statement", admin},
		{"template", "open", "ALTER DATABASE freehold_app CONNECTION LIMIT -1", "ALTER DATABASE freehold_app CONNECTION LIMIT 0", admin},
		{"public-grant", "CREATE on schema", "GRANT CREATE ON SCHEMA public TO PUBLIC", "REVOKE CREATE ON SCHEMA public FROM PUBLIC", inside},
		{"public-grant", "customers", "GRANT SELECT ON public.customers TO PUBLIC", "REVOKE SELECT ON public.customers FROM PUBLIC", inside},
		{"public-grant", "f()", "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION public.f() OWNER TO " + owner + "; GRANT EXECUTE ON FUNCTION public.f() TO PUBLIC", "DROP FUNCTION public.f()", inside},
		{"hidden", "pg_logical_emit_message", "GRANT EXECUTE ON FUNCTION pg_catalog.pg_logical_emit_message(boolean, text, text) TO PUBLIC", "REVOKE ALL ON FUNCTION pg_catalog.pg_logical_emit_message(boolean, text, text) FROM PUBLIC", inside},
		{"hidden", "lo_import", "GRANT EXECUTE ON FUNCTION pg_catalog.lo_import(text) TO " + rw, "REVOKE ALL ON FUNCTION pg_catalog.lo_import(text) FROM " + rw, inside},
		{"hidden", "pg_locks", "GRANT SELECT ON pg_catalog.pg_locks TO PUBLIC", "REVOKE ALL ON pg_catalog.pg_locks FROM PUBLIC", inside},
		{"extension", "dblink", "CREATE EXTENSION dblink SCHEMA public", "DROP EXTENSION dblink", inside},
		{"extension", "file_fdw", "CREATE EXTENSION file_fdw SCHEMA public", "DROP EXTENSION file_fdw", inside},
		{"foreign-server", "there", "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER there FOREIGN DATA WRAPPER w", "DROP FOREIGN DATA WRAPPER w CASCADE", inside},
		{"language", "plcu", "CREATE LANGUAGE plcu HANDLER plpgsql_call_handler", "DROP LANGUAGE plcu", inside},
		{"native-code", "evil", "CREATE FUNCTION public.evil(float8) RETURNS float8 LANGUAGE internal AS 'dsin'; REVOKE ALL ON FUNCTION public.evil(float8) FROM PUBLIC", "DROP FUNCTION public.evil(float8)", inside},
		{"superusers-code", "f()", "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'; REVOKE ALL ON FUNCTION public.f() FROM PUBLIC", "DROP FUNCTION public.f()", inside},
		{"superusers-table", "mine", "CREATE TABLE public.mine (x int)", "DROP TABLE public.mine", inside},
		{"event-trigger", "spy", "CREATE FUNCTION freehold.spy() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER spy ON ddl_command_end EXECUTE FUNCTION freehold.spy()", "DROP FUNCTION freehold.spy() CASCADE", inside},
		{"lookup", "others than", "GRANT EXECUTE ON FUNCTION freehold.lookup(text) TO " + rw, "REVOKE ALL ON FUNCTION freehold.lookup(text) FROM " + rw, inside},
		{"lookup", "body", "CREATE OR REPLACE FUNCTION freehold.lookup(login text) RETURNS TABLE (usename name, passwd text) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT rolname, rolpassword FROM pg_authid'", "", inside},
	} {
		t.Run(c.check+" "+c.what, func(t *testing.T) {
			require.NoError(t, exec(ctx, c.in, c.plant))
			found := settled(t, look, func(found []doctor.Finding) bool { return has(found, c.check, c.what) })
			require.True(t, has(found, c.check, c.what), "%+v", found)
			for _, one := range found {
				require.NotEqual(t, doctor.Unknown, one.Severity, "%+v", one)
				require.NotEmpty(t, one.Remedy)
				require.EqualValues(t, "a", one.Shard)
			}
			if c.undo == "" { // the remedy of the platform itself
				require.NoError(t, shard.Harden(ctx, c.in))
			} else {
				require.NoError(t, exec(ctx, c.in, c.undo))
			}
			require.Empty(t, settled(t, look, func(found []doctor.Finding) bool { return len(found) == 0 }))
		})
	}

	// What a move left behind is fenced, and its passwords may be older than the secret.
	require.NoError(t, shard.RaiseFence(ctx, admin, db))
	_, err = admin.Exec(ctx, "ALTER ROLE "+sqlRW+" PASSWORD 'older'")
	require.NoError(t, err)
	require.Empty(t, look())
}

// exec runs statements one by one, as some can't be in a transaction together; settings are taken up.
func exec(ctx context.Context, conn *pgx.Conn, sql string) error {
	if _, err := conn.Exec(ctx, "SET allow_system_table_mods = on", pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	defer conn.Exec(ctx, "RESET allow_system_table_mods", pgx.QueryExecModeSimpleProtocol) //nolint:errcheck // the session's own
	for _, one := range strings.Split(sql, "; ") {
		if _, err := conn.Exec(ctx, one, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("%s: %w", one, err)
		}
	}
	_, err := conn.Exec(ctx, "SELECT pg_catalog.pg_reload_conf()")
	return err
}

// settled looks until it is as it should be: the server takes settings up in its own time.
func settled(t *testing.T, look func() []doctor.Finding, good func([]doctor.Finding) bool) (found []doctor.Finding) {
	t.Helper()
	for range 100 {
		if found = look(); good(found) {
			break
		}
	}
	return found
}

func has(found []doctor.Finding, check, what string) bool {
	for _, f := range found {
		if f.Check == check && (strings.Contains(f.Where, what) || strings.Contains(f.What, what)) {
			return true
		}
	}
	return false
}

func TestOnlyTheShardAskedFor(t *testing.T) {
	f := shardtest.New(t, sample, "a")
	d := doctor.New(inventory{f: f}, f.Fleet, f.Secrets, doctor.Expect{Migrations: sample})
	_, err := d.Look(t.Context(), doctor.Options{Shard: shardmap.ShardID("other")})
	require.ErrorIs(t, err, catalog.ErrNotFound)
}
