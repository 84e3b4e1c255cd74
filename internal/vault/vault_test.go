package vault_test

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/secret/secrettest"
	"github.com/freehold-db/freehold/internal/vault"
	"github.com/freehold-db/freehold/internal/vault/vaulttest"
)

func open(t *testing.T, cfg vault.Config) *vault.Client {
	t.Helper()
	c, err := vault.Open(cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// The contract, unchanged, on a real Vault, with the control plane's policy.
func TestContract(t *testing.T) {
	t.Parallel()
	server := vaulttest.Start(t)
	secrettest.Run(t, func(t *testing.T) secret.Store { return open(t, server.Config("controlplane")) })
	secrettest.RunKeys(t, func(t *testing.T) secret.Keys { return open(t, server.Config("controlplane")) })
}
