package move

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/move/movetest"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/shardmap"
)

// The database that holds everything is taken back whole, from a server of the
// same version and from a newer one, with what was written there.
func TestEverythingIsTakenBack(t *testing.T) {
	targets := []shardmap.ShardID{shardtest.Newer}
	if os.Getenv("FREEHOLD_SOAK") != "" {
		targets = append(targets, "b")
	}
	for _, to := range targets {
		t.Run(string(to), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "a", to)
			db, _ := w.tenant("every", "a")
			w.asOwner("a", db, movetest.Everything)
			before := movetest.Describe(t, w.conn("a", db))
			op, rec := w.soaked("every", to)
			require.Equal(t, Equal, rec.Verification.Final)
			home := w.conn(to, db)
			script(t, home, "SET search_path = every, public")
			script(t, home, lateWrites)
			w.requireFollowing(db, to, "a")

			back, rec := w.ended(w.reverse(op.ID, 0))
			require.Equal(t, operation.Done, back.State, back.Error)
			require.Equal(t, Equal, rec.Verification.Final, "%+v", rec)
			require.EqualValues(t, "a", w.requireServedOnce("every", "a", to))
			require.Empty(t, cmp.Diff(before, movetest.Describe(t, w.conn("a", db))))
			left, taken := w.contents(to, db), w.contents("a", db)
			for _, refreshed := range []string{"every.totals", "every.a_total_of_totals"} {
				require.NotEmpty(t, taken[refreshed])
				delete(left, refreshed) // as old as their last refresh
				delete(taken, refreshed)
			}
			require.Empty(t, cmp.Diff(left, taken))
		})
	}
}
