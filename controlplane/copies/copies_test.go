package copies_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/copies"
	"github.com/freehold-db/freehold/controlplane/copies/copiestest"
	"github.com/freehold-db/freehold/controlplane/move/movetest"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/pgserver"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/shardmap"
)

func TestMain(m *testing.M) { copiestest.Main(m) }

// world adds what only these tests do.
type world struct{ *copiestest.World }

func newWorld(t *testing.T, shards ...shardmap.ShardID) *world {
	return &world{copiestest.New(t, shards...)}
}

func (w *world) export(id shardmap.TenantID) (rec copies.ExportReceipt) {
	w.T.Helper()
	op, err := w.Copies.Export(w.T.Context(), id, 0, copiestest.Tester, "")
	require.NoError(w.T, err)
	w.Done(op, &rec)
	return rec
}

func (w *world) imported(req copies.ImportRequest) *operation.Operation {
	w.T.Helper()
	op, err := w.Copies.Import(w.T.Context(), req, copiestest.Tester, "")
	require.NoError(w.T, err)
	return op
}

func (w *world) get(id string) catalog.Copy {
	w.T.Helper()
	c, err := w.Copies.Get(w.T.Context(), id)
	require.NoError(w.T, err)
	return c
}

func (w *world) path(id string) string { return filepath.Join(w.Dir, w.get(id).File) }

// files are those in the directory of copies.
func (w *world) files() (names []string) {
	w.T.Helper()
	entries, err := os.ReadDir(w.Dir)
	require.NoError(w.T, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// dump is what pg_dump says of the database, without the order of what has none.
func (w *world) dump(on shardmap.ShardID, db string, args ...string) []string {
	w.T.Helper()
	bin, err := pgserver.BinDir()
	require.NoError(w.T, err)
	env, err := w.Fleet.AdminEnv(w.T.Context(), on, db)
	require.NoError(w.T, err)
	cmd := exec.CommandContext(w.T.Context(), filepath.Join(bin, "pg_dump"), args...) //nolint:gosec // Postgres's own
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	require.NoError(w.T, err, string(out))
	lines := slices.DeleteFunc(strings.Split(string(out), "\n"), func(line string) bool { // random words, and the platform's own role
		return strings.HasPrefix(line, `\restrict`) || strings.HasPrefix(line, `\unrestrict`) || strings.HasSuffix(line, " TO "+tenantdb.MoverRole(db)+";")
	})
	slices.Sort(lines)
	return lines
}

func renamed(lines []string, from, to string) []string {
	now := strings.Split(strings.ReplaceAll(strings.Join(lines, "\n"), from, to), "\n")
	slices.Sort(now)
	return now
}

const notes = "--exclude-table-data=freehold.schema_change" // of the schema changes at each place

// A tenant made of a copy is equal to the one that was copied but for its
// names, and the file gives nothing of it away.
func TestExportAndImportOfEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db := w.Tenant("every", "a")
	_, err := w.Access.CreateRole(t.Context(), "every", "analyst", "reads", copiestest.Tester, "")
	require.NoError(t, err)
	w.AsOwner("a", db, movetest.Everything)
	w.AsOwner("a", db, "GRANT SELECT ON every.orders TO "+shard.CustomRole(db, "analyst")+"; CREATE TABLE canary (word text); INSERT INTO canary VALUES ('plaintext-canary');"+
		"CREATE FUNCTION unprivileged(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN IF current_setting('is_superuser') = 'on' THEN RAISE EXCEPTION 'a superuser runs the tenant''s code'; END IF; RETURN i; END $$;"+
		"CREATE TABLE spy (x int CHECK (unprivileged(x) = x), y int GENERATED ALWAYS AS (unprivileged(x)) STORED); INSERT INTO spy VALUES (1); CREATE INDEX ON spy (unprivileged(x));")
	w.Script(w.Conn("a", db), "ALTER DATABASE "+db+" SET work_mem = '7MB'; ALTER ROLE "+shard.RORole(db)+" IN DATABASE "+db+" SET statement_timeout = '3s'; COMMENT ON DATABASE "+db+" IS 'the tenant''s'")
	schema, data := w.dump("a", db, "--schema-only", "--create"), w.dump("a", db, "--data-only", notes)

	rec := w.export("every")
	require.Positive(t, rec.Rows)
	require.NotEmpty(t, rec.LSN)
	c := w.get(rec.Copy)
	require.Equal(t, catalog.CopyHeld, c.State)
	require.Equal(t, rec.SHA256, c.SHA256)
	file, err := os.ReadFile(w.path(c.ID))
	require.NoError(t, err)
	require.Len(t, file, int(rec.Bytes))
	for _, secret := range []string{"plaintext-canary", "PGDMP", "CREATE TABLE", db} {
		require.False(t, bytes.Contains(file, []byte(secret)), "%q is in the file", secret)
	}
	info, err := os.Stat(w.path(c.ID))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	var made copies.ImportReceipt
	w.Done(w.imported(copies.ImportRequest{Copy: c.ID, Tenant: "again", DisplayName: "once more", To: "b"}), &made)
	require.Equal(t, "equal", made.Verification)
	require.Equal(t, rec.Rows, made.Rows)
	p := w.Placement("again")
	require.Equal(t, p, *made.Placement)
	require.Equal(t, shardmap.ShardID("b"), p.Shard)
	if d := cmp.Diff(renamed(schema, db, p.Database), w.dump("b", p.Database, "--schema-only", "--create")); d != "" {
		t.Errorf("schema differs (- source, + import):\n%s", d)
	}
	if d := cmp.Diff(renamed(data, db, p.Database), w.dump("b", p.Database, "--data-only", notes)); d != "" {
		t.Errorf("data differ (- source, + import):\n%.4000s", d)
	}
	if d := cmp.Diff(schema, w.dump("a", db, "--schema-only", "--create")); d != "" {
		t.Errorf("the source is not as it was (- before, + after):\n%s", d)
	}
	now, err := w.Access.Tenant(t.Context(), "again")
	require.NoError(t, err)
	require.Equal(t, []string{"analyst"}, now.Roles)

	// What is handed out can be sent back, once; what was altered can't.
	_, out, err := w.Copies.Content(t.Context(), c.ID, copiestest.Tester)
	require.NoError(t, err)
	sent, err := io.ReadAll(out)
	require.NoError(t, err)
	require.NoError(t, out.Close())
	require.Equal(t, 1, w.get(c.ID).HandedOut)
	before := w.files()
	for _, bad := range [][]byte{nil, sent[:len(sent)-1], sent[:len(sent)/2], append(slices.Clone(sent), 0), flipped(sent, len(sent)/2), flipped(sent, 3)} {
		_, err = w.Copies.Receive(t.Context(), "every", bytes.NewReader(bad), 0, copiestest.Tester)
		require.ErrorIs(t, err, copies.ErrDamaged)
		require.Equal(t, before, w.files(), "what is refused leaves nothing")
	}
	back, err := w.Copies.Receive(t.Context(), "every", bytes.NewReader(sent), 0, copiestest.Tester)
	require.NoError(t, err)
	require.Equal(t, c.ID, back.SealedAs)
	require.Equal(t, rec.SHA256, back.SHA256)

	// One that was damaged here is refused before anything is made.
	require.NoError(t, os.WriteFile(w.path(back.ID), flipped(sent, len(sent)-100), 0o600))
	op := w.Ended(w.imported(copies.ImportRequest{Copy: back.ID, Tenant: "never"}))
	require.Equal(t, operation.Failed, op.State)
	require.Contains(t, op.Error, "damaged")
	_, err = w.Store.GetTenant(t.Context(), "never")
	require.ErrorIs(t, err, catalog.ErrNotFound)
	var doc copies.ImportDoc
	require.NoError(t, json.Unmarshal(op.Data, &doc))
	require.Empty(t, doc.Database)
}

func flipped(b []byte, at int) []byte {
	bad := slices.Clone(b)
	bad[at] ^= 4
	return bad
}

// Wherever a worker is killed, the next one ends what it did, or takes it back whole.
func TestWorkerKilledAnywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	db := w.Tenant("mortal", "a")
	w.AsOwner("a", db, "INSERT INTO customers (name) SELECT 'c' || i FROM generate_series(1, 1000) i")
	w.Stop()
	points := []string{"write/end", "record/committed"}
	if os.Getenv("FREEHOLD_SOAK") != "" {
		points = append(points, "reserve/begin", "reserve/committed", "write/begin", "record/begin")
	}
	for _, point := range points {
		op, err := w.Copies.Export(t.Context(), "mortal", 0, copiestest.Tester, "")
		require.NoError(t, err)
		w.KilledAt(copies.KindExport + "/" + point)
		w.Work()
		var rec copies.ExportReceipt
		w.Done(op, &rec)
		w.Stop()
		require.Equal(t, rec.SHA256, w.get(rec.Copy).SHA256, point)
	}
	// Cancelled while nobody works on it, it is taken back.
	op, err := w.Copies.Export(t.Context(), "mortal", 0, copiestest.Tester, "")
	require.NoError(t, err)
	w.KilledAt(copies.KindExport + "/write/end")
	_, err = w.Engine.Cancel(t.Context(), op.ID, copiestest.Tester)
	require.NoError(t, err)
	w.Work()
	require.Equal(t, operation.Canceled, w.Ended(op).State)
	list, _, err := w.Copies.Copies(t.Context(), catalog.CopyFilter{Tenant: "mortal"}, catalog.Page{})
	require.NoError(t, err)
	require.Len(t, list, len(points)+1)
	last := list[len(points)]
	require.Equal(t, "abandoned", last.WhyGone)
	w.Stop()
	require.NotContains(t, strings.Join(w.files(), " "), last.ID)

	points = []string{"reserve/committed", "fill/end"}
	if os.Getenv("FREEHOLD_SOAK") != "" {
		points = append(points, "verify/begin", "verify/end", "reserve/begin", "fill/begin", "assign/begin", "assign/committed")
	}
	for i, point := range points {
		id := shardmap.TenantID("import-" + string(rune('a'+i)))
		op := w.imported(copies.ImportRequest{Copy: list[0].ID, Tenant: id, To: "a"})
		w.KilledAt(copies.KindImport + "/" + point)
		w.Work()
		var rec copies.ImportReceipt
		w.Done(op, &rec)
		w.Stop()
		require.Equal(t, "equal", rec.Verification, point)
		var n int
		require.NoError(t, w.Conn("a", w.Placement(id).Database).QueryRow(t.Context(), "SELECT count(*) FROM public.customers").Scan(&n))
		require.Equal(t, 1000, n, point)
	}
	undone := w.imported(copies.ImportRequest{Copy: list[0].ID, Tenant: "undone", To: "a"})
	w.KilledAt(copies.KindImport + "/fill/end")
	_, err = w.Engine.Cancel(t.Context(), undone.ID, copiestest.Tester)
	require.NoError(t, err)
	w.Work()
	require.Equal(t, operation.Canceled, w.Ended(undone).State)
	rows, _, err := w.Store.ListDatabases(t.Context(), catalog.DatabaseFilter{State: catalog.DatabaseBuilding}, catalog.Page{})
	require.NoError(t, err)
	require.Empty(t, rows)
}

// A key's new version wraps the copies held here, and they open as before; an
// expired copy goes, and a file that nobody speaks of.
func TestRotationAndExpiry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	w.Tenant("acme", "a")
	rec := w.export("acme")
	was, err := os.ReadFile(w.path(rec.Copy))
	require.NoError(t, err)
	op, err := w.Copies.RotateKey(t.Context(), "acme", copiestest.Tester, "")
	require.NoError(t, err)
	var rotated copies.RotateReceipt
	w.Done(op, &rotated)
	require.Equal(t, []string{rec.Copy}, rotated.Rewrapped)
	c := w.get(rec.Copy)
	require.NotEqual(t, rec.SHA256, c.SHA256)
	key, err := w.Copies.GetKey(t.Context(), "acme")
	require.NoError(t, err)
	require.Equal(t, 1, key.Rotations)
	require.Len(t, key.Copies, 1)
	_, err = w.Copies.Receive(t.Context(), "acme", bytes.NewReader(was), 0, copiestest.Tester)
	require.NoError(t, err, "one that was handed out before opens too")
	w.Done(w.imported(copies.ImportRequest{Copy: rec.Copy, Tenant: "acme2"}), nil)

	stray := filepath.Join(w.Dir, rec.Copy+".zz.sealed.partial")
	require.NoError(t, os.WriteFile(stray, []byte("of one that lost its lease"), 0o600))
	_, err = w.Store.Pool().Exec(t.Context(), `update copies set expires_at = clock_timestamp() - interval '1 second' where id <> $1`, rec.Copy)
	require.NoError(t, err)
	require.NoError(t, w.Copies.Tidy(t.Context()))
	require.Equal(t, []string{c.File}, w.files())
	_, err = w.Copies.Export(t.Context(), "acme", time.Second, copiestest.Tester, "")
	require.ErrorIs(t, err, copies.ErrInvalid)
}
