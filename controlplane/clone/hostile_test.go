package clone

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/move/movetest"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/tenantdb"
)

// Whoever owns a tenant's schema gets nothing by having it cloned.
func TestCloneGivesATenantsCodeNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db := w.tenant("mallory", "a")
	attack := movetest.NewAttack(t, db)
	here := w.Conn("a", db)
	attack.CountRuns(t, here)
	document, _, err := w.Secrets.Get(t.Context(), secret.DatabaseAuth(db))
	require.NoError(t, err)
	login, err := tenantdb.Owner.From(document, db)
	require.NoError(t, err)
	row, err := w.Fleet.Shard(t.Context(), "a")
	require.NoError(t, err)
	owner, err := w.Channel().Connect(t.Context(), row.PostgresHost, row.PostgresPort, db, login)
	require.NoError(t, err)
	defer owner.Close(t.Context()) //nolint:errcheck // ends with the test
	w.Script(owner, attack.SQL())

	w.done(w.clone(Request{Source: "mallory", Tenant: "copy", To: "b"}))
	p := w.Placement("copy")
	there := w.Conn(p.Shard, p.Database)
	pgtest.Eventually(t, "its code runs while rows arrive", func() bool { return attack.Runs(t, there) > 0 })
	attack.RequireNothingGained(t, here)
	attack.RequireNothingGained(t, there)
	tx, err := there.Begin(t.Context())
	require.NoError(t, err)
	defer tx.Rollback(t.Context()) //nolint:errcheck // nothing of it is to stay
	_, err = tx.Exec(t.Context(), "SELECT id FROM hostile.t")
	require.NoError(t, err)
	require.NotEmpty(t, attack.Gained(t, there), "the attack does not work at all")
}
