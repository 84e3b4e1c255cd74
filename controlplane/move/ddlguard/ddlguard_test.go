package ddlguard_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/move/ddlguard"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/schemachange"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m.Run)) }

const (
	operation   = "01920000-0000-7000-8000-000000000001"
	application = "the-mover"
)

type database struct {
	*testing.T
	dsn   string
	admin *pgx.Conn
	// owner works as the role that owns everything in schema s, and is no superuser.
	owner *pgx.Conn
}

func open(t *testing.T) database {
	d := database{T: t, dsn: pgtest.Database(t)}
	d.admin = d.connect("")
	do(t, d.admin, "CREATE SCHEMA freehold;"+schemachange.SQL)
	role := "owner_of_" + d.admin.Config().Database
	do(t, d.admin, "CREATE ROLE "+pg.Ident(role)+" LOGIN; GRANT CREATE, TEMPORARY ON DATABASE "+pg.Ident(d.admin.Config().Database)+" TO "+pg.Ident(role))
	t.Cleanup(func() {
		ctx := context.Background()
		_ = d.owner.Close(ctx)
		conn, err := pgx.Connect(ctx, d.dsn)
		require.NoError(t, err)
		defer conn.Close(ctx) //nolint:errcheck // the test is over
		require.NoError(t, ddlguard.Lower(ctx, conn))
		_, err = conn.Exec(ctx, "DROP OWNED BY "+pg.Ident(role)+" CASCADE; DROP ROLE "+pg.Ident(role), pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err)
	})
	d.owner = d.connect(role)
	do(t, d.owner, `CREATE SCHEMA s; SET search_path = s;
		CREATE TABLE a (id int PRIMARY KEY, v text); CREATE INDEX a_v ON a (v); INSERT INTO a SELECT i, i FROM generate_series(1, 10) i;
		CREATE MATERIALIZED VIEW m AS SELECT id FROM a; CREATE UNIQUE INDEX m_id ON m (id); CREATE SEQUENCE q;
		CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
		CREATE TABLE p (id int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)`)
	return d
}

// connect opens a session; with a role, of that role's and not of a superuser that became it.
func (d database) connect(role string) *pgx.Conn {
	d.Helper()
	cfg, err := pgx.ParseConfig(d.dsn)
	require.NoError(d, err)
	c, err := pgx.ConnectConfig(d.Context(), cfg)
	require.NoError(d, err)
	d.Cleanup(func() { _ = c.Close(context.Background()) })
	if role != "" {
		do(d.T, c, "SET SESSION AUTHORIZATION "+pg.Ident(role))
	}
	return c
}

func do(t *testing.T, c *pgx.Conn, sql string) {
	t.Helper()
	_, err := c.PgConn().Exec(t.Context(), sql).ReadAll()
	require.NoError(t, err, sql)
}

func attempt(t *testing.T, c *pgx.Conn, sql string) error {
	t.Helper()
	_, err := c.PgConn().Exec(t.Context(), sql).ReadAll()
	if c.PgConn().TxStatus() != 'I' {
		_, rollback := c.PgConn().Exec(t.Context(), "ROLLBACK").ReadAll()
		require.NoError(t, rollback)
	}
	return err
}

// schema is everything that could have changed.
func (d database) schema() (s string) {
	d.Helper()
	require.NoError(d, d.admin.QueryRow(d.Context(), `SELECT string_agg(x, ',' ORDER BY x) FROM (
		SELECT c.oid || c.relname::text || coalesce(c.relacl::text, '') || c.relowner || c.relkind::text || c.relispartition || coalesce(obj_description(c.oid), '') AS x FROM pg_class c WHERE c.relnamespace = 's'::regnamespace
		UNION ALL SELECT indexrelid::text || indisvalid || indisready FROM pg_index WHERE indexrelid >= 16384
		UNION ALL SELECT attrelid || attname::text || atttypid || attnotnull || attisdropped FROM pg_attribute WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 's'::regnamespace)
		UNION ALL SELECT p.oid || proname::text || prosrc FROM pg_proc p WHERE pronamespace = 's'::regnamespace
		UNION ALL SELECT nspname::text FROM pg_namespace WHERE nspname NOT LIKE 'pg_t%' UNION ALL SELECT extname::text FROM pg_extension
		UNION ALL SELECT evtname::text || evtenabled::text FROM pg_event_trigger UNION ALL SELECT defaclacl::text FROM pg_default_acl) x`).Scan(&s))
	return s
}

func TestRefuse(t *testing.T) {
	d := open(t)
	require.NoError(t, ddlguard.Raise(t.Context(), d.admin, operation, application, ddlguard.Refuse))
	require.NoError(t, ddlguard.Raise(t.Context(), d.admin, operation, application, ddlguard.Refuse), "again, after a crash")
	before := d.schema()
	for _, sql := range []string{
		"CREATE TABLE b ()", "CREATE TABLE b AS SELECT 1", "SELECT 1 INTO b", "CREATE SCHEMA t", "CREATE VIEW w AS SELECT 1",
		"ALTER TABLE a ADD c int", "ALTER TABLE a ALTER v SET DEFAULT 'x'", "ALTER TABLE a ALTER id TYPE bigint", "ALTER TABLE a ALTER id TYPE int USING id + 1",
		"ALTER TABLE a RENAME TO b", "ALTER TABLE a DISABLE TRIGGER USER", "ALTER TABLE a ENABLE ROW LEVEL SECURITY",
		"CREATE INDEX ON a (id)", "CREATE INDEX CONCURRENTLY i ON a (id)", "/* x */ create /**/ index\nconcurrently i ON a (id)", "DROP INDEX CONCURRENTLY a_v",
		"ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY", "DROP INDEX a_v", "DROP TABLE a CASCADE", "DROP FUNCTION f", "DROP SCHEMA s CASCADE", "DROP OWNED BY CURRENT_USER",
		"CREATE POLICY x ON a USING (true)", "CREATE RULE r AS ON INSERT TO a DO NOTHING", "CREATE TRIGGER g BEFORE UPDATE ON a EXECUTE FUNCTION suppress_redundant_updates_trigger()",
		"CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'", "CREATE TYPE e AS ENUM ('x')", "CREATE DOMAIN o AS int", "CREATE STATISTICS z ON id, v FROM a",
		"GRANT SELECT ON a TO PUBLIC", "REVOKE EXECUTE ON FUNCTION f FROM PUBLIC", "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC", "COMMENT ON TABLE a IS 'x'",
		"ALTER SEQUENCE q INCREMENT 2", "CREATE EXTENSION pgcrypto", "BEGIN; INSERT INTO a VALUES (11); CREATE TABLE b (); COMMIT",
		"DO $$ BEGIN EXECUTE 'CREATE TABLE s.b ()'; END $$", "DO $$ BEGIN CREATE TABLE s.b (); EXCEPTION WHEN OTHERS THEN RAISE; END $$",
		"SET session_replication_role = replica", "DROP EVENT TRIGGER freehold_move_end", "ALTER EVENT TRIGGER freehold_move_start DISABLE", "DROP FUNCTION freehold.guard_ddl CASCADE",
		"CREATE OR REPLACE FUNCTION freehold.guard_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'", "SET application_name = 'the-mover'; CREATE TABLE b ()",
	} {
		require.Error(t, attempt(t, d.owner, sql), sql)
		require.Equal(t, before, d.schema(), sql)
	}
	var e *pgconn.PgError
	require.True(t, errors.As(attempt(t, d.owner, "ALTER TABLE a ADD c int"), &e))
	require.Equal(t, ddlguard.Code, e.Code)
	require.Contains(t, e.Message, "ALTER TABLE is refused")
	require.Contains(t, e.Message, operation)
	require.Contains(t, e.Hint, "tenant-ops op cancel "+operation)

	// An operator's session is none of the move's, whatever it may do; the move's own goes on.
	require.True(t, errors.As(attempt(t, d.admin, "CREATE TABLE s.b ()"), &e))
	require.Equal(t, ddlguard.Code, e.Code)
	do(t, d.admin, "SET application_name = 'the-mover'; CREATE TABLE s.b (); DROP TABLE s.b; RESET application_name")

	// The platform's clean-up passes, and nothing else of its.
	leaver := "leaver_" + d.admin.Config().Database
	do(t, d.admin, "SET application_name = 'the-mover'; CREATE ROLE "+pg.Ident(leaver)+"; GRANT SELECT ON s.a TO "+pg.Ident(leaver))
	do(t, d.admin, "SET application_name = 'freehold-admin'")
	require.Error(t, attempt(t, d.admin, "CREATE TABLE s.b ()"))
	do(t, d.admin, "DROP OWNED BY "+pg.Ident(leaver)+"; DROP ROLE "+pg.Ident(leaver)+"; RESET application_name")
	require.Error(t, attempt(t, d.owner, "SET application_name = 'freehold-admin'; DROP OWNED BY CURRENT_USER"))
	do(t, d.owner, "RESET application_name")

	for _, sql := range []string{ // what stays allowed
		"REFRESH MATERIALIZED VIEW m", "REFRESH MATERIALIZED VIEW CONCURRENTLY m", "TRUNCATE a", "SELECT setval('q', 7)", "VACUUM a", "ANALYZE a", "REINDEX TABLE a",
		"CREATE TEMP TABLE t (id serial PRIMARY KEY, v text DEFAULT 'x' CHECK (v <> '')); CREATE INDEX ON t (v); ALTER TABLE t ADD c int; ALTER TABLE t ALTER id TYPE bigint; DROP TABLE t",
		"CREATE TEMP TABLE t ON COMMIT DROP AS SELECT 1; SELECT 1 AS x INTO TEMP u; CREATE TEMP VIEW tv AS SELECT 1; CREATE TEMP SEQUENCE ts; DROP TABLE u; DROP VIEW tv; DROP SEQUENCE ts",
		"CREATE TABLE IF NOT EXISTS a (id int)", "CREATE INDEX IF NOT EXISTS a_v ON a (v)", "DROP TABLE IF EXISTS nothing", "CREATE SCHEMA IF NOT EXISTS s",
	} {
		require.NoError(t, attempt(t, d.owner, sql), sql)
	}
	require.NoError(t, ddlguard.Lower(t.Context(), d.admin))
	require.NoError(t, ddlguard.Lower(t.Context(), d.admin), "none is no error")
	require.NoError(t, ddlguard.Hurry(t.Context(), d.admin))
	do(t, d.owner, "CREATE TABLE b ()")
}

// waiting waits until the owner's statement waits in the guard.
func (d database) waiting() {
	d.Helper()
	pgtest.Eventually(d.T, "the statement waits", func() bool {
		var n int
		require.NoError(d, d.admin.QueryRow(d.Context(), `SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'`, d.owner.PgConn().PID()).Scan(&n))
		return n == 1
	})
}

func TestWait(t *testing.T) {
	d := open(t)
	ctx := t.Context()
	raise := func() {
		require.NoError(t, ddlguard.Raise(ctx, d.admin, operation, application, ddlguard.Wait))
	}
	start := func(sql string) <-chan error {
		done := make(chan error, 1)
		go func() { done <- attempt(t, d.owner, sql) }()
		d.waiting()
		return done
	}
	refused := func(err error) {
		t.Helper()
		var e *pgconn.PgError
		require.True(t, errors.As(err, &e), "%v", err)
		require.Equal(t, ddlguard.Code, e.Code, e.Message)
	}
	raise()
	done := start("CREATE TABLE b ()")
	require.NoError(t, ddlguard.Lower(ctx, d.admin), "the move was cancelled")
	require.NoError(t, <-done)

	raise()
	done = start("BEGIN; CREATE INDEX ON a (id); COMMIT")
	require.NoError(t, ddlguard.Hurry(ctx, d.admin), "the cutover is near")
	refused(<-done)
	refused(attempt(t, d.owner, "CREATE TABLE c ()"))

	raise()
	began := time.Now()
	refused(attempt(t, d.owner, "SET statement_timeout = '6s'; COMMENT ON TABLE a IS 'x'"))
	require.Greater(t, time.Since(began), 500*time.Millisecond, "it waits for as long as the session allows")
	do(t, d.owner, "RESET statement_timeout")
	// At once: who would keep the move, or can't see its end.
	refused(attempt(t, d.owner, "BEGIN; INSERT INTO a VALUES (12); CREATE TABLE c (); COMMIT"))
	refused(attempt(t, d.owner, "BEGIN ISOLATION LEVEL REPEATABLE READ; CREATE TABLE c (); COMMIT"))
	require.NoError(t, attempt(t, d.owner, "REFRESH MATERIALIZED VIEW m"))
	require.NoError(t, attempt(t, d.owner, "CREATE TEMP TABLE t (id serial); ALTER TABLE t ADD v int; DROP TABLE t"))
}
