package secret_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/secret/secrettest"
)

// TestMain doubles as the "other process" of TestOtherProcesses.
func TestMain(m *testing.M) {
	if dir := os.Getenv("SECRET_TEST_WRITE"); dir != "" {
		if err := writeCounter(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestDirContract(t *testing.T) {
	dir := t.TempDir()
	secrettest.Run(t, func(t *testing.T) secret.Store {
		s, err := secret.OpenDir(dir)
		require.NoError(t, err)
		return s
	})
}

func TestFilesAreSealed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "store")
	s, err := secret.OpenDir(dir)
	require.NoError(t, err)
	for _, path := range []string{"databases/a/auth", "databases/b/auth"} {
		_, err = s.Put(t.Context(), path, secret.Login{User: "user-" + "name", Password: "pass-" + "word"}, 0)
		require.NoError(t, err)
	}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := e.Info()
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, "%s is open to others", path)
		if !e.IsDir() {
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			require.False(t, bytes.Contains(data, []byte("pass-word")) || bytes.Contains(data, []byte("user-name")))
		}
		return nil
	}))

	a, b := filepath.Join(dir, "tenants/databases/a/auth.sealed"), filepath.Join(dir, "tenants/databases/b/auth.sealed")
	data, err := os.ReadFile(a)
	require.NoError(t, err)

	// A file put in another's place is refused: the path is authenticated.
	require.NoError(t, os.WriteFile(b, data, 0o600))
	_, _, err = s.Get(t.Context(), "databases/b/auth")
	require.ErrorContains(t, err, "altered")
	// So is a changed bit, and it is never taken for "not there".
	data[len(data)-1] ^= 1
	require.NoError(t, os.WriteFile(a, data, 0o600))
	_, _, err = s.Get(t.Context(), "databases/a/auth")
	require.ErrorContains(t, err, "altered")
	require.NotErrorIs(t, err, secret.ErrNotFound)
	_, err = s.Put(t.Context(), "databases/a/auth", secret.Login{}, 0)
	require.Error(t, err)
}

func TestMasterKeyOpenToOthersIsRefused(t *testing.T) {
	dir := t.TempDir()
	_, err := secret.OpenDir(dir)
	require.NoError(t, err)
	require.NoError(t, os.Chmod(filepath.Join(dir, "master.key"), 0o644))
	_, err = secret.OpenDir(dir)
	require.ErrorContains(t, err, "chmod 600")
}

// Processes that come first at once agree on one key and lose no write.
// A lost master key is not replaced behind everybody's back.
func TestLostMasterKeyIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	s, err := secret.OpenDir(dir)
	require.NoError(t, err)
	_, err = secret.OpenDir(dir)
	require.NoError(t, err)
	_, err = s.Put(t.Context(), "databases/a/auth", secret.Login{User: "u", Password: "p"}, 0)
	require.NoError(t, err)
	_, err = s.Put(t.Context(), "shards/a/admin", secret.Login{User: "u", Password: "p"}, 0)
	require.NoError(t, err)
	for _, name := range []string{"master.key", "tenants/tenants.key"} {
		key := filepath.Join(dir, name)
		require.NoError(t, os.Rename(key, key+".away"))
		_, err = secret.OpenDir(dir)
		require.ErrorContains(t, err, "put it back")
		require.NoFileExists(t, key)
		require.NoError(t, os.Rename(key+".away", key))
	}
	_, err = secret.OpenDir(dir)
	require.NoError(t, err)
}

// A store that is away as a whole (not mounted, say) is no word about a secret.
func TestDirAway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s, err := secret.OpenDir(dir)
	require.NoError(t, err)
	_, err = s.Put(t.Context(), "databases/a/auth", secret.Login{User: "u", Password: "p"}, 0)
	require.NoError(t, err)
	require.NoError(t, os.Rename(dir, dir+".away"))
	for _, empty := range []bool{false, true} { // nothing there, or the empty place to mount it at
		if empty {
			require.NoError(t, os.Mkdir(dir, 0o700))
		}
		_, _, err = s.Get(t.Context(), "databases/a/auth")
		require.ErrorIs(t, err, secret.ErrUnavailable)
		require.NotErrorIs(t, err, secret.ErrNotFound)
	}
	require.NoError(t, os.Remove(dir))
	require.NoError(t, os.Rename(dir+".away", dir))
	_, _, err = s.Get(t.Context(), "databases/a/auth")
	require.NoError(t, err)
	_, _, err = s.Get(t.Context(), "databases/b/auth")
	require.ErrorIs(t, err, secret.ErrNotFound)
}

func TestOtherProcesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	exe, err := os.Executable()
	require.NoError(t, err)
	const processes = 4
	var wg sync.WaitGroup
	for range processes {
		wg.Go(func() {
			cmd := exec.CommandContext(t.Context(), exe)
			cmd.Env = append(os.Environ(), "SECRET_TEST_WRITE="+dir)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	s, err := secret.OpenDir(dir)
	require.NoError(t, err)
	l, _, err := s.Get(t.Context(), "shared/counter")
	require.NoError(t, err)
	require.EqualValues(t, processes*10, l.Generation)
}

func TestLoginHidesPassword(t *testing.T) {
	l := secret.Login{User: "u", Password: "hunter2"}
	require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", l, l, l, l), "hunter2")
}

// writeCounter is the other process: it creates the counter or finds it, and
// adds ten by compare-and-set.
func writeCounter(dir string) error {
	s, err := secret.OpenDir(dir)
	if err != nil {
		return err
	}
	ctx := context.Background()
	const path = "shared/counter"
	for done := 0; done < 10; {
		l, v, err := s.Get(ctx, path)
		if err != nil && !errors.Is(err, secret.ErrNotFound) {
			return err
		}
		l.Generation++
		switch _, err := s.Put(ctx, path, l, v); {
		case err == nil:
			done++
		case !errors.Is(err, secret.ErrConflict):
			return err
		}
	}
	return nil
}
