package controlplane

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

const good = `
catalog_dsn: postgres://u:hidden@h/catalog
audit_dsn: postgres://u:hidden@h/audit
nats_url: nats://127.0.0.1:4222
secrets_dir: /tmp/s
tokens_file: /tmp/t
statement_timeout: 5s
`

func TestLoadConfig(t *testing.T) {
	t.Setenv("FREEHOLD_WARM_POOL", "9")
	c, err := LoadConfig(write(t, good))
	require.NoError(t, err)
	require.Equal(t, 5*time.Second, c.StatementTimeout)
	require.Equal(t, 9, c.WarmPool)
	require.Equal(t, 7*24*time.Hour, c.DeleteGrace)

	_, err = LoadConfig(write(t, good+"warm_pol: 3\n"))
	require.ErrorContains(t, err, "warm_pol")
	_, err = LoadConfig(write(t, good+"listen: nowhere\ndelete_grace: -1s\nnats_url: http://x\n"))
	require.Error(t, err) // a doubled key
	t.Setenv("FREEHOLD_LISTEN", "nowhere")
	t.Setenv("FREEHOLD_DELETE_GRACE", "-1s")
	t.Setenv("FREEHOLD_CATALOG_DSN", "postgres://u:hidden@h:notaport/x")
	_, err = LoadConfig(write(t, good))
	for _, key := range []string{"listen", "delete_grace", "catalog_dsn"} {
		require.ErrorContains(t, err, key)
	}
	require.NotContains(t, err.Error(), "hidden")
	_, err = LoadConfig(filepath.Join(t.TempDir(), "missing"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
