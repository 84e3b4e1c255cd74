package data

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// Chunks cover every page exactly once, whatever the sizes.
func TestSplitCoversAllPages(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pages := rapid.Int64Range(0, 100_000).Draw(t, "pages")
		table := survey.Table{Pages: pages, Bytes: pages*survey.PageSize + rapid.Int64Range(0, 1<<30).Draw(t, "toast")}
		chunks := split(table, rapid.Int64Range(1, 64<<20).Draw(t, "size"))
		var at int64
		for i, c := range chunks {
			if c.from != at {
				t.Fatalf("chunk %d begins at %d, the one before ended at %d", i, c.from, at)
			}
			if i == len(chunks)-1 {
				if c.to != 0 {
					t.Fatal("the last chunk must be open-ended")
				}
			} else if c.to <= c.from {
				t.Fatalf("chunk %d is empty: %+v", i, c)
			}
			at = c.to
		}
	})
}

type pair struct{ src, dst string }

func newPair(t *testing.T, schema, rows string) pair {
	t.Helper()
	p := pair{pgtest.Database(t) + "&jit=off", pgtest.Database(t) + "&jit=off"}
	p.exec(t, p.src, schema)
	p.exec(t, p.dst, schema)
	p.exec(t, p.src, rows)
	return p
}

func (p pair) exec(t *testing.T, dsn, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(context.Background()) //nolint:errcheck // nothing is lost with it
	_, err = conn.PgConn().Exec(t.Context(), sql).ReadAll()
	require.NoError(t, err)
}

func connector(dsn string) Connect {
	return func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, dsn) }
}

// job copies all tables; index is called when their rows are there.
func (p pair) job(t *testing.T, index func(context.Context, []survey.Table) error) (Report, error) {
	t.Helper()
	return p.jobWith(t, index, func([]survey.Table) {})
}

// jobWith has the caller change what was found out about the tables.
func (p pair) jobWith(t *testing.T, index func(context.Context, []survey.Table) error, change func([]survey.Table)) (Report, error) {
	t.Helper()
	holder, err := pgx.Connect(t.Context(), p.src)
	require.NoError(t, err)
	t.Cleanup(func() { _ = holder.Close(context.Background()) })
	tx, err := holder.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	var snapshot string
	require.NoError(t, tx.QueryRow(t.Context(), "SELECT pg_export_snapshot()").Scan(&snapshot))
	tables, err := survey.Tables(t.Context(), tx)
	require.NoError(t, err)
	change(tables)
	return Job{Source: connector(p.src), Target: connector(p.dst), Snapshot: snapshot, Tables: tables, Streams: 3,
		Index: index, Progress: func(Progress) {}}.Run(t.Context())
}

func nothing(context.Context, []survey.Table) error { return nil }

const bigAndSmall = "CREATE TABLE big (id int, v text, e money); CREATE TABLE small (id int); CREATE TABLE empty (id int)"

func rows(n int) string {
	return fmt.Sprintf("INSERT INTO big SELECT i, repeat(md5(i::text), 30), i::money FROM generate_series(1, %d) i; INSERT INTO small SELECT generate_series(1, 10)", n)
}

func TestCopyCarriesAllRowsAndIndexesEachTableOnce(t *testing.T) {
	t.Parallel()
	p := newPair(t, bigAndSmall, rows(60000)) // big is split into several chunks
	var indexed atomic.Int64
	rep, err := p.job(t, func(_ context.Context, tables []survey.Table) error { indexed.Add(int64(len(tables))); return nil })
	require.NoError(t, err)
	require.EqualValues(t, 60010, rep.Rows)
	require.EqualValues(t, 3, indexed.Load())
	require.EqualValues(t, 60000, rep.Sums[`"public"."big"`].Rows)
}

// The control of the comparison: every kind of difference is found.
func TestComparisonFindsDifferences(t *testing.T) {
	t.Parallel()
	for i, harm := range []string{
		"UPDATE big SET v = v || 'x' WHERE id = 77",
		"DELETE FROM big WHERE id = 77",
		"INSERT INTO big VALUES (60001, 'more', 1)",
		"UPDATE small SET id = CASE id WHEN 1 THEN 2 ELSE 1 END WHERE id IN (1, 2) AND id = 1",
		"INSERT INTO empty VALUES (NULL)",
		"UPDATE small SET id = NULL WHERE id = 3",
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			p := newPair(t, bigAndSmall, rows(6000))
			_, err := p.job(t, nothing)
			require.NoError(t, err)
			p.exec(t, p.dst, harm)
			_, err = p.compare(t)
			var differ *MismatchError
			require.ErrorAs(t, err, &differ, harm)
			require.Len(t, differ.Tables, 1)
		})
	}
	t.Run("in the copy itself", func(t *testing.T) {
		t.Parallel()
		p := newPair(t, bigAndSmall, rows(6000))
		var once atomic.Bool
		_, err := p.job(t, func(_ context.Context, tables []survey.Table) error {
			if tables[0].Name == "big" && once.CompareAndSwap(false, true) {
				p.exec(t, p.dst, "DELETE FROM big WHERE id = 5")
			}
			return nil
		})
		var differ *MismatchError
		require.ErrorAs(t, err, &differ)
		require.Contains(t, differ.Error(), `"public"."big"`)
	})
}

func (p pair) compare(t *testing.T) (Report, error) {
	t.Helper()
	holder, err := pgx.Connect(t.Context(), p.dst)
	require.NoError(t, err)
	t.Cleanup(func() { _ = holder.Close(context.Background()) })
	tx, err := holder.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	var snapshot string
	require.NoError(t, tx.QueryRow(t.Context(), "SELECT pg_export_snapshot()").Scan(&snapshot))
	src, err := pgx.Connect(t.Context(), p.src)
	require.NoError(t, err)
	defer src.Close(context.Background()) //nolint:errcheck // nothing is lost with it
	tables, err := survey.Tables(t.Context(), src)
	require.NoError(t, err)
	return Comparison{Source: connector(p.src), Target: connector(p.dst), Snapshot: snapshot, Tables: tables, Streams: 2, Progress: func(Progress) {}}.Run(t.Context())
}

// An end that fails ends the whole copy with its own error, and leaves nothing running.
func TestErrorsOfEitherEndComeThrough(t *testing.T) {
	t.Parallel()
	p := newPair(t, bigAndSmall, rows(6000))
	p.exec(t, p.dst, "ALTER TABLE big ADD CHECK (id < 5000)")
	_, err := p.job(t, nothing)
	require.ErrorContains(t, err, "target")
	require.ErrorContains(t, err, "check constraint")

	p = newPair(t, bigAndSmall, rows(6000))
	p.exec(t, p.dst, "DROP TABLE small")
	_, err = p.job(t, nothing)
	require.ErrorContains(t, err, `"public"."small"`)

	p = newPair(t, bigAndSmall, rows(6000))
	_, err = p.job(t, func(context.Context, []survey.Table) error { return fmt.Errorf("no index today") })
	require.ErrorContains(t, err, "no index today")
}

// What the tenant truncates while it is copied ends empty at the target, with
// what refers to it: the stream brings the TRUNCATE and what came after.
func TestTruncatedMeanwhileIsNoMismatch(t *testing.T) {
	t.Parallel()
	p := newPair(t, "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int, v text); CREATE TABLE kept (id int)",
		"ALTER TABLE child ADD FOREIGN KEY (id) REFERENCES parent; INSERT INTO parent SELECT generate_series(1, 10); INSERT INTO kept SELECT generate_series(1, 10);"+
			"INSERT INTO child SELECT 1, repeat(md5(i::text), 30) FROM generate_series(1, 6000) i")
	var once atomic.Bool
	rep, err := p.job(t, func(context.Context, []survey.Table) error {
		if once.CompareAndSwap(false, true) {
			p.exec(t, p.src, "TRUNCATE parent CASCADE; INSERT INTO parent VALUES (77)")
			p.exec(t, p.src, "VACUUM FULL kept")
		}
		return nil
	})
	require.NoError(t, err)
	require.Zero(t, rep.Sums[`"public"."parent"`].Rows)
	require.EqualValues(t, 10, rep.Sums[`"public"."kept"`].Rows)
	p.exec(t, p.dst, "DO $$ BEGIN ASSERT NOT EXISTS (SELECT FROM parent) AND NOT EXISTS (SELECT FROM child) AND (SELECT count(*) FROM kept) = 10; END $$; ALTER TABLE child ADD FOREIGN KEY (id) REFERENCES parent")
}
