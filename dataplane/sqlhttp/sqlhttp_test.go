package sqlhttp_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/sqlhttp"
)

func TestFormatOfTheDriver(t *testing.T) {
	w := newWorld(t, sqlhttp.Limits{MaxRows: 50})
	a := w.sql("editor", "INSERT INTO customers (name) VALUES ($1), ($2) RETURNING name, id IS NULL AS no", "Ann", `"o'Hara" \ é`)
	require.Equal(t, 200, a.status, a.text)
	require.Equal(t, "INSERT", a.Command)
	require.Equal(t, 2, *a.RowCount)
	require.True(t, a.RowAsArray)
	require.JSONEq(t, `["\"o'Hara\" \\ é","f"]`, string(a.Rows[1]))
	require.Equal(t, "name", a.Fields[0].Name)
	require.Equal(t, 25, a.Fields[0].DataTypeID)
	require.NotZero(t, a.Fields[0].TableID)
	require.Equal(t, 16, a.Fields[1].DataTypeID)
	require.Equal(t, "text", a.Fields[1].Format)

	for sql, want := range map[string]string{
		"UPDATE customers SET name = name WHERE name = 'Ann'": `"UPDATE","rowCount":1`, "DELETE FROM customers WHERE name LIKE '%Hara%'": `"DELETE","rowCount":1`,
		"SELECT 1 WHERE false": `"SELECT","rowCount":0`, "SET LOCAL work_mem = '1MB'": `"SET","rowCount":null`, "SHOW work_mem": `"SHOW","rowCount":null`, "LISTEN l": `"LISTEN","rowCount":null`,
		"VALUES (1), (2)": `"SELECT","rowCount":2`, "EXPLAIN SELECT 1": `"EXPLAIN","rowCount":null`, "": `"","rowCount":null`, " -- nothing\n;": `"","rowCount":null`,
		"CREATE TABLE made_as AS SELECT generate_series(1, 3)": `"SELECT","rowCount":3`, "CREATE TABLE made ()": `"CREATE","rowCount":null`,
		"WITH a AS (INSERT INTO customers (name) VALUES ('w') RETURNING 1) SELECT FROM a": `"SELECT","rowCount":1`,
	} {
		a := w.sql("owner", sql)
		require.True(t, strings.HasSuffix(a.text, `],"command":`+want+`,"rowAsArray":true}`), "%s: %s", sql, a.text)
	}

	const typed = `SELECT 7 AS i, 2.5::float8 AS f, true AS b, NULL AS n, '{"a":[1]}'::jsonb AS j, 9007199254740993::int8 AS big,
		ARRAY[1,NULL] AS ai, ARRAY['a,"b', NULL]::text[] AS at, '{(1\,2)}'::point[] AS ap, '{x}'::name[] AS an, 'NaN'::float8 AS nan, 1 AS i`
	a = w.post(t.Context(), "viewer", map[string]any{"query": typed}, "Neon-Raw-Text-Output", "false", "Neon-Array-Mode", "false")
	require.Equal(t, 200, a.status, a.text)
	require.JSONEq(t, `{"f":2.5,"b":true,"n":null,"j":{"a":[1]},"big":"9007199254740993","ai":[1,null],"at":["a,\"b",null],"ap":["(1,2)"],"an":["x"],"nan":"NaN","i":1}`, string(a.Rows[0]))
	require.False(t, a.RowAsArray)

	a = w.sql("viewer", "SELECT $1::int[], $2::text[], $3::jsonb, $4::bool, $5::text, $6::int + 1, $7::text[]",
		[]any{1, nil, 3}, []any{`a"b`, "NULL", nil, ""}, map[string]any{"k": "v"}, true, nil, 41, []any{})
	require.Equal(t, 200, a.status, a.text)
	require.JSONEq(t, `["{1,NULL,3}","{\"a\\\"b\",\"NULL\",NULL,\"\"}","{\"k\": \"v\"}","t",null,"42","{}"]`, string(a.Rows[0]))

	a = w.sql("viewer", "SELECT no_such FROM customers")
	require.Equal(t, 400, a.status)
	require.Equal(t, "42703", a.Code)
	require.Equal(t, "8", a.Position)
	require.Equal(t, "ERROR", a.Severity)
	a = w.sql("owner", "DO $$ BEGIN EXECUTE 'SELECT nope'; END $$")
	require.Equal(t, "8", a.InternalPosition, a.text)
	require.Equal(t, "SELECT nope", a.InternalQuery)
	require.Contains(t, a.Where, "inline_code_block")
	a = w.sql("viewer", "SELECT 'x'::int")
	require.NotEmpty(t, a.File)
	require.Regexp(t, `^\d+$`, a.Line)
	require.NotEmpty(t, a.Routine)

	a = w.post(t.Context(), "viewer", `{"queries":[{"query":"SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'), current_setting('transaction_deferrable')","params":[]},{"query":""},{"query":"SELECT 2"}]}`,
		"Neon-Batch-Isolation-Level", "Serializable", "Neon-Batch-Read-Only", "true", "Neon-Batch-Deferrable", "true")
	require.Equal(t, 200, a.status, a.text)
	require.Len(t, a.Results, 3)
	require.JSONEq(t, `["serializable","on","on"]`, string(a.Results[0].Rows[0]))
	for name, said := range map[string]string{"Isolation-Level": "Serializable", "Read-Only": "true", "Deferrable": "true"} {
		require.Equal(t, said, a.header.Get("Neon-Batch-"+name))
	}
	require.Equal(t, "SELECT", a.Results[2].Command)
	require.JSONEq(t, `{"results":[]}`, w.batch("viewer").text)

	// A batch is all or nothing.
	a = w.batch("editor", "INSERT INTO customers (name) VALUES ('gone')", "SELECT 1/0")
	require.Equal(t, "22012", a.Code)
	require.Equal(t, `["0"]`, w.one("viewer", "SELECT count(*) FROM customers WHERE name = 'gone'"))

	require.Equal(t, `["alice"]`, w.one("viewer", "SELECT current_setting('request.jwt.claims')::json->>'sub'"))
	require.NotContains(t, w.one("viewer", "SELECT current_setting('request.headers')"), "secret")
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, sqlhttp.Limits{MaxRows: 50, MaxAnswer: 1 << 20, MaxBatch: 3, StatementFor: 2 * time.Second})
	for sql, code := range map[string]string{
		"COMMIT": "0A000", " ;-- x\n/* a /* b */ */ rollback": "0A000", "begin": "0A000", "END": "0A000", "SAVEPOINT a": "0A000",
		"START TRANSACTION": "0A000", "PREPARE TRANSACTION 'x'": "0A000", "COPY customers TO STDOUT": "0A000", "ALTER /**/ ROLE x PASSWORD 'y'": "0A000",
		"DO $$ BEGIN END $$": "0A000", "DROP OWNED BY CURRENT_USER": "0A000",
		"VACUUM": "25001", "SELECT 1; SELECT 2": "42601", "SELECT pg_sleep(60)": "57014", "SELECT\x00": "invalid_request",
		"SELECT generate_series(1, 51)": "answer_too_large", "SELECT repeat('x', 2000000)": "answer_too_large",
	} {
		a := w.sql("editor", sql)
		require.Equal(t, 400, a.status, "%s: %s", sql, a.text)
		require.Equal(t, code, a.Code, "%s: %s", sql, a.text)
		if code == "25001" {
			require.NotEmpty(t, a.Hint)
		}
	}
	require.Equal(t, 200, w.sql("editor", "SELECT generate_series(1, 50)").status)
	for sql, code := range map[string]string{"SELECT $1::int": "08P01", // there is no parameter
		`DO $$ BEGIN RAISE SQLSTATE 'PGRST' USING MESSAGE = '{"code":"x","message":"m"}', DETAIL = '{"status":201,"headers":{"X-Mine":"y"}}'; END $$`: "PGRST",
		"DO $$ BEGIN RAISE 'teapot' USING ERRCODE = 'PT418'; END $$":                                                                                  "PT418"} {
		a := w.sql("owner", sql)
		require.Equal(t, 400, a.status, "%s: %s", sql, a.text)
		require.Equal(t, code, a.Code, sql)
		require.Equal(t, "ERROR", a.Severity)
		require.Empty(t, a.header.Get("X-Mine"))
	}
	a := w.sql("editor", "INSERT INTO customers (name) SELECT 'many' FROM generate_series(1, 60) RETURNING 1")
	require.Contains(t, a.text, "committed")
	require.Equal(t, `["60"]`, w.one("viewer", "SELECT count(*) FROM customers WHERE name = 'many'"))

	for _, body := range []string{``, `{}`, `[]`, `{"query":1}`, `{"query":"SELECT 1","query":"SELECT 2"}`, `{"query":"x","queries":[]}`, `{"queries":[{}]}`,
		`{"queries":[{"query":"SELECT 1"},{"query":"SELECT 1"},{"query":"SELECT 1"},{"query":"SELECT 1"}]}`, "{\"query\":\"\xff\"}", `{"query":"SELECT 1"} x`} {
		require.Equal(t, 400, w.post(t.Context(), "viewer", body).status, body)
	}
	for _, c := range []string{"postgresql://u@h/rival", "postgres://u@rival.db.example.com/acme", "postgres://u@h/ACME"} {
		require.Equal(t, 403, w.post(t.Context(), "viewer", `{"query":"SELECT 1"}`, "Neon-Connection-String", c).status, c)
	}
	require.Equal(t, []string{"rival", "rival", "ACME"}, w.crossed)
	for _, c := range []string{"postgresql://u@h/postgres?application_name=x", "postgres://u@acme.db.example.com/acme"} {
		require.Equal(t, 200, w.post(t.Context(), "viewer", `{"query":"SELECT 1"}`, "Neon-Connection-String", c).status, c)
	}
	require.Equal(t, 400, w.post(t.Context(), "viewer", `{"queries":[{"query":"SELECT 1"}]}`, "Neon-Batch-Isolation-Level", "Chaos").status)
	require.Equal(t, "sql_not_permitted", w.sql("nobody", "SELECT 1").Code)
	require.Equal(t, "role_without_sql", w.sql("analyst", "SELECT 1").Code)
	require.Equal(t, 401, w.sql("", "SELECT 1").status)
	require.Equal(t, "owner_sql_disabled", newWorld(t, sqlhttp.Limits{Owner: true}).sql("owner", "SELECT 1").Code)
}

// What a role may do by SQL is what it may do, whatever it tries to become.
func TestAttacks(t *testing.T) {
	w := newWorld(t, sqlhttp.Limits{})
	for _, role := range []string{"viewer", "editor"} {
		for _, sql := range []string{
			"SET ROLE {X}_owner", "SET ROLE {X}_auth_a", "SET ROLE {X}_own_a", "SET ROLE freehold_admin", "SET SESSION AUTHORIZATION {X}_owner",
			"SELECT set_config('role', '{X}_owner', false)", "CREATE EXTENSION dblink", "SELECT pg_read_file('/etc/passwd')",
			"SELECT lo_create(0)", "SELECT lo_import('/etc/passwd')", "CREATE TEMP TABLE customers (id int)", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
			"CREATE SCHEMA mine", "CREATE TABLE mine ()", "SELECT * FROM pg_authid", "SELECT * FROM pg_stat_activity", "TRUNCATE customers",
			"SELECT query_to_xml('ALTER ROLE {X}_sql_rw_a PASSWORD ''x''', true, true, '')", "LOAD 'dblink'", "ALTER TABLE customers DISABLE ROW LEVEL SECURITY",
			"SELECT * FROM freehold.lookup('{X}_auth_a')", "SELECT * FROM migrations.goose_db_version",
		} {
			a := w.batch(role, "RESET ROLE", "SELECT 1", strings.ReplaceAll(sql, "{X}", w.database))
			require.Equal(t, 400, a.status, "%s: %s: %s", role, sql, a.text)
		}
		require.Equal(t, 400, w.batch(role, "SET search_path = pg_temp, mine", "CREATE VIEW customers AS SELECT 1").status)
	}
	for _, sql := range []string{
		"INSERT INTO customers (name) VALUES ('x')", "SET transaction_read_only = off", "SET TRANSACTION READ WRITE", "SELECT nextval('invoice_number')",
		"SELECT set_config('transaction_read_only', 'off', false)", "GRANT {X}_sql_ro_a TO {X}_rw",
	} {
		for _, first := range []string{"RESET ROLE", "SELECT set_config('role', 'none', true)"} {
			a := w.batch("viewer", first, strings.ReplaceAll(sql, "{X}", w.database))
			require.Equal(t, 400, a.status, "%s: %s", sql, a.text)
		}
	}
	// The owner owns what is inside, and not the database.
	require.Equal(t, 200, w.batch("owner", "CREATE TABLE made (id int)", "DO $$ BEGIN INSERT INTO made VALUES (1); END $$").status)
	require.Equal(t, `["`+w.database+`_owner"]`, w.one("owner", "SELECT tableowner FROM pg_tables WHERE tablename = 'made'"))
	require.Equal(t, `["1"]`, w.one("viewer", "SELECT id FROM made"))
	for _, sql := range []string{"DROP DATABASE {X}", "ALTER DATABASE {X} RENAME TO y", "ALTER DATABASE {X} CONNECTION LIMIT -1", "CREATE ROLE y", "SET ROLE {X}_auth_a",
		"DROP SCHEMA freehold CASCADE", "COPY made TO PROGRAM 'id'", "ALTER SYSTEM SET fsync = off"} {
		require.Equal(t, 400, w.sql("owner", strings.ReplaceAll(sql, "{X}", w.database)).status, sql)
	}
}

// state is all that a request could leave to the next one in a pooled session.
const state = `SELECT current_setting('search_path'), current_setting('work_mem'), coalesce(current_setting('my.secret', true), ''), current_user, session_user,
	current_setting('statement_timeout') = '25s', current_setting('default_transaction_isolation'), current_setting('client_encoding'),
	(SELECT count(*) FROM pg_prepared_statements WHERE name <> ''), (SELECT count(*) FROM pg_cursors WHERE name <> ''),
	(SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM pg_class WHERE relname = 'scratch'),
	pg_try_advisory_xact_lock(42)`

func TestNothingOfASessionIsLeft(t *testing.T) {
	w := newWorld(t, sqlhttp.Limits{})
	pid := func() string { return w.one("owner", "SELECT pg_backend_pid()") }
	clean, session := w.one("owner", state), pid()
	dirt := []string{
		"SET search_path = nowhere", "SET work_mem = '64kB'", "SET my.secret = 'x'", "SET ROLE NONE", "SET statement_timeout = 0",
		"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SET client_encoding = 'LATIN1'",
		"PREPARE p AS SELECT 1", "DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 9)", "LISTEN l",
		"SELECT pg_catalog.pg_advisory_lock(42)", "SELECT pg_catalog.set_config('my.secret', 'y', false)",
	}
	temp := []string{"SET ROLE " + w.database + "_owner", "CREATE TEMP TABLE scratch (id int) ON COMMIT PRESERVE ROWS"}
	check := func(what string) {
		t.Helper()
		require.Equal(t, clean, w.one("owner", state), what)
		require.Equal(t, session, pid(), "%s: the session is another one, so that this proves nothing", what)
		// Nor is the lock held by a session that nobody uses.
		require.Equal(t, `["t"]`, w.one("viewer", "SELECT pg_try_advisory_xact_lock(42)"), what)
	}
	for _, sql := range dirt {
		a := w.sql("owner", sql)
		require.Equal(t, 200, a.status, "%s: %s", sql, a.text)
		check(sql)
		require.Equal(t, 400, w.batch("owner", sql, "SELECT pg_catalog.int4div(1, 0)").status)
		check(sql + ", then an error")
	}
	a := w.batch("owner", append(temp, dirt...)...)
	require.Equal(t, 200, a.status, a.text)
	check("all of it")
	require.Equal(t, 400, w.batch("owner", append(append(temp, dirt...), "SELECT pg_catalog.int4div(1, 0)")...).status)
	check("all of it, then an error")

	// A deferred trigger is the last that runs; a failing one leaves nothing either.
	require.Equal(t, 200, w.batch("owner", "CREATE TABLE late (id int)",
		`CREATE FUNCTION dirty() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('my.secret', 'z', false); PERFORM pg_advisory_lock(42);
			EXECUTE 'PREPARE late AS SELECT 1'; IF NEW.id < 0 THEN RAISE 'negative'; END IF; RETURN NULL; END $$`,
		"CREATE CONSTRAINT TRIGGER dirty AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dirty()").status)
	require.Equal(t, 200, w.sql("owner", "INSERT INTO late VALUES (1)").status)
	check("a deferred trigger")
	require.Equal(t, "P0001", w.sql("owner", "INSERT INTO late VALUES (-1)").Code)
	check("a deferred trigger that fails")
	// A procedure can't end the transaction.
	require.Equal(t, 200, w.sql("owner", "CREATE PROCEDURE p() LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_lock(42); COMMIT; END'").status)
	require.Equal(t, "2D000", w.sql("owner", "CALL p()").Code)
	check("a procedure that commits")
}

// A request whose time runs out in a write says that nobody knows; the server stops.
func TestTimeRunsOut(t *testing.T) {
	w := newWorld(t, sqlhttp.Limits{})
	for role, status := range map[string]int{"editor": 503, "viewer": 504} {
		require.Equal(t, 200, w.sql(role, "SELECT 1").status) // what comes first takes its time
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		a := w.post(ctx, role, map[string]any{"query": "SELECT pg_sleep(20)"})
		cancel()
		require.Equal(t, status, a.status, a.text)
		require.Equal(t, 200, w.sql(role, "SELECT 1").status)
	}
	require.Eventually(t, func() bool {
		conn, err := w.fleet.Admin(t.Context(), "a", "postgres")
		require.NoError(t, err)
		defer conn.Close(t.Context()) //nolint:errcheck // nothing is lost with it
		var n int
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND query LIKE '%pg_sleep%' AND state = 'active'", w.database).Scan(&n))
		return n == 0
	}, time.Minute, 50*time.Millisecond)
}

// A long pipeline with long answers does not stand still.
func TestLongBothWays(t *testing.T) {
	w := newWorld(t, sqlhttp.Limits{})
	var queries []string
	for range 20 {
		queries = append(queries, "SELECT repeat('y', 400000) -- "+strings.Repeat("x", 200_000))
	}
	a := w.batch("viewer", queries...)
	require.Equal(t, 200, a.status)
	require.Len(t, a.Results, 20)
}
