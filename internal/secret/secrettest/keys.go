package secrettest

import (
	"bytes"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/secret"
)

// RunKeys checks the contract of [secret.Keys]. open returns one more handle
// on the same keys, of which there are none at first, as another process would
// hold it.
func RunKeys(t *testing.T, open func(t *testing.T) secret.Keys) {
	a, b := open(t), open(t)
	ctx := t.Context()

	t.Run("a data key opens again from another handle, and each is new", func(t *testing.T) {
		plain, wrapped, err := a.DataKey(ctx, "acme")
		require.NoError(t, err)
		require.Len(t, plain, secret.DataKeySize)
		require.False(t, bytes.Contains(wrapped, plain))
		got, err := b.Unwrap(ctx, "acme", wrapped)
		require.NoError(t, err)
		require.Equal(t, plain, got)
		second, _, err := b.DataKey(ctx, "acme")
		require.NoError(t, err)
		require.NotEqual(t, plain, second)
	})

	t.Run("what was never there is ErrNotFound", func(t *testing.T) {
		_, wrapped, err := a.DataKey(ctx, "there")
		require.NoError(t, err)
		_, err = a.Unwrap(ctx, "never", wrapped)
		require.ErrorIs(t, err, secret.ErrNotFound)
		_, err = a.Rewrap(ctx, "never", wrapped)
		require.ErrorIs(t, err, secret.ErrNotFound)
		require.ErrorIs(t, a.Rotate(ctx, "never"), secret.ErrNotFound)
	})

	t.Run("altered, cut off, or another's is ErrWrapped", func(t *testing.T) {
		_, wrapped, err := a.DataKey(ctx, "one")
		require.NoError(t, err)
		_, _, err = a.DataKey(ctx, "other")
		require.NoError(t, err)
		_, err = a.Unwrap(ctx, "other", wrapped)
		require.ErrorIs(t, err, secret.ErrWrapped)
		altered := bytes.Clone(wrapped)
		altered[len(altered)-9] ^= 1
		for _, bad := range [][]byte{nil, {}, []byte("x"), wrapped[:len(wrapped)/2], altered} {
			_, err = a.Unwrap(ctx, "one", bad)
			require.ErrorIs(t, err, secret.ErrWrapped, "%q", bad)
			_, err = a.Rewrap(ctx, "one", bad)
			require.ErrorIs(t, err, secret.ErrWrapped, "%q", bad)
		}
	})

	t.Run("after a rotation the old opens and can be wrapped anew", func(t *testing.T) {
		plain, old, err := a.DataKey(ctx, "turns")
		require.NoError(t, err)
		require.NoError(t, b.Rotate(ctx, "turns"))
		rewrapped, err := a.Rewrap(ctx, "turns", old)
		require.NoError(t, err)
		require.NotEqual(t, old, rewrapped)
		for _, wrapped := range [][]byte{old, rewrapped} {
			got, err := b.Unwrap(ctx, "turns", wrapped)
			require.NoError(t, err)
			require.Equal(t, plain, got)
		}
	})

	t.Run("destroyed is destroyed for ever", func(t *testing.T) {
		_, wrapped, err := a.DataKey(ctx, "gone")
		require.NoError(t, err)
		_, kept, err := a.DataKey(ctx, "stays")
		require.NoError(t, err)
		require.NoError(t, a.Destroy(ctx, "gone"))
		require.NoError(t, b.Destroy(ctx, "gone"))
		for _, k := range []secret.Keys{a, b, open(t)} {
			_, err = k.Unwrap(ctx, "gone", wrapped)
			require.ErrorIs(t, err, secret.ErrDestroyed)
			_, _, err = k.DataKey(ctx, "gone")
			require.ErrorIs(t, err, secret.ErrDestroyed)
			_, err = k.Rewrap(ctx, "gone", wrapped)
			require.ErrorIs(t, err, secret.ErrDestroyed)
			require.ErrorIs(t, k.Rotate(ctx, "gone"), secret.ErrDestroyed)
		}
		_, err = b.Unwrap(ctx, "stays", kept)
		require.NoError(t, err)
	})

	t.Run("a name can be destroyed before it had a key", func(t *testing.T) {
		require.NoError(t, a.Destroy(ctx, "early"))
		_, _, err := b.DataKey(ctx, "early")
		require.ErrorIs(t, err, secret.ErrDestroyed)
	})

	t.Run("many first users make one key", func(t *testing.T) {
		const users = 6
		var wg sync.WaitGroup
		var plain, wrapped [users][]byte
		var errs [users]error
		for i := range users {
			wg.Go(func() { plain[i], wrapped[i], errs[i] = []secret.Keys{a, b}[i%2].DataKey(ctx, "crowd") })
		}
		wg.Wait()
		for i := range users {
			require.NoError(t, errs[i])
			got, err := a.Unwrap(ctx, "crowd", wrapped[i])
			require.NoError(t, err)
			require.Equal(t, plain[i], got)
		}
	})

	t.Run("a key made while it is destroyed is destroyed", func(t *testing.T) {
		var wg sync.WaitGroup
		var wrapped []byte
		wg.Go(func() { _, wrapped, _ = a.DataKey(ctx, "race") })
		wg.Go(func() { _ = b.Destroy(ctx, "race") })
		wg.Wait()
		_, _, err := a.DataKey(ctx, "race")
		require.ErrorIs(t, err, secret.ErrDestroyed)
		if wrapped != nil {
			_, err = b.Unwrap(ctx, "race", wrapped)
			require.ErrorIs(t, err, secret.ErrDestroyed)
		}
	})

	t.Run("a name is one word", func(t *testing.T) {
		for _, name := range []string{"", ".", "..", "a/b", "A", "../a", "a b"} {
			_, _, err := a.DataKey(ctx, name)
			require.ErrorContains(t, err, "name", name)
			require.Error(t, a.Destroy(ctx, name))
		}
	})
}
