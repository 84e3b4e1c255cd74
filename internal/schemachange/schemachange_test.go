package schemachange_test

import (
	"context"
	"errors"
	"os"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/schemachange"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m.Run)) }

type database struct {
	*testing.T
	dsn string
	*pgx.Conn
}

func open(t *testing.T) database {
	d := database{T: t, dsn: pgtest.Database(t)}
	d.Conn = d.connect()
	d.do("CREATE SCHEMA freehold;" + schemachange.SQL)
	return d
}

func (d database) connect() *pgx.Conn {
	d.Helper()
	c, err := pgx.Connect(d.Context(), d.dsn)
	require.NoError(d, err)
	d.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func (d database) do(sql string) {
	d.Helper()
	_, err := d.Exec(d.Context(), sql, pgx.QueryExecModeSimpleProtocol)
	require.NoError(d, err, sql)
}

func (d database) stamp() (n int64) {
	d.Helper()
	require.NoError(d, d.QueryRow(d.Context(), schemachange.Stamp).Scan(&n))
	return n
}

func TestWhatChangesTheStamp(t *testing.T) {
	d := open(t)
	d.do("CREATE ROLE schemachange_tenant; CREATE SCHEMA s AUTHORIZATION schemachange_tenant; GRANT TEMPORARY ON DATABASE " + d.Config().Database + " TO schemachange_tenant")
	d.do("SET ROLE schemachange_tenant; SET search_path = s")
	for _, c := range []struct {
		sql     string
		changes bool
	}{
		{"CREATE TABLE a (id int PRIMARY KEY, v text)", true},
		{"INSERT INTO a VALUES (1)", false},
		{"ALTER TABLE a ADD c int", true},
		{"BEGIN; ALTER TABLE a ADD d int; ROLLBACK", false},
		{"BEGIN; SAVEPOINT x; ALTER TABLE a ADD d int; ROLLBACK TO x; ALTER TABLE a ADD e int; COMMIT", true},
		{"BEGIN ISOLATION LEVEL SERIALIZABLE; ALTER TABLE a ADD f int; ALTER TABLE a ADD g int; COMMIT", true},
		{"CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", true},
		{"CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1'", true},
		{"CREATE DOMAIN \"text/html\" AS text", true},
		{"COMMENT ON TABLE a IS 'x'", true},
		{"CREATE MATERIALIZED VIEW m AS SELECT 1 AS id", true},
		{"REFRESH MATERIALIZED VIEW m", false},
		{"CREATE TEMP TABLE t (id int)", false},
		{"ALTER TABLE t ADD v int", false},
		{"DROP TABLE t", false},
		{"VACUUM a", false},
		{"ALTER TABLE a ENABLE ROW LEVEL SECURITY", true},
		{"DROP FUNCTION f", true},
		{"DROP TABLE a", true},
	} {
		before := d.stamp()
		d.do(c.sql)
		require.Equal(t, c.changes, d.stamp() != before, c.sql)
	}
	d.do("RESET ROLE; SET session_replication_role = replica")
	before := d.stamp()
	d.do("CREATE TABLE s.b ()")
	require.NotEqual(t, before, d.stamp(), "in a replica's session, too")
	before = d.stamp()
	d.do("CREATE PUBLICATION p FOR TABLE s.b; COMMENT ON PUBLICATION p IS 'x'; ALTER PUBLICATION p SET (publish = 'insert'); DROP PUBLICATION p")
	d.do("CREATE TABLE freehold.ours (); COMMENT ON TABLE freehold.ours IS 'x'; DROP TABLE freehold.ours")
	d.do("BEGIN; " + schemachange.Unnoted + "; ALTER TABLE s.b REPLICA IDENTITY FULL; COMMIT")
	require.Equal(t, before, d.stamp(), "a move's own doings are nobody's schema")
	d.do("SET SESSION AUTHORIZATION schemachange_tenant; SET freehold.unnoted = 'on'; CREATE TABLE s.c (); RESET freehold.unnoted; RESET SESSION AUTHORIZATION")
	require.NotEqual(t, before, d.stamp(), "a tenant's are noted, whatever it sets")
	for range 40 {
		d.do("ALTER TABLE s.b ADD c int; ALTER TABLE s.b DROP c")
	}
	var rows int
	require.NoError(t, d.QueryRow(t.Context(), "SELECT count(*) FROM freehold.schema_change").Scan(&rows))
	require.LessOrEqual(t, rows, 18, "what is old goes")
}

func TestMute(t *testing.T) {
	d := open(t)
	before := d.stamp()
	d.do(schemachange.Mute)
	d.do("CREATE TABLE a (); DROP TABLE a; CREATE TABLE b ()")
	require.Equal(t, before, d.stamp())
	d.do(schemachange.Unmute)
	require.NotEqual(t, before, d.stamp())
	before = d.stamp()
	d.do("SET session_replication_role = replica; COMMENT ON TABLE b IS 'x'")
	require.NotEqual(t, before, d.stamp())
	before = d.stamp()
	d.do("DROP TABLE b")
	require.NotEqual(t, before, d.stamp())
}

func TestVouch(t *testing.T) {
	d := open(t)
	vouch := func(stamp, was int64) {
		_, err := d.Exec(t.Context(), schemachange.Vouch, stamp, was)
		require.NoError(t, err)
	}
	const elsewhere = -4611686018427387905
	d.do("CREATE TABLE a ()")
	was := d.stamp()
	vouch(elsewhere, was)
	require.EqualValues(t, elsewhere, d.stamp())
	d.do("CREATE TABLE b ()")
	changed := d.stamp()
	require.NotEqualValues(t, elsewhere, changed)
	vouch(elsewhere, was)
	require.NotEqualValues(t, elsewhere, d.stamp(), "a change since then is not vouched for")
	require.NotEqual(t, changed, d.stamp())

	was = d.stamp()
	other, err := d.connect().Begin(t.Context())
	require.NoError(t, err)
	_, err = other.Exec(t.Context(), "CREATE TABLE c ()")
	require.NoError(t, err)
	vouch(elsewhere, was)
	require.EqualValues(t, elsewhere, d.stamp())
	require.NoError(t, other.Commit(t.Context()))
	require.NotEqualValues(t, elsewhere, d.stamp(), "nor is one that was under way")
}

func TestExpect(t *testing.T) {
	d := open(t)
	expect := func(n int64) error {
		return d.PgConn().ExecParams(t.Context(), "SELECT "+schemachange.Expect, [][]byte{strconv.AppendInt(nil, n, 10)}, nil, nil, nil).Read().Err
	}
	seen := d.stamp()
	require.NoError(t, expect(seen))
	d.do("CREATE TABLE a ()")
	var e *pgconn.PgError
	require.True(t, errors.As(expect(seen), &e))
	require.Equal(t, schemachange.Code, e.Code)
	require.NoError(t, expect(d.stamp()))
}

// Two transactions that both change the schema don't wait for each other, and
// each one's commit is noticed, in whatever order they come.
func TestConcurrentChanges(t *testing.T) {
	d := open(t)
	one, other := d.connect(), d.connect()
	ctx := t.Context()
	begin := func(c *pgx.Conn, table string) pgx.Tx {
		tx, err := c.Begin(ctx)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, "SET LOCAL lock_timeout = '5s'; CREATE TABLE "+table+" ()", pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err)
		return tx
	}
	first, second := begin(one, "a"), begin(other, "b")
	start := d.stamp()
	require.NoError(t, second.Commit(ctx))
	between := d.stamp()
	require.NotEqual(t, start, between)
	require.NoError(t, first.Commit(ctx))
	require.NotEqual(t, between, d.stamp(), "the older transaction, committed later")
}
