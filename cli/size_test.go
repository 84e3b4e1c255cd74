package cli

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSizeFlag(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"50MB": 50e6, "1.5 GB": 1.5e9, "500kB": 500e3, "64KB/s": 64e3, "123": 123, "7B": 7, "0": 0} {
		var got int64
		require.NoError(t, sizeFlag{&got}.Set(text), text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "MB", "fast", "-1MB", "1e30", "NaN", "Inf", "5 XB"} {
		var got int64
		require.Error(t, sizeFlag{&got}.Set(text), text)
	}
}
