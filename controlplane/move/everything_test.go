package move

import (
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/move/movetest"
	"github.com/freehold-db/freehold/controlplane/shard"
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
