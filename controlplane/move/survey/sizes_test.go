package survey

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLocks(t *testing.T) {
	t.Parallel()
	require.Empty(t, Locks(Server{MaxLocks: 12800}, 10240))
	found := Locks(Server{MaxLocks: 12800}, 10241)
	require.Len(t, found, 1)
	require.Equal(t, Refuse, found[0].Level)
	require.Contains(t, found[0].String(), "raise max_locks_per_transaction")
}
