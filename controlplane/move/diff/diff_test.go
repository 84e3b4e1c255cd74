package diff

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/move/stream"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/tenantdb"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// two databases of the same name on two servers, of which b follows a.
type two struct {
	*testing.T
	db   string
	a, b *pgx.Conn
	Pair
	link string
}

var count atomic.Int64

// schemaSQL holds a table of each kind of key.
const schemaSQL = `
CREATE TYPE color AS ENUM ('violet', 'amber', 'blue'); CREATE DOMAIN code AS text CHECK (VALUE <> '');
CREATE TABLE by_id (id int PRIMARY KEY, v text, j jsonb, twice int GENERATED ALWAYS AS (id * 2) STORED);
CREATE INDEX by_id_v ON by_id (v);
CREATE TABLE "By Text" ("the code" code NOT NULL, "n°" int NOT NULL, v text COLLATE "C", CONSTRAINT by_both UNIQUE ("the code", "n°")); ALTER TABLE "By Text" REPLICA IDENTITY USING INDEX by_both;
CREATE TABLE by_color (c color, u uuid, d numeric, PRIMARY KEY (c, u, d));
CREATE TABLE keyless (a int, b text); ALTER TABLE keyless REPLICA IDENTITY FULL;
CREATE TABLE odd_key (r int4range PRIMARY KEY);
CREATE TABLE nothing (); ALTER TABLE nothing REPLICA IDENTITY FULL;
CREATE TABLE parted (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE part1 PARTITION OF parted FOR VALUES FROM (0) TO (500); CREATE TABLE part2 PARTITION OF parted FOR VALUES FROM (500) TO (100000);
CREATE TABLE empty (id int PRIMARY KEY);
CREATE SEQUENCE seq; CREATE SEQUENCE down INCREMENT -1;
CREATE VIEW seen AS SELECT id, v FROM by_id;
CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
CREATE POLICY mine ON by_id USING (id > 0);
COMMENT ON TABLE by_id IS 'rows';`

const rowsSQL = `
INSERT INTO by_id (id, v, j) SELECT i, 'v' || i, jsonb_build_object('i', i) FROM generate_series(1, 3000) i;
INSERT INTO "By Text" SELECT chr(65 + i % 58) || ' ''x' || i % 7, i, 'v' FROM generate_series(1, 2000) i;
INSERT INTO by_color SELECT (enum_range(NULL::color))[1 + i % 3], ('00000000-0000-0000-0000-' || lpad(i::text, 12, '0'))::uuid, i + 0.50 FROM generate_series(1, 500) i;
INSERT INTO keyless SELECT i % 50, 'b' FROM generate_series(1, 1000) i;
INSERT INTO odd_key SELECT int4range(i, i + 1) FROM generate_series(1, 20) i;
INSERT INTO nothing SELECT FROM generate_series(1, 3);
INSERT INTO parted SELECT i, 'p' FROM generate_series(1, 1000) i;`

func open(t *testing.T) *two {
	t.Helper()
	p := &two{T: t, db: fmt.Sprintf("diff_%d", count.Add(1))}
	servers := []*pgtest.ShardServer{pgtest.SharedShard(t, "a"), pgtest.SharedShard(t, "b")}
	connect := func(i int) Connect {
		return func(ctx context.Context) (*pgx.Conn, error) {
			cfg, err := servers[i].Channel.Config(servers[i].Host(), servers[i].PGPort(), p.db, servers[i].Admin)
			if err != nil {
				return nil, err
			}
			cfg.RuntimeParams["jit"] = "off"
			return pgx.ConnectConfig(ctx, cfg)
		}
	}
	p.Pair = Pair{Serving: Side{connect(0), connect(0)}, Follower: Side{connect(1), connect(1)}}
	for i, conn := range []**pgx.Conn{&p.a, &p.b} {
		admin, err := servers[i].Channel.Connect(t.Context(), servers[i].Host(), servers[i].PGPort(), "postgres", servers[i].Admin)
		require.NoError(t, err)
		do(t, admin, "CREATE DATABASE "+p.db)
		require.NoError(t, admin.Close(t.Context()))
		*conn, err = connect(i)(t.Context())
		require.NoError(t, err)
		t.Cleanup(func() { _ = (*conn).Close(context.Background()) })
		do(t, *conn, "CREATE SCHEMA freehold; CREATE TABLE freehold.barrier (id uuid PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());"+schemaSQL+rowsSQL)
		mover := tenantdb.MoverRole(p.db)
		do(t, *conn, "CREATE ROLE "+mover+"; GRANT ALL ON SCHEMA public TO "+mover+"; GRANT ALL ON ALL TABLES IN SCHEMA public TO "+mover)
	}
	p.link = "freehold_move_" + p.db
	tables, err := survey.Tables(t.Context(), p.a)
	require.NoError(t, err)
	require.NoError(t, stream.Publish(t.Context(), p.a, p.link, tables))
	slot, err := stream.CreateSlot(t.Context(), p.a.Config(), p.link)
	require.NoError(t, err)
	slot.Release()
	login := servers[0].Admin
	conninfo := fmt.Sprintf("host='%s' port='%d' dbname='%s' user='%s' password='%s'", servers[0].Host(), servers[0].PGPort(), p.db, login.User, login.Password)
	security, err := servers[0].Channel.Conninfo(servers[1].Postgres.TLSDir())
	require.NoError(t, err)
	for _, kv := range security {
		conninfo += " " + kv[0] + "='" + kv[1] + "'"
	}
	require.NoError(t, stream.Subscribe(t.Context(), p.b, p.link, conninfo))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		conn, err := connect(1)(ctx)
		require.NoError(t, err)
		require.NoError(t, stream.Unsubscribe(ctx, conn, p.link))
		_ = conn.Close(ctx)
		conn, err = connect(0)(ctx)
		require.NoError(t, err)
		require.NoError(t, stream.DropSlot(ctx, conn, p.link))
		_ = conn.Close(ctx)
	})
	return p
}

func do(t *testing.T, c *pgx.Conn, sql string) {
	t.Helper()
	_, err := c.PgConn().Exec(t.Context(), sql).ReadAll()
	require.NoError(t, err, sql)
}

// plant changes the following side behind the stream's back.
func (p *two) plant(sql string) {
	p.Helper()
	do(p.T, p.b, "SET session_replication_role = replica;"+sql+"; RESET session_replication_role")
}

// compared compares all rows. It stops after every few ranges and goes on with new connections if restarts.
func (p *two) compared(o Options, restarts bool) Progress {
	p.Helper()
	errStop := errors.New("stop here")
	var at Progress
	for {
		c, err := Open(p.Context(), p.Pair, o)
		require.NoError(p, err)
		n := 0
		err = c.Rows(p.Context(), &at, func(Step) error {
			if n++; restarts && n == 3 {
				return errStop
			}
			return nil
		})
		c.Close()
		if err == nil {
			return at
		}
		require.ErrorIs(p, err, errStop)
	}
}

func names(tables []Table) (list []string) {
	for _, t := range tables {
		list = append(list, t.Name)
	}
	return list
}

// Sides that are equal are found so while one is written to and the other is
// behind: a difference that is only lag is none.
func TestEqualWhileWritten(t *testing.T) {
	t.Parallel()
	p := open(t)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var writes atomic.Int64
	for w := range 2 {
		conn, err := p.Serving.Admin(t.Context())
		require.NoError(t, err)
		defer conn.Close(context.Background()) //nolint:errcheck // the test is over
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				_, err := conn.PgConn().Exec(context.Background(), fmt.Sprintf(`
					UPDATE by_id SET v = 'w%[1]d', j = j || '{"w": %[1]d}' WHERE id IN (%[2]d, 1500);
					INSERT INTO by_id (id, v) VALUES (%[3]d, 'new'); DELETE FROM by_id WHERE id = %[4]d;
					UPDATE "By Text" SET v = v || 'y' WHERE "n°" = %[2]d %% 2000; INSERT INTO keyless VALUES (%[1]d, 'new'); DELETE FROM keyless WHERE ctid IN (SELECT ctid FROM keyless LIMIT 1);
					UPDATE parted SET v = v || 'z' WHERE id = %[2]d %% 1000 + 1`, i, rand.IntN(3000)+1, 10_000+2*i+w, 10_000+2*(i-50)+w)).ReadAll()
				if err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
				writes.Add(1)
				time.Sleep(10 * time.Millisecond) // leaves some of a busy machine to the stream
			}
		})
	}
	pgtest.Eventually(t, "there are writes", func() bool { return writes.Load() > 50 })
	got := p.compared(Options{}, false)
	stop()
	wg.Wait()
	require.Empty(t, got.Differ, "%+v", got.Differ)
	require.Equal(t, 9, got.Tables)
	require.Greater(t, got.Rows, int64(7000))
}

// Whatever is planted at the following side is found, named and counted, also
// by a comparison that is stopped again and again and taken up elsewhere.
func TestPlantedRows(t *testing.T) {
	t.Parallel()
	p := open(t)
	p.plant(`UPDATE by_id SET v = 'else' WHERE id = 2500; DELETE FROM by_id WHERE id = 1; INSERT INTO by_id VALUES (5000, 'extra'), (-7, 'extra');
		UPDATE "By Text" SET v = NULL WHERE "n°" = 77; DELETE FROM by_color WHERE d = 250.5; INSERT INTO by_color SELECT c, u, 250.500 FROM by_color WHERE d = 249.5;
		UPDATE keyless SET b = 'other' WHERE ctid = (SELECT ctid FROM keyless WHERE a = 7 LIMIT 1); DELETE FROM nothing WHERE ctid = '(0,1)';
		INSERT INTO odd_key VALUES ('[100,200)'); INSERT INTO empty VALUES (1); UPDATE part2 SET v = 'q' WHERE id = 900;
		CREATE TABLE own (id int)`)
	var first Progress
	for _, restarts := range []bool{false, true} {
		got := p.compared(Options{}, restarts)
		if first.Tables == 0 {
			first = got
		}
		require.Equal(t, first, got, "stopped and taken up again, it comes to the same")
	}
	found := map[string]Table{}
	for _, d := range first.Differ {
		found[d.Name] = d
	}
	require.ElementsMatch(t, []string{`"public"."by_id"`, `"public"."By Text"`, `"public"."by_color"`, `"public"."keyless"`, `"public"."nothing"`, `"public"."odd_key"`, `"public"."empty"`, `"public"."part2"`}, names(first.Differ))
	byID := found[`"public"."by_id"`]
	require.Equal(t, []int64{1, 2, 1}, []int64{byID.Missing, byID.Extra, byID.Changed})
	require.ElementsMatch(t, []RowDifference{{Kind: Changed, Key: "id=2500", Columns: []string{"v"}}, {Kind: Missing, Key: "id=1"}, {Kind: Extra, Key: "id=5000"}, {Kind: Extra, Key: "id=-7"}}, byID.Rows)
	text := found[`"public"."By Text"`].Rows
	require.Len(t, text, 1)
	require.Contains(t, text[0].Key, "n°=77")
	require.Equal(t, []string{"v"}, text[0].Columns)
	color := found[`"public"."by_color"`]
	require.Equal(t, []int64{1, 1}, []int64{color.Missing, color.Extra})
	require.ElementsMatch(t, []RowDifference{{Kind: Missing, Key: `(7,b)`}, {Kind: Extra, Key: `(7,other)`}}, found[`"public"."keyless"`].Rows)
	require.Equal(t, []RowDifference{{Kind: Missing, Key: `()`}}, found[`"public"."nothing"`].Rows)
	require.Equal(t, []RowDifference{{Kind: Extra, Key: `("[100,200)")`}}, found[`"public"."odd_key"`].Rows)

	for _, d := range p.compared(Options{KeysOnly: true}, false).Differ {
		for _, r := range d.Rows {
			require.Empty(t, r.Columns)
			require.NotContains(t, r.Key, "other")
		}
	}
	sampled := p.compared(Options{Sample: 1, Seed: "x"}, false)
	require.Less(t, sampled.Rows, first.Rows)
	require.Contains(t, names(sampled.Differ), `"public"."by_id"`, "the first range is always looked at")
	require.Equal(t, sampled, p.compared(Options{Sample: 1, Seed: "x"}, true))
}

// A row that differs is found though somebody changes the rows around it all
// the time, and one that somebody changes all the time is not said to differ.
func TestDifferenceIsProven(t *testing.T) {
	t.Parallel()
	p := open(t)
	p.plant("DELETE FROM by_id WHERE id = 10; UPDATE keyless SET b = 'z' WHERE a = 3")
	conn, err := p.Serving.Admin(t.Context())
	require.NoError(t, err)
	defer conn.Close(context.Background()) //nolint:errcheck // the test is over
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if _, err := conn.PgConn().Exec(context.Background(), "UPDATE by_id SET v = v || 'x' WHERE id IN (9, 11); INSERT INTO keyless VALUES (1, 'n')").ReadAll(); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	got := p.compared(Options{}, false)
	stop()
	<-done
	require.ElementsMatch(t, []string{`"public"."by_id"`, `"public"."keyless"`}, names(got.Differ))
	i := slices.IndexFunc(got.Differ, func(d Table) bool { return d.Name == `"public"."by_id"` })
	require.Equal(t, []RowDifference{{Kind: Missing, Key: "id=10"}}, got.Differ[i].Rows)
	require.Equal(t, int64(20), got.Differ[1-i].Missing)
	require.Equal(t, int64(20), got.Differ[1-i].Extra)
}

func TestTooManyDifferences(t *testing.T) {
	t.Parallel()
	p := open(t)
	p.plant("TRUNCATE by_id; DROP TABLE odd_key; ALTER TABLE empty ADD v int")
	got := p.compared(Options{}, false)
	require.Len(t, got.Differ, 3)
	for _, d := range got.Differ {
		switch d.Name {
		case `"public"."by_id"`:
			require.True(t, d.Stopped)
			require.Len(t, d.Rows, listed)
			require.GreaterOrEqual(t, d.Missing, int64(most))
		default:
			require.NotEmpty(t, d.Note)
		}
	}
}

func TestNothingArrives(t *testing.T) {
	t.Parallel()
	p := open(t)
	do(t, p.b, "ALTER SUBSCRIPTION "+p.link+" DISABLE")
	var told []string
	c, err := Open(t.Context(), p.Pair, Options{Patience: 5 * time.Second, Waiting: func(why string) { told = append(told, why) }})
	require.NoError(t, err)
	defer c.Close()
	require.ErrorIs(t, c.Rows(t.Context(), &Progress{}, func(Step) error { return nil }), ErrNoBarrier)
	require.NotEmpty(t, told)
}

// Each thing that is planted beside the rows is found under its name.
func TestPlantedObjects(t *testing.T) {
	t.Parallel()
	p := open(t)
	do(t, p.a, "SELECT setval('seq', 100), setval('down', -100)")
	c, err := Open(t.Context(), p.Pair, Options{})
	require.NoError(t, err)
	defer c.Close()
	compared := func() []string {
		found, err := c.Objects(t.Context())
		require.NoError(t, err)
		var list []string
		for _, o := range found {
			list = append(list, o.String())
		}
		return list
	}
	require.Empty(t, compared(), "a sequence that is behind is set at the cutover")
	for _, planted := range []struct{ sql, back, want string }{
		{"DROP INDEX by_id_v", "CREATE INDEX by_id_v ON by_id (v)", "index public.by_id_v is not at the following side"},
		{"GRANT SELECT ON by_id TO PUBLIC", "REVOKE SELECT ON by_id FROM PUBLIC", "grant SELECT on table public.by_id to PUBLIC is at the following side only"},
		{"GRANT UPDATE (v) ON by_id TO PUBLIC", "REVOKE UPDATE (v) ON by_id FROM PUBLIC", "grant UPDATE on column public.by_id.v to PUBLIC is at the following side only"},
		{"REVOKE EXECUTE ON FUNCTION f FROM PUBLIC", "GRANT EXECUTE ON FUNCTION f TO PUBLIC", "grant EXECUTE on function public.f(integer) to PUBLIC is not at the following side"},
		{"SELECT setval('seq', 500)", "SELECT setval('seq', 5)", `sequence position public.seq is 101 at the serving side and 501 at the following`},
		{"SELECT setval('down', -500)", "SELECT setval('down', -5)", `sequence position public.down is -101 at the serving side and -501 at the following`},
		{"ALTER SEQUENCE seq INCREMENT 7", "ALTER SEQUENCE seq INCREMENT 1", "sequence definition public.seq"},
		{"ALTER TABLE by_id ADD CONSTRAINT positive CHECK (id > -1000)", "ALTER TABLE by_id DROP CONSTRAINT positive", "constraint positive on public.by_id is at the following side only"},
		{"ALTER POLICY mine ON by_id USING (id > 1)", "ALTER POLICY mine ON by_id USING (id > 0)", "policy mine on public.by_id"},
		{"COMMENT ON TABLE by_id IS 'else'", "COMMENT ON TABLE by_id IS 'rows'", "comment on table public.by_id is rows at the serving side and else at the following"},
		{"CREATE EXTENSION pg_trgm", "DROP EXTENSION pg_trgm", "extension pg_trgm is at the following side only"},
		{"ALTER DATABASE " + p.db + " SET work_mem = '7MB'", "ALTER DATABASE " + p.db + " RESET work_mem", "setting work_mem of the database is at the following side only"},
		{"ALTER TABLE by_id ALTER v SET DEFAULT 'x'", "ALTER TABLE by_id ALTER v DROP DEFAULT", "column public.by_id.v"},
		{"ALTER TABLE by_id ENABLE ROW LEVEL SECURITY", "ALTER TABLE by_id DISABLE ROW LEVEL SECURITY", "table public.by_id"},
		{"CREATE OR REPLACE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + 1'", "CREATE OR REPLACE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT $1'", "function public.f(integer)"},
		{"CREATE OR REPLACE VIEW seen AS SELECT id, v FROM by_id WHERE id > 1", "CREATE OR REPLACE VIEW seen AS SELECT id, v FROM by_id", "view definition public.seen"},
		{"CREATE TRIGGER t BEFORE UPDATE ON by_id FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()", "DROP TRIGGER t ON by_id", "trigger t on public.by_id is at the following side only"},
		{"ALTER TYPE color RENAME VALUE 'blue' TO 'navy'", "ALTER TYPE color RENAME VALUE 'navy' TO 'blue'", "type public.color"},
		{"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC", "ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM PUBLIC", "default privileges SELECT on r of freehold_admin to PUBLIC"},
		{"CREATE SCHEMA other", "DROP SCHEMA other", "schema other is at the following side only"},
		{"CREATE CAST (int AS color) WITH INOUT", "DROP CAST (int AS color)", "object cast from integer to public.color"},
	} {
		do(t, p.b, planted.sql)
		found := compared()
		require.True(t, slices.ContainsFunc(found, func(s string) bool { return strings.HasPrefix(s, planted.want) }), "%s: %q", planted.sql, found)
		do(t, p.b, planted.back)
		require.Empty(t, compared(), planted.back)
	}
}
