package schema

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Attaching is done before anything is done at the same time.
func TestUntilAttached(t *testing.T) {
	t.Parallel()
	list := []Entry{{ID: 1, Describe: "CONSTRAINT s events events_pkey o"}, {ID: 2, Describe: "INDEX ATTACH s events_a_pkey o"},
		{ID: 3, Describe: "INDEX s x o"}, {ID: 4, Describe: "INDEX ATTACH s events_b_pkey o"}, {ID: 5, Describe: "FK CONSTRAINT s t f o"}}
	alone, rest := untilAttached(list)
	require.Equal(t, list[:4], alone)
	require.Equal(t, list[4:], rest)
	alone, rest = untilAttached(list[4:])
	require.Empty(t, alone)
	require.Equal(t, list[4:], rest)
}
