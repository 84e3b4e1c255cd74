package controlplane_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/vault/vaulttest"
)

// In production the embedded store is refused; whoever insists is on record.
func TestEmbeddedSecretsInProduction(t *testing.T) {
	cfg := config(t)
	cfg.Environment, cfg.DatabaseTLS = "production", pg.TLS{Mode: pg.TLSDisable}
	_, err := controlplane.Start(t.Context(), cfg)
	require.ErrorContains(t, err, "embedded_secrets")

	cfg.EmbeddedSecrets = true
	s := start(t, cfg)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		status, doc := call(t, s, "GET", "/v1/audit?limit=100", nil)
		require.Equal(c, http.StatusOK, status)
		require.Contains(c, fmt.Sprint(doc), "secrets.embedded")
	}, time.Minute, 50*time.Millisecond)
}

// A replica that is started while Vault is sealed waits for it, and is up when
// Vault is; from then on it registers shards, also after Vault was restarted and
// its tokens have ended.
func TestVaultSealedAtTheStart(t *testing.T) {
	server := vaulttest.Start(t, "TOKEN_TTL=2s", "TOKEN_MAX_TTL=4s")
	cfg := config(t)
	cfg.SecretStore, cfg.SecretsDir, cfg.Vault = "vault", "", server.Config("controlplane")
	server.Seal(t)
	type started struct {
		s   *controlplane.Server
		err error
	}
	up := make(chan started, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		s, err := controlplane.Start(ctx, cfg)
		up <- started{s, err}
	}()
	select {
	case got := <-up:
		t.Fatalf("came up without its secrets: %v", got.err)
	case <-time.After(1500 * time.Millisecond):
	}
	server.Unseal(t)
	got := <-up
	require.NoError(t, got.err)
	t.Cleanup(func() { stop(t, got.s) })

	server.Stop(t)
	server.Run(t)
	server.Unseal(t)
	shard := pgtest.Shard(t)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		status, doc := call(t, got.s, "POST", "/v1/shards", map[string]any{
			"id": "s1", "routes_file": shard.RoutesFile(), "postgres_tls_dir": shard.Postgres.TLSDir(),
			"postgres":      map[string]any{"host": shard.Host(), "port": shard.PGPort()},
			"bouncer":       map[string]any{"host": shard.Host(), "port": shard.BouncerPort()},
			"admin":         map[string]any{"user": shard.Admin.User, "password": shard.Admin.Password},
			"bouncer_admin": map[string]any{"user": shard.Console.User, "password": shard.Console.Password},
		})
		require.Contains(c, []int{http.StatusCreated, http.StatusOK}, status, doc) // the latter after a first try that failed half way
	}, time.Minute, 50*time.Millisecond)
	admin, err := server.Root(t).KVv2("freehold").Get(t.Context(), "shards/s1/admin")
	require.NoError(t, err)
	require.Equal(t, shard.Admin.User, admin.Data["user"])
}
