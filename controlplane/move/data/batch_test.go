package data

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freehold-db/freehold/controlplane/move/survey"
)

// Batches hold every table once, in order, and none is too large.
func TestBatchesHoldEveryTableOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.Int64Range(0, tiny), 0, 1000).Draw(t, "sizes")
		var tables []survey.Table
		for i, size := range sizes {
			tables = append(tables, survey.Table{OID: uint32(i), Bytes: size})
		}
		var seen uint32
		for _, b := range batches(tables) {
			var bytes int64
			for _, table := range b {
				if table.OID != seen {
					t.Fatalf("table %d came where %d was due", table.OID, seen)
				}
				seen++
				bytes += table.Bytes
			}
			if len(b) == 0 || len(b) > batchTables || bytes > batchBytes {
				t.Fatalf("%d tables of %d bytes", len(b), bytes)
			}
		}
		if int(seen) != len(tables) {
			t.Fatalf("%d of %d tables", seen, len(tables))
		}
	})
}

// manyTables are tiny, and of every kind that is read or written in its own way.
func manyTables(n int) (schema, rows string) {
	var s, r strings.Builder
	for i := range n {
		switch i % 5 {
		case 0:
			fmt.Fprintf(&s, "CREATE TABLE m%d (id int, v text, at timestamptz);", i)
			fmt.Fprintf(&r, "INSERT INTO m%d SELECT i, repeat('x', i), now() FROM generate_series(1, %d) i;", i, i)
		case 1: // in text, for regclass has no binary form that means the same elsewhere
			fmt.Fprintf(&s, "CREATE TABLE m%d (id int, c regclass, v text);", i)
			fmt.Fprintf(&r, "INSERT INTO m%d VALUES (1, 'pg_class', E'a\\\\b\\t\\n'), (2, NULL, NULL);", i)
		case 2:
			fmt.Fprintf(&s, "CREATE TABLE m%d ();", i)
			fmt.Fprintf(&r, "INSERT INTO m%d DEFAULT VALUES; INSERT INTO m%d DEFAULT VALUES;", i, i)
		case 3:
			fmt.Fprintf(&s, "CREATE TABLE m%d (id int);", i) // empty
		case 4:
			fmt.Fprintf(&s, "CREATE TABLE m%d (v bytea, twice int GENERATED ALWAYS AS (length(v) * 2) STORED, w text);", i)
			fmt.Fprintf(&r, "INSERT INTO m%d (v, w) SELECT decode(repeat('00ff', i), 'hex'), E'\\\\.' FROM generate_series(1, 20) i;", i)
		}
	}
	return s.String(), r.String()
}

func TestTinyTablesTravelInBatches(t *testing.T) {
	t.Parallel()
	const n = 2*batchTables + 7
	p := newPair(t, bigAndSmall, rows(6000))
	schema, rows := manyTables(n)
	for _, dsn := range []string{p.src, p.dst} {
		p.exec(t, dsn, schema)
	}
	p.exec(t, p.src, rows)
	var runs, indexed atomic.Int64
	rep, err := p.job(t, func(_ context.Context, tables []survey.Table) error {
		runs.Add(1)
		indexed.Add(int64(len(tables)))
		return nil
	})
	require.NoError(t, err)
	require.EqualValues(t, n+3, indexed.Load())
	require.LessOrEqual(t, runs.Load(), int64(4), "small tables are indexed together")
	require.EqualValues(t, 20, rep.Sums[`"public"."m9"`].Rows)
	require.EqualValues(t, 2, rep.Sums[`"public"."m7"`].Rows)
	require.EqualValues(t, 2, rep.Sums[`"public"."m6"`].Rows)
	conn, err := pgx.Connect(t.Context(), p.dst)
	require.NoError(t, err)
	defer conn.Close(context.Background()) //nolint:errcheck // nothing is lost with it
	var ok bool
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT (SELECT count(*) = 20 AND bool_and(w = E'\\.' AND twice = 2 * length(v)) FROM m9) AND (SELECT v = E'a\\b\t\n' FROM m1 WHERE id = 1)`).Scan(&ok))
	require.True(t, ok)
}

// A batch that fails in its middle says where, at either end, and leaves nothing waiting.
func TestABatchThatFailsEnds(t *testing.T) {
	t.Parallel()
	schema, rows := manyTables(40)
	p := newPair(t, schema, rows)
	p.exec(t, p.dst, "ALTER TABLE m9 ADD CHECK (length(v) < 10)")
	_, err := p.job(t, nothing)
	require.ErrorContains(t, err, "target")
	require.ErrorContains(t, err, "m9_v_check")

	p = newPair(t, schema, rows+"CREATE TABLE late (a int)")
	p.exec(t, p.dst, "CREATE TABLE late (a int)")
	_, err = p.jobWith(t, nothing, func(tables []survey.Table) {
		for i := range tables {
			if tables[i].Name == "late" {
				tables[i].Columns = []string{"missing"}
			}
		}
	})
	require.ErrorContains(t, err, "source")
	require.ErrorContains(t, err, `"missing"`)
}
