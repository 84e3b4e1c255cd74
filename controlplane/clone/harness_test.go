package clone

import (
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/access"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/controlplane/worldtest"
	"github.com/freehold-db/freehold/internal/pgserver"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// world is a catalog of the test's own over shards that tests share.
type world struct {
	*worldtest.World
	tenantAccess *access.Service
	*Service
}

func (w *world) complete(b worldtest.Base) error {
	bin, err := pgserver.BinDir()
	if err != nil {
		return err
	}
	w.tenantAccess = access.New(b.Store, b.Engine, b.Fleet, b.Log)
	w.Service = New(b.Store, b.Engine, b.Fleet, b.Tenants, w.tenantAccess, Options{PGBinDir: bin, Logger: b.Log})
	return nil
}

func TestMain(m *testing.M) { worldtest.Main(m, new(world).complete) }

func newWorld(t *testing.T, shards ...shardmap.ShardID) *world {
	t.Helper()
	return worldOf(t, shardtest.Server, shards)
}

// newSecureWorld is newWorld of shards that speak TLS only. With pgtest.EnvTLS all do.
func newSecureWorld(t *testing.T, shards ...shardmap.ShardID) *world {
	t.Helper()
	return worldOf(t, shardtest.SecureServer, shards)
}

func worldOf(t *testing.T, server func(testing.TB, shardmap.ShardID) *pgtest.ShardServer, shards []shardmap.ShardID) *world {
	t.Helper()
	w := &world{}
	w.World = worldtest.New(t, server, w.complete, shards...)
	return w
}

// tenant makes a tenant as users do, and returns its database.
func (w *world) tenant(id shardmap.TenantID, on shardmap.ShardID) string {
	w.T.Helper()
	return w.Tenant(id, on).Database
}

func (w *world) clone(req Request) *operation.Operation {
	w.T.Helper()
	op, err := w.Clone(w.T.Context(), req, worldtest.Tester, "")
	require.NoError(w.T, err)
	return op
}

func (w *world) done(op *operation.Operation) (rec Receipt) {
	w.T.Helper()
	w.Done(op, &rec)
	return rec
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
	lines := slices.DeleteFunc(strings.Split(string(out), "\n"), func(line string) bool { // random words
		return strings.HasPrefix(line, `\restrict`) || strings.HasPrefix(line, `\unrestrict`)
	})
	slices.Sort(lines)
	return lines
}

// requireNothing checks that a clone that came to nothing left nothing.
func (w *world) requireNothing(tenant shardmap.TenantID, op *operation.Operation, shards ...shardmap.ShardID) {
	w.T.Helper()
	var doc Doc
	require.NoError(w.T, json.Unmarshal(op.Data, &doc))
	_, err := w.Store.GetTenant(w.T.Context(), tenant)
	require.ErrorIs(w.T, err, catalog.ErrNotFound)
	rows, _, err := w.Store.ListDatabases(w.T.Context(), catalog.DatabaseFilter{State: catalog.DatabaseBuilding}, catalog.Page{})
	require.NoError(w.T, err)
	require.Empty(w.T, rows)
	if doc.Database == "" {
		return
	}
	_, _, err = w.Secrets.Get(w.T.Context(), secret.DatabaseAuth(doc.Database))
	require.ErrorIs(w.T, err, secret.ErrNotFound)
	for _, on := range shards {
		require.Zero(w.T, w.Left(on, doc.Database), "left on %s", on)
	}
}

// requireNoMark checks that a database shows nothing of having been cloned, or
// of being a clone, once the last session has ended.
func (w *world) requireNoMark(on shardmap.ShardID, db string) {
	w.T.Helper()
	conn := w.Conn(on, db)
	pgtest.Eventually(w.T, "nothing is left in "+db+" on "+string(on), func() bool {
		var left []string
		require.NoError(w.T, conn.QueryRow(w.T.Context(), `SELECT coalesce(array_agg(what), '{}') FROM (
			SELECT 'slot ' || slot_name AS what FROM pg_replication_slots WHERE database = current_database()
			UNION ALL SELECT 'publication ' || pubname FROM pg_publication WHERE pubname <> 'mine'
			UNION ALL SELECT 'session ' || state FROM pg_stat_activity WHERE datname = current_database() AND application_name = '`+applicationName+`'
			UNION ALL SELECT 'table ' || relname FROM pg_class WHERE relnamespace = 'freehold'::regnamespace AND relkind = 'r' AND relname NOT IN ('barrier', 'schema_change')) x`).Scan(&left))
		return len(left) == 0
	})
}

// needs declares what a tenant needs of its shard.
func (w *world) needs(id shardmap.TenantID, n catalog.Needs) {
	w.T.Helper()
	catalogtest.Tx(w.T, w.Store, func(ctx context.Context, tx pgx.Tx) error { return w.Store.SetNeeds(ctx, tx, id, n, worldtest.Tester) })
}
