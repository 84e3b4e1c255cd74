package vault_test

import (
	"log/slog"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/vault"
	"github.com/freehold-db/freehold/internal/vault/vaulttest"
)

// BenchmarkVault measures what a real Vault takes, by the whole client.
func BenchmarkVault(b *testing.B) {
	if os.Getenv("FREEHOLD_VAULT") == "" {
		b.Skip("make test-vault")
	}
	server := vaulttest.Start(b)
	c, err := vault.Open(server.Config("controlplane"), slog.New(slog.DiscardHandler))
	require.NoError(b, err)
	b.Cleanup(c.Close)
	ctx := b.Context()
	_, err = c.Put(ctx, path, secret.Login{User: "u", Password: "p"}, 0)
	require.NoError(b, err)
	_, wrapped, err := c.DataKey(ctx, "acme")
	require.NoError(b, err)
	for name, call := range map[string]func() error{
		"get":     func() error { _, _, err := c.Get(ctx, path); return err },
		"datakey": func() error { _, _, err := c.DataKey(ctx, "acme"); return err },
		"unwrap":  func() error { _, err := c.Unwrap(ctx, "acme", wrapped); return err },
		"rewrap":  func() error { _, err := c.Rewrap(ctx, "acme", wrapped); return err },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := call(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
