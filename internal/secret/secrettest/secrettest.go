// Package secrettest is the contract of [secret.Store] as a test suite, to be
// run against every implementation.
package secrettest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/secret"
)

// Run checks the contract. open returns one more handle on the same, at first
// empty, store, as another process would hold it.
func Run(t *testing.T, open func(t *testing.T) secret.Store) {
	a, b := open(t), open(t)
	ctx := t.Context()

	t.Run("what is not there is ErrNotFound", func(t *testing.T) {
		_, _, err := a.Get(ctx, "databases/none/auth")
		require.ErrorIs(t, err, secret.ErrNotFound)
	})

	t.Run("put, then get from another handle", func(t *testing.T) {
		want := secret.Login{User: "t_1_auth_a", Password: "pä'\\ss", Generation: 7}
		v, err := a.Put(ctx, "databases/t_1/auth", want, 0)
		require.NoError(t, err)
		require.EqualValues(t, 1, v)
		got, v, err := b.Get(ctx, "databases/t_1/auth")
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.EqualValues(t, 1, v)
	})

	t.Run("put expects the stored version", func(t *testing.T) {
		const path = "databases/t_2/auth"
		_, err := a.Put(ctx, path, secret.Login{User: "u"}, 1)
		require.ErrorIs(t, err, secret.ErrConflict)
		v, err := a.Put(ctx, path, secret.Login{User: "first"}, 0)
		require.NoError(t, err)
		_, err = b.Put(ctx, path, secret.Login{User: "second creator"}, 0)
		require.ErrorIs(t, err, secret.ErrConflict)
		v2, err := b.Put(ctx, path, secret.Login{User: "second"}, v)
		require.NoError(t, err)
		require.Equal(t, v+1, v2)
		_, err = a.Put(ctx, path, secret.Login{User: "late"}, v)
		require.ErrorIs(t, err, secret.ErrConflict)
		got, _, err := a.Get(ctx, path)
		require.NoError(t, err)
		require.Equal(t, "second", got.User)
	})

	t.Run("delete, twice, then create again", func(t *testing.T) {
		const path = "shards/s1/admin"
		_, err := a.Put(ctx, path, secret.Login{User: "u"}, 0)
		require.NoError(t, err)
		require.NoError(t, b.Delete(ctx, path))
		require.NoError(t, a.Delete(ctx, path))
		_, _, err = a.Get(ctx, path)
		require.ErrorIs(t, err, secret.ErrNotFound)
		_, err = a.Put(ctx, path, secret.Login{User: "again"}, 0)
		require.NoError(t, err)
	})

	t.Run("no increment is lost between writers", func(t *testing.T) {
		const path, writers, each = "databases/t_3/auth", 4, 5
		_, err := a.Put(ctx, path, secret.Login{User: "u"}, 0)
		require.NoError(t, err)
		var wg sync.WaitGroup
		var failed atomic.Value
		for w := range writers {
			store := []secret.Store{a, b}[w%2]
			wg.Go(func() {
				for range each {
					if err := increment(ctx, store, path); err != nil {
						failed.Store(err)
						return
					}
				}
			})
		}
		wg.Wait()
		require.Nil(t, failed.Load())
		l, v, err := a.Get(ctx, path)
		require.NoError(t, err)
		require.EqualValues(t, writers*each, l.Generation)
		require.EqualValues(t, writers*each+1, v)
	})

	t.Run("a path is lower-case words joined by slashes", func(t *testing.T) {
		for _, path := range []string{"", "/", "../x", "a/../b", "a//b", "/a", "a/", ".", "master.key", "A", "a\x00b", "a b", "a?b"} {
			_, _, err := a.Get(ctx, path)
			require.ErrorContains(t, err, "secret path", path)
			_, err = a.Put(ctx, path, secret.Login{}, 0)
			require.ErrorContains(t, err, "secret path", path)
			require.ErrorContains(t, a.Delete(ctx, path), "secret path", path)
		}
	})

	t.Run("a done context is an error", func(t *testing.T) {
		done, cancel := context.WithCancel(ctx)
		cancel()
		_, _, err := a.Get(done, "databases/t_1/auth")
		require.Error(t, err)
	})
}

// increment adds one to the generation by compare-and-set, as a rotation does.
func increment(ctx context.Context, s secret.Store, path string) error {
	for {
		l, v, err := s.Get(ctx, path)
		if err != nil {
			return err
		}
		l.Generation++
		if _, err = s.Put(ctx, path, l, v); err == nil {
			return nil
		} else if !errors.Is(err, secret.ErrConflict) {
			return err
		}
	}
}
