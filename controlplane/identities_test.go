package controlplane_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/freehold-db/freehold/controlplane"
	"github.com/freehold-db/freehold/controlplane/authority"
)

// Issuers of people come from a file or a variable, and go into the file of a replica that is started as a process.
func TestIssuersOfPeople(t *testing.T) {
	dir := t.TempDir()
	base := "catalog_dsn: host=x\naudit_dsn: host=x\nnats_url: nats://x:1\nsecrets_dir: x\ntokens_file: x\n"
	load := func(text string) (controlplane.Config, error) {
		path := filepath.Join(dir, "c.yaml")
		require.NoError(t, os.WriteFile(path, []byte(base+text), 0o600))
		return controlplane.LoadConfig(path)
	}
	cfg, err := load("oidc_issuers:\n  - {name: corp, url: https://id.example, client_id: tenant-ops, roles: {sre: operator}}\n")
	require.NoError(t, err)
	require.Equal(t, authority.Operator, cfg.OIDCIssuers[0].Roles["sre"])
	require.Equal(t, 8*time.Hour, cfg.BreakGlassMax)
	text, err := yaml.Marshal(map[string]any{"oidc_issuers": cfg.OIDCIssuers})
	require.NoError(t, err)
	again, err := load(string(text))
	require.NoError(t, err)
	require.Equal(t, cfg.OIDCIssuers, again.OIDCIssuers)

	for _, bad := range []string{
		"oidc_issuers:\n  - {name: corp, url: https://id.example}\n",
		"oidc_issuers:\n  - {name: corp, url: https://id.example, client_id: x, algorithms: [HS256]}\n",
		"oidc_issuers:\n  - {name: corp, url: https://id.example, client_id: x, rolls: {}}\n",
		"break_glass_max: 25h\n", "break_glass_max: -1s\n",
	} {
		_, err := load(bad)
		require.Error(t, err, bad)
	}
	t.Setenv("FREEHOLD_OIDC_ISSUERS", `[{"name":"other","url":"https://other.example","client_id":"x"}]`)
	cfg, err = load("")
	require.NoError(t, err)
	require.Equal(t, "other", cfg.OIDCIssuers[0].Name)
}
