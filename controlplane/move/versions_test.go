package move

import (
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move/movetest"
	"github.com/freehold-db/freehold/controlplane/move/schema"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

// lateWrites change rows of every kind of table that the stream treats its own
// way: found by a key, an index, whole rows; partitioned; under row security.
const lateWrites = `
UPDATE every.accounts SET size = size % 7 + 1, feeling = 'very happy', blob = 'changed' WHERE id % 50 = 7;
INSERT INTO every.orders (account, state) VALUES (1, 'sad'); UPDATE every.orders SET state = 'happy' WHERE id < 5; DELETE FROM every.orders WHERE id = 499;
UPDATE every.nokey_unique SET n = n + 1 WHERE n < 10; UPDATE every.nokey_full SET a = a + 10 WHERE a = 1; INSERT INTO every.nokey_nothing VALUES (2);
UPDATE every.keyed_full SET v = 'w' WHERE id = 2; UPDATE every.keyed_index SET code = 'other' WHERE id = 3; DELETE FROM every.keyed_index WHERE id = 4;
INSERT INTO every.events (day, region, body) VALUES ('2020-02-02', 'eu', 'late'), ('2023-02-02', 'us', 'later'); UPDATE every.events SET region = 'us' WHERE id = 3;
INSERT INTO every.dogs (name, breed) VALUES ('late', 'y'); INSERT INTO every.no_columns DEFAULT VALUES; UPDATE every.typed SET y = 'y';
UPDATE "Über schema"."Weird table; --" SET "a b" = 'ü'; UPDATE every.one_json SET j = '{"b":  2}', x = '<b/>'; SELECT nextval('every.loose'), nextval('every.placed');`

// contents are the rows of all tables and the positions of all sequences, as
// one hash for each, by what stands in them and not by how a version stores it.
func (w *world) contents(on shardmap.ShardID, db string) map[string]string {
	w.t.Helper()
	conn := w.conn(on, db)
	script(w.t, conn, "SET extra_float_digits = 1; SET TimeZone = 'UTC'")
	rows, err := conn.Query(w.t.Context(), `
SELECT c.oid::regclass::text, c.relkind = 'S' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'S') AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'freehold') AND (c.relkind <> 'm' OR c.relispopulated)`)
	require.NoError(w.t, err)
	queries := map[string]string{}
	var name string
	var sequence bool
	for rows.Next() {
		require.NoError(w.t, rows.Scan(&name, &sequence))
		queries[name] = "SELECT count(*) || ' rows, ' || coalesce(md5(string_agg(md5(textin(record_out(t.*))), '' ORDER BY md5(textin(record_out(t.*))))), '') FROM " + name + " t"
		if sequence {
			queries[name] = "SELECT last_value || ' ' || is_called FROM " + name
		}
	}
	require.NoError(w.t, rows.Err())
	all := map[string]string{}
	for name, sql := range queries {
		var v string
		require.NoError(w.t, conn.QueryRow(w.t.Context(), sql).Scan(&v), name)
		all[name] = v
	}
	return all
}

// A move to a newer version is an online upgrade: everything arrives equal,
// what is written meanwhile too, and the tenant is served there as before.
func TestUpgradeCarriesEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", shardtest.Newer)
	db, login := w.tenant("every", "a")
	w.asOwner("a", db, movetest.Everything)
	w.asOwner("a", db, "SET search_path = public;"+trafficSchema)
	admin := w.conn("a", db)
	script(t, admin, "ALTER DATABASE "+db+" SET work_mem = '7MB'; ALTER ROLE "+shard.RORole(db)+" IN DATABASE "+db+" SET statement_timeout = '3s'; COMMENT ON DATABASE "+db+" IS 'the tenant''s'")
	before := movetest.Describe(t, admin)
	require.Greater(t, len(before), 500)
	late := w.conn("a", db)
	script(t, late, "SET search_path = every, public")
	var wrote atomic.Bool
	w.hit = func(name string) error {
		if name == "move/cutover/hold" && !wrote.Swap(true) { // before the fence: it must all be there after
			script(t, late, lateWrites)
		}
		return nil
	}
	tr := w.startTraffic(db, login, 20*time.Millisecond, false, "a")
	rec := w.moved("every", shardtest.Newer)
	require.True(t, wrote.Load())
	require.Equal(t, Equal, rec.Verification.Copy)
	require.Equal(t, Equal, rec.Verification.Objects, "%q", rec.Verification.Detail)
	require.Equal(t, Equal, rec.Verification.Final)
	require.Equal(t, shardtest.Newer, w.requireServedOnce("every", "a", shardtest.Newer))
	writes := tr.writes.Load()
	pgtest.Eventually(t, "clients go on at the new place", func() bool { return tr.writes.Load() > writes+5 })
	tr.requireBalanced(w, shardtest.Newer)

	if d := cmp.Diff(before, movetest.Describe(t, w.conn(shardtest.Newer, db))); d != "" {
		t.Errorf("the schema differs (- before, + after):\n%s", d)
	}
	here, there := w.contents("a", db), w.contents(shardtest.Newer, db)
	for _, moving := range []string{"public.book", "public.sums", "public.log", "public.book_n_seq"} {
		delete(here, moving) // clients went on
		delete(there, moving)
	}
	for _, refreshed := range []string{"every.totals", "every.a_total_of_totals"} {
		require.NotEmpty(t, there[refreshed])
		delete(here, refreshed) // as old as the source's last refresh
		delete(there, refreshed)
	}
	require.Equal(t, here, there)
	var major int
	require.NoError(t, w.conn(shardtest.Newer, db).QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int / 10000").Scan(&major))
	require.Equal(t, pgtest.NewestMajor, major)
}

// What can't be carried between two versions is refused before anything is
// touched, with what to do about it.
func TestPreflightAcrossVersions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", shardtest.Newer)
	w.tenant("modern", shardtest.Newer)
	_, err := w.DryRun(t.Context(), Request{Tenant: "modern", To: "a"}, tester)
	var refused *RefusedError
	require.ErrorAs(t, err, &refused)
	require.Len(t, refused.Findings, 1)
	require.ErrorContains(t, err, "older than the source's 18 (choose a shard at the same or a newer version)")

	// An upgrade needs the source's tools alone, and no others than these are there.
	old, _ := w.tenant("old", "a")
	script(t, w.conn("a", old), "CREATE EXTENSION adminpack") // gone since 17
	bin := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(bin, "pg_dump"), []byte("#!/bin/sh\necho 'pg_dump (PostgreSQL) 14.9'\n"), 0o700)) //nolint:gosec // it is to be run
	found := w.tools
	defer func() { w.tools = found }()
	for name, c := range map[string]struct {
		tools *schema.Toolbox
		want  []string
	}{
		"the source's": {found, []string{"extension"}},
		"an older":     {schema.NewToolbox(bin), []string{"extension", "tools"}},
	} {
		w.tools = c.tools
		_, err := w.DryRun(t.Context(), Request{Tenant: "old", To: shardtest.Newer}, tester)
		var refused *RefusedError
		require.ErrorAs(t, err, &refused, name)
		var codes []string
		for _, f := range refused.Findings {
			codes = append(codes, f.Code)
		}
		require.ElementsMatch(t, c.want, codes, name)
		if slices.Contains(codes, "tools") {
			require.ErrorContains(t, err, "the control plane has that of 14: install the client programs of Postgres 18")
		}
		require.ErrorContains(t, err, "adminpack: the extension is not installed on the target's server")
	}
}

// What draining a shard onto a newer one means is said tenant by tenant, and changes nothing.
func TestPlanUpgrade(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", shardtest.Newer)
	db, _ := w.tenant("able", "a")
	odd, _ := w.tenant("odd", "a")
	script(t, w.conn("a", odd), "CREATE EXTENSION adminpack") // gone since 17
	w.tenant("there", shardtest.Newer)
	before := w.dump("a", db)
	plan, err := w.PlanUpgrade(t.Context(), "a", shardtest.Newer, catalog.Page{Limit: 10})
	require.NoError(t, err)
	require.Len(t, plan.Tenants, 2)
	require.Empty(t, plan.Next)
	require.Equal(t, -1, plan.Room)
	require.False(t, plan.Measured)
	require.Regexp(t, `^\d+\.\d+$`, plan.From.Version)
	require.Regexp(t, `^18\.\d+$`, plan.To.Version)
	able, other := plan.Tenants[0], plan.Tenants[1]
	require.Equal(t, shardmap.TenantID("able"), able.Tenant)
	require.True(t, able.Feasible(), "%v", able.Refusals)
	require.Positive(t, able.Tables)
	require.Positive(t, able.Bytes)
	require.Greater(t, able.Estimate, time.Second)
	require.False(t, other.Feasible())
	require.Equal(t, "extension", other.Refusals[0].Code)
	require.NotEmpty(t, other.Refusals[0].Remedy)
	require.Equal(t, before, w.dump("a", db))
	w.requireNoTrace("a", db)

	first, err := w.PlanUpgrade(t.Context(), "a", shardtest.Newer, catalog.Page{Limit: 1})
	require.NoError(t, err)
	require.Equal(t, "able", first.Next)
	for _, c := range []struct {
		from, to shardmap.ShardID
		want     error
	}{{"a", "a", catalog.ErrConflict}, {"a", "z", catalog.ErrNotFound}, {"z", "a", catalog.ErrNotFound}} {
		_, err = w.PlanUpgrade(t.Context(), c.from, c.to, catalog.Page{})
		require.ErrorIs(t, err, c.want, "%v", c)
	}
}
