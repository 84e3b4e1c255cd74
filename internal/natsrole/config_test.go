package natsrole_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/natslink"
	"github.com/freehold-db/freehold/internal/natsrole"
)

// A NATS server reads what is written, and takes it for the same roles; the
// file that is shipped for a cluster fits around it.
func TestServersReadTheConfiguration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var users []natsrole.User
	for _, r := range []natsrole.Role{natsrole.ControlPlane(), natsrole.Auditor(), natsrole.Node("n1"), natsrole.Node("host.example")} {
		key, err := natslink.Seed(filepath.Join(dir, r.Name))
		require.NoError(t, err)
		users = append(users, natsrole.User{Key: key, Role: r})
	}
	var b strings.Builder
	require.NoError(t, natsrole.WriteConfig(&b, users))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "accounts.conf"), []byte(b.String()), 0o600))
	shipped, err := os.ReadFile("../../deploy/nats/nats-server.conf")
	require.NoError(t, err)
	text := string(shipped)
	require.Contains(t, text, "\ntls {")
	at := strings.Index(text, "\ntls {") // its files are not here
	end := strings.Index(text[at:], "\n}")
	text = text[:at] + text[at+end+2:]
	file := filepath.Join(dir, "nats-server.conf")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))

	opts, err := server.ProcessConfigFile(file)
	require.NoError(t, err)
	require.True(t, opts.JetStream)
	require.Empty(t, opts.Authorization+opts.Username+opts.NoAuthUser)
	require.Empty(t, opts.Users)
	require.Len(t, opts.Nkeys, len(users))
	for _, u := range users {
		i := slices.IndexFunc(opts.Nkeys, func(n *server.NkeyUser) bool { return n.Nkey == u.Key })
		require.NotEqual(t, -1, i, u.Role.Name)
		got := opts.Nkeys[i]
		require.Equal(t, u.Role.Account, got.Account.GetName())
		require.Equal(t, u.Role.Publish, got.Permissions.Publish.Allow)
		require.Equal(t, u.Role.Subscribe, got.Permissions.Subscribe.Allow)
		require.Nil(t, got.Permissions.Response)
	}
}
