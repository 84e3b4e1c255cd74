package move

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/shardmap"
)

// A tenant's own role goes where the tenant goes, with what it was granted.
func TestATenantsRoleMovesAlong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, login := w.tenant("rolled", "a")
	require.NoError(t, w.fleet.CreateCustomRole(t.Context(), "a", db, "analyst"))
	w.asOwner("a", db, "GRANT SELECT ON customers TO "+shard.CustomRole(db, "analyst"))
	for _, to := range []shardmap.ShardID{"b", "a"} {
		w.moved("rolled", to)
		on, err := w.fleet.Shard(t.Context(), to)
		require.NoError(t, err)
		conn, err := w.server(t, to).Channel.Connect(t.Context(), on.BouncerHost, on.BouncerPort, db, login)
		require.NoError(t, err)
		as := "BEGIN; SET LOCAL ROLE " + shard.CustomRole(db, "analyst") + "; %s; ROLLBACK"
		_, err = conn.Exec(t.Context(), fmt.Sprintf(as, "SELECT FROM customers"))
		require.NoError(t, err, "at %s", to)
		_, err = conn.Exec(t.Context(), fmt.Sprintf(as, "DELETE FROM customers"))
		require.Equal(t, "42501", pg.Code(err), "at %s", to)
		require.NoError(t, conn.Close(t.Context()))
	}
}
