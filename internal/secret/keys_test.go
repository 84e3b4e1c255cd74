package secret_test

import (
	"bytes"
	"crypto/ed25519"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/secret/secrettest"
)

func TestDirKeysContract(t *testing.T) {
	dir := t.TempDir()
	secrettest.RunKeys(t, func(t *testing.T) secret.Keys { return openDir(t, dir) })
}

// A key that is destroyed is in no file any more, whoever has the master key.
func TestDestroyedKeyIsInNoFile(t *testing.T) {
	dir := t.TempDir()
	d := openDir(t, dir)
	_, _, err := d.DataKey(t.Context(), "acme")
	require.NoError(t, err)
	file := filepath.Join(dir, "keys", "acme.key.sealed")
	before, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, d.Destroy(t.Context(), "acme"))
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		require.NoError(t, err)
		if !e.IsDir() {
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			require.False(t, bytes.Contains(data, before[28:]), path)
		}
		return nil
	}))
}

func TestSigningKeyIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	const first = 4
	var keys [first]ed25519.PrivateKey
	var errs [first]error
	var wg sync.WaitGroup
	for i := range first {
		store := openDir(t, dir)
		wg.Go(func() { keys[i], errs[i] = secret.SigningKey(t.Context(), store, "signing/erasures") })
	}
	wg.Wait()
	for i := range first {
		require.NoError(t, errs[i])
		require.True(t, keys[0].Equal(keys[i]))
	}
	d := openDir(t, dir)
	other, err := secret.SigningKey(t.Context(), d, "signing/other")
	require.NoError(t, err)
	require.False(t, keys[0].Equal(other))

	_, err = d.Put(t.Context(), "shards/s1/admin", secret.Login{User: "admin", Password: "p"}, 0)
	require.NoError(t, err)
	_, err = secret.SigningKey(t.Context(), d, "shards/s1/admin")
	require.ErrorContains(t, err, "is none")
}
