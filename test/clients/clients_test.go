// Package clients runs the public clients of this API, as npm has them, against
// a tenant of a development fleet: what an application installs must work
// unchanged.
package clients

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/cli/dev"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/dataplane"
	"github.com/freehold-db/freehold/test/fleet"
)

const tenant = "cinema"

// TestClients runs each file of js as a test of its own.
func TestClients(t *testing.T) {
	install := installed(t)
	f := fleet.Start(t, dev.Options{Shards: 1, Nodes: 1, Migrations: "schema", DataPlane: func(c *dataplane.Config) {
		c.Aggregates, c.Plans, c.Rollback, c.SQL.Owner = true, true, true, true
	}})
	t.Cleanup(fleet.Remove)
	f.Create(t, tenant, "")
	key, err := f.Admin.CreateKey(t.Context(), tenant, api.CreateKey{Role: "editor", Description: "the application"}, "test")
	require.NoError(t, err)
	require.Eventually(t, func() bool { // the node hears of it
		return f.Do(t, http.MethodGet, "/rest/v1/films?limit=1", key.Text, nil).Status == http.StatusOK
	}, time.Minute, 50*time.Millisecond)
	env := append(os.Environ(), "NO_COLOR=1", "FREEHOLD_URL="+f.Info.DataplaneURLs[0], "FREEHOLD_TENANT="+tenant,
		"FREEHOLD_KEY="+key.Text, "FREEHOLD_EDITOR="+f.Token(t, tenant, "editor"), "FREEHOLD_VIEWER="+f.Token(t, tenant, "viewer"),
		"FREEHOLD_SQL_OWNER="+f.SQLToken(t, tenant, "owner"), "FREEHOLD_SQL_EDITOR="+f.SQLToken(t, tenant, "editor"), "FREEHOLD_SQL_VIEWER="+f.SQLToken(t, tenant, "viewer"))
	dir, err := install()
	require.NoError(t, err)

	files, err := filepath.Glob(filepath.Join(dir, "*.test.mjs"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "node", "--test", "--test-reporter=spec", file) //nolint:gosec // a file of ours
			cmd.Dir, cmd.Env = dir, env
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
		})
	}
}

// installed begins to install the clients, exactly as locked, into a copy of js,
// and returns what waits for that.
func installed(t *testing.T) func() (string, error) {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		_, err := exec.LookPath(program)
		require.NoError(t, err, "the clients run in Node.js 20 or newer: `deploy/install/deps.sh test` installs it")
	}
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("js")))
	wait := sync.OnceValues(func() (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "npm", "ci", "--fetch-retries=5", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("npm ci: %w\n%s", err, out)
		}
		return dir, nil
	})
	go wait() //nolint:errcheck // who waits gets it
	t.Cleanup(func() { _, _ = wait() })
	return wait
}
