package move

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/move/pace"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/pgtest"
)

// A copy keeps to the rate that was asked for, or is asked for later, at
// whatever worker, says what it waits for meanwhile, and can be canceled while it waits.
func TestMaxRate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("slow", "a")
	w.asOwner("a", db, "CREATE TABLE heavy (id int PRIMARY KEY, v text); ALTER TABLE heavy ALTER v SET STORAGE EXTERNAL;"+
		"INSERT INTO heavy SELECT i, repeat(md5(i::text), 100) FROM generate_series(1, 6000) i") // 20 MB: minutes
	op, err := w.Move(t.Context(), Request{Tenant: "slow", To: "b", MaxRate: 100_000}, tester, "")
	require.NoError(t, err)
	keepsTo := func(rate string) {
		pgtest.Eventually(t, "the move says that it keeps to "+rate, func() bool {
			now, err := w.engine.Get(t.Context(), op.ID)
			require.NoError(t, err)
			require.False(t, now.State.Final(), "%s: %s", now.State, now.Error)
			return strings.Contains(now.Progress.Waiting, "no more than the "+rate+" asked for")
		})
	}
	keepsTo("0.1 MB/s")
	rate := int64(200_000)
	_, err = w.SetPace(t.Context(), op.ID, pace.Wish{MaxRate: &rate}, tester)
	require.NoError(t, err)
	_, err = w.SetPace(t.Context(), op.ID, pace.Wish{Mode: pace.Full}, tester)
	require.NoError(t, err)
	keepsTo("0.2 MB/s")
	w.stop()
	w.replica()
	keepsTo("0.2 MB/s")
	var noted int
	require.NoError(t, w.store.Pool().QueryRow(t.Context(), "select count(*) from audit_outbox where record->>'Action' = 'move.pace'").Scan(&noted))
	require.Equal(t, 2, noted)
	_, err = w.engine.Cancel(t.Context(), op.ID, tester)
	require.NoError(t, err)
	op, _ = w.ended(op)
	require.Equal(t, operation.Canceled, op.State, op.Error)
	require.EqualValues(t, "a", w.requireServedOnce("slow", "a", "b"))
	_, err = w.SetPace(t.Context(), op.ID, pace.Wish{Mode: pace.Full}, tester)
	require.ErrorIs(t, err, operation.ErrFinal)
}
