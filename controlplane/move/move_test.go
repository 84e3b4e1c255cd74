package move

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMoveThereAndBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("acme", "a")
	w.asOwner("a", db, "INSERT INTO customers (name) SELECT 'c' || i FROM generate_series(1, 1000) i")
	rec := w.moved("acme", "b")
	t.Logf("%+v", rec)
	require.Equal(t, Equal, rec.Verification.Copy)
	require.Equal(t, Equal, rec.Verification.Final)
	require.EqualValues(t, "b", w.requireServedOnce("acme", "a", "b"))
	rec = w.moved("acme", "a")
	t.Logf("%+v", rec)
	require.EqualValues(t, "a", w.requireServedOnce("acme", "a", "b"))
}
