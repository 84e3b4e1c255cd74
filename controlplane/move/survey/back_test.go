package survey

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBack(t *testing.T) {
	t.Parallel()
	able := Server{WALLevel: "logical", FreeSlots: 1, FreeSenders: 1, FreeWorkers: 1}
	require.Empty(t, Back(able, able))
	var codes []string
	for _, f := range Back(Server{WALLevel: "replica", FreeSenders: -1}, Server{}) {
		require.Equal(t, Refuse, f.Level)
		require.Contains(t, f.Remedy, "without a soak")
		codes = append(codes, f.Code)
	}
	require.Equal(t, []string{"soak-wal-level", "soak-slots", "soak-senders", "soak-workers"}, codes)
}
