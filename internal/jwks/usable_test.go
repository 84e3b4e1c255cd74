package jwks

import (
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whoever chooses the keys must not choose how long a node reckons.
func TestHugeKeysAreLeftOut(t *testing.T) {
	t.Parallel()
	set := func(bytes int) []byte {
		n := make([]byte, bytes)
		for i := range n {
			n[i] = 0xff
		}
		return []byte(`{"keys":[{"kty":"RSA","kid":"k","e":"AQAB","n":"` + base64.RawURLEncoding.EncodeToString(n) + `"}]}`)
	}
	_, keys, _, err := usable(t.Context(), set(mostRSA/8))
	require.NoError(t, err)
	require.Equal(t, 1, keys)
	_, keys, left, err := usable(t.Context(), set(mostRSA/8+1))
	require.NoError(t, err)
	require.Zero(t, keys)
	require.Equal(t, 1, left)
}
