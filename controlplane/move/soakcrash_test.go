package move

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// Wherever a worker is killed while a tenant goes there, soaks, comes back,
// soaks again and stays, the next worker ends what was begun, the old place
// goes on following, and no acknowledged write is lost or doubled.
func TestWorkerKilledAroundTheSoak(t *testing.T) {
	soak := func(s string) string { return "move/soak/" + s }
	cut := func(s string) string { return "move/cutover/" + s }
	// There, back and there again, each with a soak; then the soak is completed.
	walks := [][4]string{{soak("advanced"), KindReverse + "/cutover/committed", soak("linked"), KindComplete + "/unlink/end"}}
	if os.Getenv("FREEHOLD_SOAK") != "" {
		walks = append(walks,
			[4]string{soak("linked"), cut("barrier"), cut("before-flip"), KindComplete + "/end/committed"},
			[4]string{soak("unlinked"), soak("unlinked"), KindReverse + "/claim/end", KindComplete + "/retire/end"},
			[4]string{soak("subscribed"), soak("subscribed"), KindReverse + "/claim/begin", KindComplete + "/unlink/begin"},
			[4]string{Kind + "/soak/begin", KindReverse + "/soak/begin", cut("after-flip"), KindComplete + "/end/begin"},
			[4]string{Kind + "/soak/end", KindReverse + "/soak/end", cut("unfenced"), KindComplete + "/retire/begin"},
			[4]string{Kind + "/clean/begin", KindReverse + "/clean/begin", KindReverse + "/catch-up/begin", KindComplete + "/retire/end"},
			[4]string{Kind + "/clean/end", KindReverse + "/clean/end", KindReverse + "/catch-up/end", KindComplete + "/unlink/end"},
			[4]string{Kind + "/verify/begin", KindReverse + "/verify/end", KindReverse + "/preflight/end", KindComplete + "/unlink/end"},
			[4]string{cut("fenced"), cut("fenced"), KindReverse + "/open/end", KindComplete + "/unlink/end"},
		)
	}
	for i, points := range walks {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			if i%2 == 0 { // not all at once on a small machine
				t.Parallel()
			}
			w := newWorld(t, "a", "b")
			w.stop()
			db, login := w.tenant("mortal", "a")
			w.asOwner("a", db, trafficSchema+awkward)
			tr := w.startTraffic(db, login, 10*time.Millisecond, true, "a", "b")
			home, old := shardmap.ShardID("b"), shardmap.ShardID("a")
			var last *operation.Operation
			for n, point := range points[:3] {
				var err error
				if n == 0 {
					last, err = w.Move(t.Context(), Request{Tenant: "mortal", To: home, MaxPause: w.budget, Soak: time.Hour}, tester, "")
				} else {
					last, err = w.Reverse(t.Context(), ReverseRequest{Operation: last.ID, MaxPause: w.budget, Soak: time.Hour}, tester, "")
				}
				require.NoError(t, err)
				w.killedAt(point)
				w.replica()
				var rec Receipt
				last, rec = w.ended(last)
				w.stop()
				require.Equal(t, operation.Done, last.State, "%s: %s", point, last.Error)
				require.Contains(t, []string{Equal, NotVerified}, rec.Verification.Final, point)
				require.Equal(t, catalog.Soaking, w.soakState(last.ID), "%s: %+v", point, rec)
				p, err := w.store.GetPlacement(t.Context(), "mortal")
				require.NoError(t, err)
				require.Equal(t, home, p.Shard, point)
				w.asOwner(home, db, stir)
				w.requireFollowing(db, home, old)
				home, old = old, home
			}
			home = old // of the last one
			done, err := w.Complete(t.Context(), last.ID, tester, "")
			require.NoError(t, err)
			w.killedAt(points[3])
			w.replica()
			done, _ = w.ended(done)
			require.Equal(t, operation.Done, done.State, "%s: %s", points[3], done.Error)
			require.Equal(t, catalog.Ended, w.soakState(last.ID))
			writes := tr.writes.Load()
			require.Eventually(t, func() bool { return tr.writes.Load() > writes+20 }, time.Minute, 10*time.Millisecond, "clients don't get on again: %v", tr.errs)
			require.Equal(t, home, w.requireServedOnce("mortal", "a", "b"))
			tr.requireBalanced(w, home)
			t.Logf("%d writes acknowledged, %d of unknown outcome, longest gap %v, errors %d", len(tr.acked), len(tr.unknown), tr.gap, len(tr.errs))
		})
	}
}
