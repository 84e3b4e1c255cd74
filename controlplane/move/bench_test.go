package move

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/pgserver"
	"github.com/freehold-db/freehold/shardmap"
)

const benchSchema = `
CREATE TABLE facts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int NOT NULL, at timestamptz NOT NULL, amount numeric(12,2), note text);
INSERT INTO facts (customer, at, amount, note) SELECT i % 5000 + 1, '2024-01-01Z'::timestamptz + make_interval(secs => i), i / 7.0, md5(i::text) || md5((i * 7)::text) FROM generate_series(1, 800000) i;
CREATE INDEX facts_customer ON facts (customer); CREATE INDEX facts_at ON facts (at);
CREATE TABLE owners (id int PRIMARY KEY, name text); INSERT INTO owners SELECT i, 'owner ' || i FROM generate_series(1, 5000) i;
ALTER TABLE facts ADD FOREIGN KEY (customer) REFERENCES owners;
CREATE TABLE docs (id int PRIMARY KEY, body jsonb); INSERT INTO docs SELECT i, jsonb_build_object('k', i, 'text', repeat(md5(i::text), 10)) FROM generate_series(1, 120000) i;
CREATE TABLE trail (at timestamptz, what text); INSERT INTO trail SELECT now(), md5(i::text) FROM generate_series(1, 400000) i;
CREATE INDEX trail_at ON trail USING brin (at);`

// BenchmarkMove moves a tenant of about 200 MB there and back, and has pg_dump
// and pg_restore carry the same database on the same machine.
func BenchmarkMove(b *testing.B) {
	w := newWorld(b, "a", "b")
	db, _ := w.tenant("large", "a")
	w.asOwner("a", db, benchSchema)
	script(b, w.conn("a", db), "VACUUM ANALYZE")
	script(b, w.conn("a", db), "CHECKPOINT")
	at, other := shardmap.ShardID("a"), shardmap.ShardID("b")
	var rates, pauses, dumps []float64
	for b.Loop() {
		rec := w.moved("large", other)
		require.Equal(b, Equal, rec.Verification.Final)
		rates, pauses = append(rates, rec.CopyMBPerS), append(pauses, float64(rec.PauseMS))
		at, other = other, at
		took := w.dumpAndRestore(at, other, db)
		dumps = append(dumps, float64(rec.Bytes)/1e6/took.Seconds())
		b.Logf("%.0f MB: copied and indexed at %.1f MB/s (then compared for %v ms), pg_dump | pg_restore %.1f MB/s; phases %v", float64(rec.Bytes)/1e6, rec.CopyMBPerS, rec.CompareMS, dumps[len(dumps)-1], rec.Phases)
	}
	b.ReportMetric(median(rates), "MB/s")
	b.ReportMetric(median(dumps), "dump-MB/s")
	b.ReportMetric(median(rates)/median(dumps), "ratio")
	b.ReportMetric(median(pauses), "pause-ms")
}

// BenchmarkManyTables moves a tenant of 1,000 small tables there and back.
func BenchmarkManyTables(b *testing.B) {
	w := newWorld(b, "a", "b")
	db, _ := w.tenant("many", "a")
	w.asOwner("a", db, `DO $$ BEGIN FOR i IN 1..1000 LOOP
		EXECUTE format('CREATE TABLE many_%s (id int PRIMARY KEY, a text, b int); CREATE INDEX ON many_%s (b); INSERT INTO many_%s SELECT i, md5(i::text), i FROM generate_series(1, 20) i', i, i, i);
	END LOOP; END $$`)
	at, other := shardmap.ShardID("a"), shardmap.ShardID("b")
	copies := map[string][]float64{}
	for b.Loop() {
		rec := w.moved("many", other)
		require.Equal(b, Equal, rec.Verification.Final)
		at, other = other, at
		for _, p := range rec.Phases {
			copies[p.Name] = append(copies[p.Name], float64(p.MS))
		}
		b.Logf("%d tables, %d rows: %v", rec.Tables, rec.Rows, rec.Phases)
	}
	for _, phase := range []string{"copy", "copy/schema", "copy/rows", "copy/constraints"} {
		b.ReportMetric(median(copies[phase]), strings.TrimPrefix(phase, "copy/")+"-ms")
	}
}

// dumpAndRestore carries the database as an operator would by hand, into a scratch database.
func (w *world) dumpAndRestore(from, to shardmap.ShardID, db string) time.Duration {
	bin, err := pgserver.BinDir()
	require.NoError(w.t, err)
	admin := w.conn(to, maintenance)
	script(w.t, admin, "DROP DATABASE IF EXISTS scratch")
	script(w.t, admin, "CREATE DATABASE scratch TEMPLATE template0")
	src, err := w.fleet.AdminEnv(w.t.Context(), from, db)
	require.NoError(w.t, err)
	dst, err := w.fleet.AdminEnv(w.t.Context(), to, "scratch")
	require.NoError(w.t, err)
	start := time.Now()
	dump := exec.CommandContext(w.t.Context(), filepath.Join(bin, "pg_dump"), "-Fc", "-Z0", "--table=public.*") //nolint:gosec // found by us
	dump.Env = src
	restore := exec.CommandContext(w.t.Context(), filepath.Join(bin, "pg_restore"), "--no-owner", "--no-acl", "-d", "scratch")
	restore.Env = dst
	restore.Stdin, err = dump.StdoutPipe()
	require.NoError(w.t, err)
	require.NoError(w.t, dump.Start())
	_ = restore.Run() // functions that tables lean on are missing; the tables of the benchmark are not
	require.NoError(w.t, dump.Wait())
	took := time.Since(start)
	script(w.t, admin, "DROP DATABASE scratch")
	return took
}

// BenchmarkPause moves a small tenant under 400 operations a second, again and again.
func BenchmarkPause(b *testing.B) {
	w := newWorld(b, "a", "b")
	db, login := w.tenant("quick", "a")
	w.asOwner("a", db, trafficSchema)
	tr := w.startTraffic(db, login, 10*time.Millisecond, false, "a", "a", "b", "b")
	tr.tolerant = true // those at b come too early
	at, other := shardmap.ShardID("a"), shardmap.ShardID("b")
	var pauses, attached, gaps []float64
	tried := 0
	for b.Loop() {
		tr.mu.Lock()
		tr.gap = 0
		tr.mu.Unlock()
		rec := w.moved("quick", other)
		at, other = other, at
		tr.mu.Lock()
		gap := tr.gap
		tr.mu.Unlock()
		pauses, attached = append(pauses, float64(rec.PauseMS)), append(attached, float64(rec.AttachedPauseMS))
		if len(pauses) > 1 {
			gaps = append(gaps, float64(gap.Microseconds())/1000)
		}
		tried += len(rec.Attempts)
		if len(pauses) == b.N || len(pauses)%10 == 0 {
			b.Logf("phases of the last: %v", rec.Attempts[len(rec.Attempts)-1].Phases)
		}
	}
	tr.requireBalanced(w, at)
	b.ReportMetric(median(pauses), "pause-p50-ms")
	b.ReportMetric(slices.Max(pauses), "pause-max-ms")
	b.ReportMetric(median(attached), "attached-p50-ms")
	b.ReportMetric(slices.Max(attached), "attached-max-ms")
	if len(gaps) > 0 {
		b.ReportMetric(median(gaps), "gap-p50-ms")
		b.ReportMetric(slices.Max(gaps), "gap-max-ms")
	}
	b.ReportMetric(float64(tried)/float64(len(pauses)), "attempts/move")
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}
