package copies

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is written waits until it may, is counted once it is, and stops where waiting does.
func TestProgressWaitsUntilItMay(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	var told []int64
	over := errors.New("the operation was cancelled")
	p := &progress{w: &out, report: func(n int64) { told = append(told, n) }, take: func(n int) error {
		require.Equal(t, 6*len(told), out.Len(), "not before it may")
		if out.Len()+n > 12 {
			return over
		}
		return nil
	}}
	for range 2 {
		_, err := p.Write([]byte("a row\n"))
		require.NoError(t, err)
	}
	_, err := p.Write([]byte("a row\n"))
	require.ErrorIs(t, err, over)
	require.Equal(t, []int64{6, 12}, told)
	require.Equal(t, "a row\na row\n", out.String())
}
