package provision_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/access"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/shardmap"
)

// A tenant's own role is there again when the tenant is, and goes with its database.
func TestATenantsRoleOutlivesDeletionAndRestore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, provision.Options{DeleteGrace: time.Hour}, "p")
	roles := access.New(w.store, w.engine, w.fleet, slog.New(slog.DiscardHandler))
	w.run(w.engine.Run)
	p := w.create("rolled")
	_, err := roles.CreateRole(w.ctx(), "rolled", "analyst", "", tester, "")
	require.NoError(t, err)
	admin, err := w.fleet.Admin(w.ctx(), "p", p.Database)
	require.NoError(t, err)
	_, err = admin.Exec(w.ctx(), "GRANT SELECT ON public.customers TO "+shard.CustomRole(p.Database, "analyst"))
	require.NoError(t, err)
	require.NoError(t, admin.Close(w.ctx()))
	reads := func(p shardmap.Placement) {
		t.Helper()
		conn, err := w.login(p)
		require.NoError(t, err)
		defer conn.Close(w.ctx()) //nolint:errcheck // nothing is lost with it
		as := "BEGIN; SET LOCAL ROLE " + shard.CustomRole(p.Database, "analyst") + "; %s; ROLLBACK"
		_, err = conn.Exec(w.ctx(), fmt.Sprintf(as, "SELECT FROM customers"))
		require.NoError(t, err)
		_, err = conn.Exec(w.ctx(), fmt.Sprintf(as, "DELETE FROM customers"))
		require.Equal(t, "42501", pg.Code(err))
	}
	reads(p)
	w.done(w.Delete(w.ctx(), "rolled", tester, ""))
	require.ErrorIs(t, roles.DropRole(w.ctx(), "rolled", "analyst", tester, ""), catalog.ErrConflict)
	w.done(w.Restore(w.ctx(), "rolled", tester, ""))
	reads(p)
	require.NoError(t, roles.DropRole(w.ctx(), "rolled", "analyst", tester, ""))
	require.Zero(t, w.onServer("p", "SELECT count(*) FROM pg_roles WHERE rolname = $1", shard.CustomRole(p.Database, "analyst")))
}
