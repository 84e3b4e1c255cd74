package secretstore_test

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/config"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/secretstore"
	"github.com/freehold-db/freehold/internal/vault"
)

func TestCheck(t *testing.T) {
	good := vault.Config{Address: "https://vault:8200", RoleIDFile: "/r", SecretIDFile: "/s"}
	good.Defaults()
	with := func(change func(*vault.Config)) vault.Config {
		c := good
		change(&c)
		return c
	}
	for name, c := range map[string]struct {
		named secretstore.Named
		fault string // empty: none
	}{
		"dir":                     {secretstore.Named{Store: "dir", SecretsDir: "/x", Environment: "development"}, ""},
		"dir nowhere":             {secretstore.Named{Store: "dir", Environment: "development"}, "secrets_dir"},
		"dir in production":       {secretstore.Named{Store: "dir", SecretsDir: "/x", Environment: "production"}, "embedded_secrets"},
		"dir in production, said": {secretstore.Named{Store: "dir", SecretsDir: "/x", Environment: "production", EmbeddedSecrets: true}, ""},
		"vault":                   {secretstore.Named{Store: "vault", Environment: "production", Vault: good}, ""},
		"another store":           {secretstore.Named{Store: "file", Environment: "production"}, "secret_store"},
		"another environment":     {secretstore.Named{Store: "vault", Environment: "prod", Vault: good}, "environment"},
		"vault in the clear": {secretstore.Named{Store: "vault", Environment: "production",
			Vault: with(func(c *vault.Config) { c.Address = "http://vault:8200" })}, "loopback"},
		"vault with a password in its URL": {secretstore.Named{Store: "vault", Environment: "production",
			Vault: with(func(c *vault.Config) { c.Address = "https://a:b@vault" })}, "address"},
		"no secret ID": {secretstore.Named{Store: "vault", Environment: "production",
			Vault: with(func(c *vault.Config) { c.SecretIDFile = "" })}, "secret_id_file"},
		"two secret IDs": {secretstore.Named{Store: "vault", Environment: "production",
			Vault: with(func(c *vault.Config) { c.SecretID = "x" })}, "secret_id_file"},
		"kubernetes without a role": {secretstore.Named{Store: "vault", Environment: "production",
			Vault: with(func(c *vault.Config) { c.Auth = "kubernetes" })}, "role"},
		"another way in": {secretstore.Named{Store: "vault", Environment: "production",
			Vault: with(func(c *vault.Config) { c.Auth = "token" })}, "auth"},
		"a mount that leads elsewhere": {secretstore.Named{Store: "vault", Environment: "production",
			Vault: with(func(c *vault.Config) { c.KVMount = "../sys" })}, "kv_mount"},
		"a certificate for nobody": {secretstore.Named{Store: "vault", Environment: "production",
			Vault: with(func(c *vault.Config) { c.Certificate.Role = "r" })}, "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			var faults config.Faults
			c.named.Check(&faults)
			if err := faults.Err("x"); c.fault == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.fault)
			}
		})
	}
}

// A node gets no keys, and of the directory the tenants' logins alone.
func TestTenantsAlone(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	all := secretstore.Named{Store: secretstore.Dir, SecretsDir: dir, Environment: secretstore.Production, EmbeddedSecrets: true}
	require.True(t, all.Overridden())
	a, err := all.Open(t.Context(), log)
	require.NoError(t, err)
	defer a.Close()
	require.NotNil(t, a.Keys)
	_, err = all.OpenTenants(t.Context(), log)
	require.Error(t, err)

	node := secretstore.Named{Store: secretstore.Dir, SecretsDir: secret.TenantsDir(dir), Environment: secretstore.Development}
	require.False(t, node.Overridden())
	n, err := node.OpenTenants(t.Context(), log)
	require.NoError(t, err)
	defer n.Close()
	require.Nil(t, n.Keys)
	_, _, err = n.Get(t.Context(), secret.ShardAdmin("s1"))
	require.ErrorIs(t, err, secret.ErrDenied)
}
