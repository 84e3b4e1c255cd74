package move

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/pgtest"
)

// A copy keeps to the rate that was asked for, says what it waits for
// meanwhile, and can be canceled while it waits.
func TestMaxRate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("slow", "a")
	w.asOwner("a", db, "CREATE TABLE heavy (id int PRIMARY KEY, v text); ALTER TABLE heavy ALTER v SET STORAGE EXTERNAL;"+
		"INSERT INTO heavy SELECT i, repeat(md5(i::text), 100) FROM generate_series(1, 6000) i") // 20 MB: minutes
	op, err := w.Move(t.Context(), Request{Tenant: "slow", To: "b", MaxRate: 100_000}, tester, "")
	require.NoError(t, err)
	pgtest.Eventually(t, "the move says that it keeps to the rate", func() bool {
		now, err := w.engine.Get(t.Context(), op.ID)
		require.NoError(t, err)
		require.False(t, now.State.Final(), "%s: %s", now.State, now.Error)
		return strings.Contains(now.Progress.Waiting, "no more than the 0.1 MB/s asked for")
	})
	_, err = w.engine.Cancel(t.Context(), op.ID, tester)
	require.NoError(t, err)
	op, _ = w.ended(op)
	require.Equal(t, operation.Canceled, op.State, op.Error)
	require.EqualValues(t, "a", w.requireServedOnce("slow", "a", "b"))
}
