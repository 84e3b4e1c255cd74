package move

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/pgtest"
)

// A copy keeps to the rate that was asked for, and says what it waits for meanwhile.
func TestMaxRate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("slow", "a")
	w.asOwner("a", db, "CREATE TABLE heavy (id int PRIMARY KEY, v text); INSERT INTO heavy SELECT i, repeat(md5(i::text), 40) FROM generate_series(1, 4000) i;"+
		"ALTER TABLE heavy ALTER v SET STORAGE EXTERNAL") // 5 MB
	const rate = 2_500_000
	op, err := w.Move(t.Context(), Request{Tenant: "slow", To: "b", MaxPause: w.budget, MaxRate: rate}, tester, "")
	require.NoError(t, err)
	pgtest.Eventually(t, "the move says that it keeps to the rate", func() bool {
		now, err := w.engine.Get(t.Context(), op.ID)
		require.NoError(t, err)
		require.False(t, now.State.Final(), "%s: %s", now.State, now.Error)
		return strings.Contains(now.Progress.Waiting, "no more than the 2.5 MB/s asked for")
	})
	op, rec := w.ended(op)
	require.Equal(t, operation.Done, op.State, op.Error)
	require.Greater(t, rec.StreamedBytes, int64(5_000_000))
	for _, p := range rec.Phases {
		if p.Name == "copy/rows" {
			// A quarter of a second's worth may pass at once.
			require.Greater(t, time.Duration(p.MS*1e6), time.Duration(float64(rec.StreamedBytes-rate/4)/rate*1e9))
		}
	}
}
