package dataplane_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/freehold-db/freehold/dataplane"
)

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "node.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

const enough = "issuer: http://127.0.0.1:1\nsecrets_dir: /s\nnats_url: nats://127.0.0.1:2\n"

func TestEnvironmentWinsOverFileOverDefaults(t *testing.T) {
	t.Setenv("FREEHOLD_MAX_BODY", "77")
	t.Setenv("FREEHOLD_ALGORITHMS", "ES256,EdDSA")
	c, err := dataplane.LoadConfig(file(t, enough+"max_body: 5\nmax_rows: 6\nrequest_for: 7s\n"))
	require.NoError(t, err)
	require.EqualValues(t, 77, c.MaxBody)
	require.Equal(t, []string{"ES256", "EdDSA"}, c.Algorithms)
	require.Equal(t, 6, c.MaxRows)
	require.Equal(t, 7*time.Second, c.RequestFor)
	require.Equal(t, "freehold", c.Audience)
}

func TestWrittenConfigurationIsReadBack(t *testing.T) {
	want, err := dataplane.LoadConfig(file(t, enough))
	require.NoError(t, err)
	b, err := yaml.Marshal(want)
	require.NoError(t, err)
	got, err := dataplane.LoadConfig(file(t, string(b)))
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestBadConfigurations(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"nothing":          {"", "secrets_dir"},
		"unknown key":      {enough + "max_bdy: 5\n", "max_bdy"},
		"symmetric":        {enough + "algorithms: [HS256]\n", "HS256"},
		"no issuer":        {"secrets_dir: /s\nnats_url: n\n", "issuer"},
		"negative timeout": {enough + "request_for: -1s\n", "request_for"},
		"no source":        {"issuer: http://h\nsecrets_dir: /s\n", "nats_url"},
		"no connections":   {enough + "connections: -1\n", "connections"},
		"no memory":        {enough + "limits: {body_memory: -1}\n", "limits"},
		"two controls":     {enough + "control_url: http://a,b\n", `control_url: "b"`},
	} {
		_, err := dataplane.LoadConfig(file(t, c.text))
		require.ErrorContains(t, err, c.want, name)
	}
	_, err := dataplane.LoadConfig("/nonexistent")
	require.ErrorIs(t, err, os.ErrNotExist)
}
