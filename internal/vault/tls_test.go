package vault_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/vault/vaulttest"
)

// By TLS, Vault is believed by the configured roots alone, under the configured name.
func TestTLS(t *testing.T) {
	t.Parallel()
	server, _ := world(t)
	at, err := url.Parse(server.URL)
	require.NoError(t, err)
	var asked atomic.Int64
	forward := httputil.NewSingleHostReverseProxy(at)
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		r.Header.Del("X-Vault-Namespace") // there are none in this edition
		forward.ServeHTTP(w, r)
	}))
	defer secure.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600))

	cfg := server.Config("dataplane")
	cfg.Address = secure.URL
	_, _, err = open(t, cfg).Get(t.Context(), path)
	require.ErrorIs(t, err, secret.ErrUnavailable, "the system's roots do not know it")
	require.ErrorContains(t, err, "certificate")

	cfg.CAFile, cfg.ServerName = ca, "elsewhere.test"
	_, _, err = open(t, cfg).Get(t.Context(), path)
	require.ErrorIs(t, err, secret.ErrUnavailable, "it is for another name")
	require.Zero(t, asked.Load(), "nothing was shown to it")

	cfg.ServerName = "example.com"
	reads(t, open(t, cfg), "by its roots, under its name")
	require.Positive(t, asked.Load())
}

// Every request names the namespace, also the login.
func TestNamespace(t *testing.T) {
	t.Parallel()
	server := vaulttest.Start(t)
	at, err := url.Parse(server.URL)
	require.NoError(t, err)
	var asked, named atomic.Int64
	forward := httputil.NewSingleHostReverseProxy(at)
	between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("X-Vault-Namespace") == "team/freehold" {
			named.Add(1)
		}
		r.Header.Del("X-Vault-Namespace") // there are none in this edition
		forward.ServeHTTP(w, r)
	}))
	defer between.Close()
	cfg := server.Config("controlplane")
	cfg.Address, cfg.Namespace = between.URL, "team/freehold"
	c := open(t, cfg)
	_, err = c.Put(t.Context(), path, secret.Login{User: "u"}, 0)
	require.NoError(t, err)
	_, _, err = c.DataKey(t.Context(), "acme")
	require.NoError(t, err)
	c.Close()
	require.GreaterOrEqual(t, asked.Load(), int64(4))
	require.Equal(t, asked.Load(), named.Load())
}
