package dataplane_test

import (
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane"
	"github.com/freehold-db/freehold/internal/vault"
	"github.com/freehold-db/freehold/internal/vault/vaulttest"
	"github.com/freehold-db/freehold/shardmap"
)

// A node whose logins are in a real Vault, which is sealed under traffic, long
// enough for the node's token to end and for every lease to be due: who has a
// lease is served without one failed request, who has none is told so, and when
// Vault is back all are, without a restart. In the soak it is sealed for a minute.
func TestVaultSealedUnderTraffic(t *testing.T) {
	lease, sealedFor := 3*time.Second, 5*time.Second
	if os.Getenv("FREEHOLD_SOAK") != "" {
		lease, sealedFor = 15*time.Second, time.Minute
	}
	server := vaulttest.Start(t, "TOKEN_TTL=2s", "TOKEN_MAX_TTL=4s")
	w := newWorld(t)
	w.secrets = openVault(t, server)
	for _, id := range []string{"acme", "beta", "late"} {
		w.tenant(shardmap.TenantID(id), 5)
	}
	inVault := func(lease, idle time.Duration) func(*dataplane.Config) {
		return func(c *dataplane.Config) {
			c.SecretStore, c.SecretsDir, c.Vault = "vault", "", server.Config("dataplane")
			c.Router.LeaseFor, c.Router.IdleAfter = lease, idle
		}
	}
	kept := w.node(inVault(lease, time.Minute))                 // goes on over its connections
	opening := w.node(inVault(lease, time.Millisecond))         // opens one for each request
	short := w.node(inVault(100*time.Millisecond, time.Minute)) // its leases end while Vault is sealed

	get := func(s *dataplane.Server, tenant string) answer {
		return do(t, http.MethodGet, s.URL()+"/rest/v1/notes?select=id", w.token(shardmap.TenantID(tenant), "viewer"), "")
	}
	for _, s := range []*dataplane.Server{kept, opening, short} {
		require.Equal(t, http.StatusOK, get(s, "acme").status)
		require.Equal(t, http.StatusOK, get(s, "beta").status)
	}
	var asked, failed atomic.Int64
	var last atomic.Value
	stopped := make(chan struct{})
	var traffic sync.WaitGroup
	for _, s := range []*dataplane.Server{kept, opening} {
		for _, tenant := range []string{"acme", "beta"} {
			traffic.Go(func() {
				for {
					select {
					case <-stopped:
						return
					case <-time.After(10 * time.Millisecond):
					}
					asked.Add(1)
					if a := get(s, tenant); a.status != http.StatusOK {
						failed.Add(1)
						last.Store(a.body)
					}
				}
			})
		}
	}
	defer func() {
		if stopped != nil {
			close(stopped)
			traffic.Wait()
		}
	}()

	server.Seal(t)
	sealed := time.Now()
	late := get(kept, "late")
	require.Equal(t, http.StatusServiceUnavailable, late.status, "nobody leased its login: %s", late.body)
	require.Contains(t, late.body, "login_unavailable")
	// A node that is started now is not sent anybody, and says why to who comes nevertheless.
	cfg := w.config()
	inVault(lease, time.Minute)(&cfg)
	started, err := dataplane.Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, started) })
	eventually := func(s *dataplane.Server, tenant string, status int) {
		t.Helper()
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			a := get(s, tenant)
			require.Equal(c, status, a.status, a.body)
		}, time.Minute, 20*time.Millisecond)
	}
	eventually(short, "acme", http.StatusServiceUnavailable) // fails closed
	eventually(started, "acme", http.StatusServiceUnavailable)
	require.Contains(t, get(started, "acme").body, "login_unavailable")
	w.eventually(started, http.StatusServiceUnavailable)
	w.eventually(short, http.StatusOK) // it had them all, and will
	time.Sleep(time.Until(sealed.Add(sealedFor)))
	require.Zero(t, failed.Load(), "%v", last.Load())

	server.Unseal(t)
	w.eventually(started, http.StatusOK)
	eventually(started, "acme", http.StatusOK)
	eventually(kept, "late", http.StatusOK)
	eventually(short, "acme", http.StatusOK)
	time.Sleep(lease) // all are due again
	close(stopped)
	traffic.Wait()
	stopped = nil
	require.Zero(t, failed.Load(), "%v", last.Load())
	t.Logf("Vault sealed for %s: %d requests of tenants with leases, none failed", sealedFor, asked.Load())
}

// openVault opens it as the control plane would.
func openVault(t *testing.T, server *vaulttest.Server) *vault.Client {
	t.Helper()
	c, err := vault.Open(server.Config("controlplane"), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}
