package move

import (
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/move/movetest"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgserver"
	"github.com/freehold-db/freehold/shardmap"
)

// dump is what pg_dump says of the database.
func (w *world) dump(on shardmap.ShardID, db string, args ...string) string {
	w.t.Helper()
	bin, err := pgserver.BinDir()
	require.NoError(w.t, err)
	env, err := w.fleet.AdminEnv(w.t.Context(), on, db)
	require.NoError(w.t, err)
	cmd := exec.CommandContext(w.t.Context(), filepath.Join(bin, "pg_dump"), args...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	require.NoError(w.t, err, string(out))
	var lines []string
	for _, line := range strings.Split(string(out), "\n") {
		// What a dump begins and ends with so that no other can be smuggled in is random.
		if !strings.HasPrefix(line, `\restrict`) && !strings.HasPrefix(line, `\unrestrict`) {
			lines = append(lines, line)
		}
	}
	// The order of grants on one object means nothing, nor that of settings.
	grant := func(line string) bool {
		return strings.HasSuffix(line, ";") && (strings.Contains(line, "GRANT ") || strings.HasPrefix(line, "ALTER ROLE ") || strings.HasPrefix(line, "ALTER DATABASE "))
	}
	for i := 0; i < len(lines); i++ {
		j := i
		for j < len(lines) && grant(lines[j]) {
			j++
		}
		slices.Sort(lines[i:j])
		i = max(i, j-1)
	}
	return strings.Join(lines, "\n")
}

func lines(s string) []string {
	l := strings.Split(s, "\n")
	slices.Sort(l)
	return l
}

// The database that holds everything arrives equal, goes back, and arrives
// equal again, while all of it changes.
func TestMoveCarriesEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("every", "a")
	w.asOwner("a", db, movetest.Everything)
	admin := w.conn("a", db)
	script(t, admin, "ALTER DATABASE "+db+" SET work_mem = '7MB'; ALTER DATABASE "+db+" SET search_path = every, public; ALTER ROLE "+shard.RORole(db)+" IN DATABASE "+db+" SET statement_timeout = '3s'")
	script(t, admin, "COMMENT ON DATABASE "+db+" IS 'the tenant''s'")
	const notes = "--exclude-table-data=freehold.*" // of each place's own
	schema := w.dump("a", db, "--schema-only", "--create")
	require.Contains(t, schema, "'the tenant''s'")
	var identities string
	const identitySQL = "SELECT string_agg(oid::regclass::text || ' ' || relreplident::text, ',' ORDER BY oid::regclass::text) FROM pg_class WHERE relkind = 'r' AND relnamespace IN ('every'::regnamespace, 'public'::regnamespace)"
	require.NoError(t, admin.QueryRow(t.Context(), identitySQL).Scan(&identities))

	from, to := shardmap.ShardID("a"), shardmap.ShardID("b")
	const freshSQL = `SELECT (SELECT sum(n) = (SELECT n FROM every.a_total_of_totals) FROM every.totals)
		AND NOT EXISTS (SELECT feeling, count(*) FROM every.accounts GROUP BY 1 EXCEPT SELECT feeling, n FROM every.totals)`
	writer, changed := w.conn(from, db), false
	w.hit = func(name string) error {
		if name == "move/cutover/hold" && !changed { // before the fence: it must all be there after
			changed = true
			_, err := writer.PgConn().Exec(context.Background(), movetest.Changes).ReadAll()
			return err
		}
		return nil
	}
	for range 2 {
		rec := w.moved("every", to)
		require.True(t, changed)
		require.Equal(t, Equal, rec.Verification.Copy)
		require.Equal(t, Equal, rec.Verification.Objects, "%q", rec.Verification.Detail)
		require.Equal(t, Equal, rec.Verification.Final)
		require.Equal(t, to, w.requireServedOnce("every", "a", "b"))
		if d := cmp.Diff(schema, w.dump(to, db, "--schema-only", "--create")); d != "" {
			t.Errorf("schema on %s differs (- before, + after):\n%s", to, d)
		}
		if d := cmp.Diff(lines(w.dump(from, db, "--data-only", notes)), lines(w.dump(to, db, "--data-only", notes))); d != "" {
			t.Errorf("data on %s differ (- source, + target):\n%.4000s", to, d)
		}
		var fresh bool // materialized views are not in a dump
		require.NoError(t, w.conn(to, db).QueryRow(t.Context(), freshSQL).Scan(&fresh))
		require.True(t, fresh, "materialized views on %s show what their tables hold", to)
		var now string
		require.NoError(t, w.conn(to, db).QueryRow(t.Context(), identitySQL).Scan(&now))
		require.Equal(t, identities, now)
		from, to = to, from
	}
	_ = from
}

// kept are extensions that preflight refuses for their own tables, one whose
// script fails where sessions have an empty search_path, and two that are large
// and of no other kind than postgis.
var kept = []string{"postgis_tiger_geocoder", "postgis_topology", "postgis_raster", "postgis_sfcgal"}

// Every extension that the server has arrives: contrib's, and PostGIS where it is installed.
func TestMoveCarriesExtensions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("extended", "a")
	admin := w.conn("a", db)
	rows, err := admin.Query(t.Context(), "SELECT name::text FROM pg_available_extensions WHERE installed_version IS NULL AND name !~ '-3$' ORDER BY 1") // PostGIS' for the way from version 2
	require.NoError(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	script(t, admin, "SET search_path = public")
	for _, name := range names {
		if !slices.Contains(kept, name) {
			_, err := admin.Exec(t.Context(), "CREATE EXTENSION IF NOT EXISTS "+pg.Ident(name)+" CASCADE")
			require.NoError(t, err, name)
		}
	}
	t.Logf("%d extensions", len(names))
	if slices.Contains(names, "postgis") {
		w.asOwner("a", db, "CREATE TABLE places (id int PRIMARY KEY, at geometry(Point, 4326), area geography); CREATE INDEX ON places USING gist (at);"+
			"INSERT INTO places SELECT i, ST_SetSRID(ST_MakePoint(i, i), 4326), ST_GeogFromText('POLYGON((0 0, 1 0, 1 1, 0 0))') FROM generate_series(1, 50) i")
	}
	schema, data := w.dump("a", db, "--schema-only"), w.dump("a", db, "--data-only", "--exclude-table-data=freehold.*")
	w.moved("extended", "b")
	if d := cmp.Diff(schema, w.dump("b", db, "--schema-only")); d != "" {
		t.Errorf("schema differs (- before, + after):\n%s", d)
	}
	require.Equal(t, lines(data), lines(w.dump("b", db, "--data-only", "--exclude-table-data=freehold.*")))
	if !slices.Contains(names, "postgis") {
		return
	}
	// What is not the extension's own does not arrive with it.
	script(t, w.conn("b", db), "INSERT INTO public.spatial_ref_sys (srid, proj4text) VALUES (990001, 'ours')")
	_, err = w.DryRun(t.Context(), Request{Tenant: "extended", To: "a"}, tester)
	require.ErrorContains(t, err, "postgis (public.spatial_ref_sys): rows were added to the extension's table")
	script(t, w.conn("b", db), "DELETE FROM public.spatial_ref_sys WHERE srid = 990001; GRANT INSERT ON public.spatial_ref_sys TO "+shard.RWRole(db))
	_, err = w.DryRun(t.Context(), Request{Tenant: "extended", To: "a"}, tester)
	require.ErrorContains(t, err, "roles of the tenant may write to the extension's table")
}

// A row of 64 MB arrives, by the copy and by the stream; one that Postgres
// could not put into text is refused before anything is touched.
func TestLargeRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("heavy", "a")
	const bytes = "(SELECT string_agg(pg_catalog.sha512(i::text::bytea), '') FROM generate_series(1, 1000000) i)" // that can't be compressed
	w.asOwner("a", db, "CREATE TABLE heavy (id int PRIMARY KEY, v bytea); ALTER TABLE heavy ALTER v SET STORAGE EXTERNAL; INSERT INTO heavy VALUES (1, "+bytes+")")
	writer, wrote := w.conn("a", db), false
	w.hit = func(name string) error {
		if name == "move/cutover/hold" && !wrote {
			wrote = true
			_, err := writer.Exec(context.Background(), "INSERT INTO public.heavy SELECT id + 1, v FROM public.heavy")
			return err
		}
		return nil
	}
	w.budget = time.Minute
	rec := w.moved("heavy", "b")
	require.True(t, wrote)
	require.Equal(t, Equal, rec.Verification.Final)
	var sizes []int64
	require.NoError(t, w.conn("b", db).QueryRow(t.Context(), "SELECT array_agg(octet_length(v) ORDER BY id) FROM public.heavy").Scan(&sizes))
	require.Equal(t, []int64{64_000_000, 64_000_000}, sizes)

	script(t, w.conn("b", db), "CREATE TABLE public.dense (t text, id int PRIMARY KEY); INSERT INTO public.dense VALUES (repeat('x', 210000000), 1)") // small once it is compressed
	_, err := w.DryRun(t.Context(), Request{Tenant: "heavy", To: "a"}, tester)
	require.ErrorContains(t, err, `"public"."dense": a row of it has 210 MB, and more than 210 can't be carried`)
}
