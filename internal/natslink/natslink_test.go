package natslink_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/clienttls"
	"github.com/freehold-db/freehold/internal/natslink"
	"github.com/freehold-db/freehold/internal/natsrole"
)

func TestSeedIsMadeOnce(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key.nk")
	keys := make([]string, 8)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], err = natslink.Seed(file); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		require.True(t, nkeys.IsValidPublicUserKey(k))
		require.Equal(t, keys[0], k)
	}
	st, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())
	entries, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing is left beside it")

	require.NoError(t, os.WriteFile(file, []byte("secret nonsense"), 0o600))
	_, err = natslink.Seed(file)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret nonsense")
}

func TestURLsAreChecked(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"nats://a:4222", "tls://a:1,nats://b:2", "nats://token@127.0.0.1:4222"} {
		require.NoError(t, natslink.CheckURL(good), good)
	}
	for _, bad := range []string{"", "http://a", "a:4222", "nats://a,http://t0ken@b"} {
		err := natslink.CheckURL(bad)
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), "t0ken")
	}
}

func TestWhatCanNeverWorkIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	gone := filepath.Join(t.TempDir(), "gone")
	for _, bad := range []natslink.Config{
		{URL: "nats://127.0.0.1:1", SeedFile: gone},
		{URL: "nats://127.0.0.1:1", TLS: clienttls.Files{CA: gone}},
	} {
		_, err := natslink.Connect(bad, natsrole.ControlPlane(), "test", slog.New(slog.DiscardHandler))
		require.Error(t, err)
	}
	nc, err := natslink.Connect(natslink.Config{URL: "nats://127.0.0.1:1"}, natsrole.ControlPlane(), "test", slog.New(slog.DiscardHandler))
	require.NoError(t, err, "NATS may be away")
	nc.Close()
}
