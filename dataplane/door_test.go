package dataplane_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane"
	"github.com/freehold-db/freehold/internal/servertls/servertlstest"
)

// A node serves by TLS, takes up a new certificate while it serves, and drains
// as it does without.
func TestNodeByTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tenant("acme", 3)
	dir, before, after := t.TempDir(), servertlstest.New(t), servertlstest.New(t)
	files := before.Issue(t, dir, "127.0.0.1")
	n := w.node(func(c *dataplane.Config) { c.TLSCertFile, c.TLSKeyFile = files.Certificate, files.Key })
	require.True(t, strings.HasPrefix(n.URL(), "https://"), n.URL())
	tok := w.token("acme", "viewer")
	client := func(ca *servertlstest.CA) *http.Client {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool}, ForceAttemptHTTP2: true}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	read := func(c *http.Client) error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.URL()+"/rest/v1/notes?select=id&order=id", nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+tok)
		resp, err := c.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, 200, resp.StatusCode)
		require.Equal(t, 2, resp.ProtoMajor)
		require.JSONEq(t, `[{"id":1},{"id":2},{"id":3}]`, string(body))
		return nil
	}
	connected := client(before)
	require.NoError(t, read(connected))
	require.Contains(t, do(t, http.MethodGet, n.OpsURL()+"/metrics", "", "").body, "freehold_tls_certificate_not_after_seconds ")

	after.Issue(t, dir, "127.0.0.1")
	require.Eventually(t, func() bool { return read(client(after)) == nil }, 30*time.Second, 100*time.Millisecond)
	require.NoError(t, read(connected), "its connection is what it was")
	require.Error(t, read(client(before)))

	stop(t, n)
	require.Error(t, read(connected))
}

// Figures and profiles are for operators, who have a port of their own.
func TestOps(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(func(c *dataplane.Config) { c.OpsPprof = true })
	status := func(base, path string) int { return do(t, http.MethodGet, base+path, "", "").status }
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/debug/pprof/", "/debug/pprof/cmdline"} {
		require.Equal(t, 200, status(n.OpsURL(), path), path)
	}
	require.Equal(t, 404, status(n.OpsURL(), "/rest/v1/notes"))
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 404, "/debug/pprof/": 404} {
		require.Equal(t, want, status(n.URL(), path), path)
	}
	bare := w.node(func(c *dataplane.Config) { c.Name = "n2" })
	require.Equal(t, 404, status(bare.OpsURL(), "/debug/pprof/"))
	none := w.node(func(c *dataplane.Config) { c.Name, c.OpsListen = "n3", "" })
	require.Empty(t, none.OpsURL())
	stop(t, n)
	_, err := http.Get(n.OpsURL() + "/healthz") //nolint:noctx // must fail
	require.Error(t, err)
}
