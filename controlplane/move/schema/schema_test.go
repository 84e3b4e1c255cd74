package schema_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/move/movetest"
	"github.com/freehold-db/freehold/controlplane/move/schema"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pgserver"
	"github.com/freehold-db/freehold/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const database = "t_00000000000000a1"

func admin(t *testing.T, f *shardtest.Fleet, on, db string) *pgx.Conn {
	t.Helper()
	conn, err := f.Admin(t.Context(), "s1", db)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func script(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
	require.NoError(t, err)
}

func TestFingerprintSeesSchemaAndNothingElse(t *testing.T) {
	f := shardtest.New(t, "../../../deploy/sample", "s1")
	f.Database(t, "s1", database)
	conn := admin(t, f, "s1", database)
	script(t, conn, "SET search_path = public; SET ROLE "+shard.OwnerRole(database)+";"+movetest.Everything)
	script(t, conn, "RESET ROLE; SET search_path = ''")
	now := func() string {
		fp, err := schema.Fingerprint(t.Context(), conn)
		require.NoError(t, err)
		return fp
	}
	before := now()
	for _, sql := range []string{
		"VACUUM ANALYZE", "TRUNCATE every.no_columns", "REFRESH MATERIALIZED VIEW every.totals",
		"CREATE TEMPORARY TABLE scratch (id serial PRIMARY KEY, x text DEFAULT 'y'); CREATE INDEX ON scratch (x); COMMENT ON COLUMN scratch.x IS NULL",
		"SELECT nextval('every.loose')", "INSERT INTO every.nokey_full VALUES (1)", "VACUUM FULL every.orders",
		"CREATE PUBLICATION mine FOR TABLE every.orders; COMMENT ON PUBLICATION mine IS 'x'",
	} {
		script(t, conn, sql)
		require.Equal(t, before, now(), sql)
	}
	for _, sql := range []string{
		"ALTER TABLE every.orders ADD COLUMN more int DEFAULT 7", "ALTER TABLE every.orders DROP COLUMN more",
		"CREATE INDEX more ON every.orders (state)", "CREATE OR REPLACE FUNCTION every.double(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n + n'",
		"ALTER TYPE every.mood ADD VALUE 'new'", "COMMENT ON TABLE every.orders IS 'new'", "GRANT TRUNCATE ON every.t TO " + shard.RORole(database),
		"ALTER TABLE every.t ENABLE ROW LEVEL SECURITY", "ALTER TABLE every.orders ALTER COLUMN state SET DEFAULT 'ok'", "ALTER SEQUENCE every.loose INCREMENT 4",
		"ALTER DOMAIN every.positive DROP CONSTRAINT positive_check", "CREATE SCHEMA more", "ALTER TABLE every.accounts DISABLE TRIGGER accounts_note",
		"CREATE OR REPLACE VIEW every.between_totals AS SELECT * FROM every.totals WHERE true", "ALTER TABLE every.orders REPLICA IDENTITY FULL",
		"CREATE TABLE more.rewritten (n int)", "ALTER TABLE more.rewritten ALTER COLUMN n TYPE int USING n + 1",
	} {
		before := now()
		script(t, conn, sql)
		require.NotEqual(t, before, now(), sql)
	}
	start := time.Now()
	now()
	t.Logf("one fingerprint took %v", time.Since(start))
}

func TestArchiveKnowsWhatItsEntriesAre(t *testing.T) {
	f := shardtest.New(t, "../../../deploy/sample", "s1")
	f.Database(t, "s1", "t_00000000000000a2")
	conn := admin(t, f, "s1", "t_00000000000000a2")
	script(t, conn, "SET search_path = public; SET ROLE "+shard.OwnerRole("t_00000000000000a2")+";"+movetest.Everything)
	bin, err := pgserver.BinDir()
	require.NoError(t, err)
	env, err := f.AdminEnv(t.Context(), "s1", "t_00000000000000a2")
	require.NoError(t, err)
	a, err := schema.Tools{BinDir: bin}.Dump(t.Context(), env, "", time.Second)
	require.NoError(t, err)
	defer func() { require.NoError(t, a.Close()) }()
	for _, e := range append(a.Pre, a.Post...) {
		require.NotContains(t, e.Describe, "ACL pg_catalog", "privileges of the system's functions are the template's business")
		require.NotContains(t, e.Describe, "SCHEMA - freehold")
	}
	byOID := map[uint32]schema.Entry{}
	for _, e := range a.Post {
		byOID[e.OID] = e
	}
	var index, constraint uint32
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT 'every.accounts_cover'::regclass::oid::int8, (SELECT oid::int8 FROM pg_constraint WHERE conname = 'accounts_pkey' AND connamespace = 'every'::regnamespace)").Scan(&index, &constraint))
	require.Contains(t, byOID[index].Describe, "INDEX every accounts_cover")
	require.Contains(t, byOID[constraint].Describe, "CONSTRAINT every accounts accounts_pkey")
}
