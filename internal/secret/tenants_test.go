package secret_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/secret"
)

func openDir(t *testing.T, dir string) *secret.Dir {
	t.Helper()
	d, err := secret.OpenDir(dir)
	require.NoError(t, err)
	return d
}

// What a node opens has the tenants' logins and nothing else, whatever it asks for.
func TestTenantsHandleHasNoOtherSecret(t *testing.T) {
	dir := t.TempDir()
	all := openDir(t, dir)
	for _, path := range []string{"databases/a/auth", "shards/s1/admin"} {
		_, err := all.Put(t.Context(), path, secret.Login{User: "u", Password: "p"}, 0)
		require.NoError(t, err)
	}
	_, wrapped, err := all.DataKey(t.Context(), "acme")
	require.NoError(t, err)

	_, err = secret.OpenTenants(dir)
	require.ErrorContains(t, err, secret.TenantsDir(dir))
	_, err = secret.OpenDir(secret.TenantsDir(dir))
	require.ErrorContains(t, err, "directory above")

	// The subdirectory alone, as it would be mounted elsewhere.
	alone := filepath.Join(t.TempDir(), "logins")
	require.NoError(t, os.CopyFS(alone, os.DirFS(secret.TenantsDir(dir))))
	require.NoError(t, os.Chmod(filepath.Join(alone, "tenants.key"), 0o600)) // CopyFS goes by the umask
	node, err := secret.OpenTenants(alone)
	require.NoError(t, err)
	l, _, err := node.Get(t.Context(), "databases/a/auth")
	require.NoError(t, err)
	require.Equal(t, "p", l.Password)
	for _, path := range []string{"shards/s1/admin", "databases", "audit/signer"} {
		_, _, err = node.Get(t.Context(), path)
		require.ErrorIs(t, err, secret.ErrDenied, path)
		_, err = node.Put(t.Context(), path, secret.Login{}, 0)
		require.ErrorIs(t, err, secret.ErrDenied, path)
		require.ErrorIs(t, node.Delete(t.Context(), path), secret.ErrDenied, path)
	}
	_, _, err = node.DataKey(t.Context(), "acme")
	require.ErrorIs(t, err, secret.ErrDenied)
	_, err = node.Unwrap(t.Context(), "acme", wrapped)
	require.ErrorIs(t, err, secret.ErrDenied)
	require.ErrorIs(t, node.Destroy(t.Context(), "acme"), secret.ErrDenied)

	// The master key of one does not open the other's files, wherever they are put.
	data, err := os.ReadFile(filepath.Join(dir, "shards/s1/admin.sealed"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(alone, "databases/a/auth.sealed"), data, 0o600))
	_, _, err = node.Get(t.Context(), "databases/a/auth")
	require.ErrorContains(t, err, "altered")
}

// A node may be the first to come.
func TestTenantsHandleOpenedFirst(t *testing.T) {
	dir := t.TempDir()
	node, err := secret.OpenTenants(secret.TenantsDir(dir))
	require.NoError(t, err)
	_, err = openDir(t, dir).Put(t.Context(), "databases/a/auth", secret.Login{User: "u", Password: "p"}, 0)
	require.NoError(t, err)
	_, _, err = node.Get(t.Context(), "databases/a/auth")
	require.NoError(t, err)
}

// A store of the version before, with all under one key, is carried over, also
// when that was begun and not finished.
func TestOldStoreIsCarriedOver(t *testing.T) {
	old := filepath.Join(t.TempDir(), "old")
	require.NoError(t, exec.CommandContext(t.Context(), "cp", "-a", "testdata/onekey", old).Run())
	require.NoError(t, os.Chmod(filepath.Join(old, "master.key"), 0o600))
	again, err := os.ReadFile(filepath.Join(old, "databases/t_2/auth.sealed"))
	require.NoError(t, err)

	d := openDir(t, old)
	for path, want := range map[string]string{"databases/t_1/auth": "one", "databases/t_2/auth": "two", "shards/s1/admin": "admin"} {
		l, v, err := d.Get(t.Context(), path)
		require.NoError(t, err)
		require.Equal(t, want, l.Password)
		require.EqualValues(t, 1, v)
	}
	require.NoDirExists(t, filepath.Join(old, "databases"))
	_, err = d.Put(t.Context(), "databases/t_2/auth", secret.Login{User: "u", Password: "newer"}, 1)
	require.NoError(t, err)

	// Killed between the two files of one login: the new one wins.
	require.NoError(t, os.MkdirAll(filepath.Join(old, "databases/t_2"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(old, "databases/t_2/auth.sealed"), again, 0o600))
	l, _, err := openDir(t, old).Get(t.Context(), "databases/t_2/auth")
	require.NoError(t, err)
	require.Equal(t, "newer", l.Password)
	require.NoDirExists(t, filepath.Join(old, "databases"))
}
