package vault_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/vault"
	"github.com/freehold-db/freehold/internal/vault/vaulttest"
)

// What a node's login may do is read tenants' logins, by the shipped policy.
func TestNodeMayReadTenantsLoginsAlone(t *testing.T) {
	t.Parallel()
	server := vaulttest.Start(t)
	control, node := open(t, server.Config("controlplane")), open(t, server.Config("dataplane"))
	ctx := t.Context()
	for _, path := range []string{"databases/t_1/auth", secret.ShardAdmin("s1"), "signing/audit"} {
		_, err := control.Put(ctx, path, secret.Login{User: "u", Password: "p"}, 0)
		require.NoError(t, err)
	}
	_, wrapped, err := control.DataKey(ctx, "acme")
	require.NoError(t, err)

	l, _, err := node.Get(ctx, "databases/t_1/auth")
	require.NoError(t, err)
	require.Equal(t, "p", l.Password)
	_, err = node.Put(ctx, "databases/t_1/auth", secret.Login{}, 1)
	require.ErrorIs(t, err, secret.ErrDenied)
	require.ErrorIs(t, node.Delete(ctx, "databases/t_1/auth"), secret.ErrDenied)
	for _, path := range []string{secret.ShardAdmin("s1"), "signing/audit", "shards/none/admin"} {
		_, _, err = node.Get(ctx, path)
		require.ErrorIs(t, err, secret.ErrDenied, path)
		require.NotErrorIs(t, err, secret.ErrNotFound, path)
	}
	_, _, err = node.DataKey(ctx, "acme")
	require.ErrorIs(t, err, secret.ErrDenied)
	_, err = node.Unwrap(ctx, "acme", wrapped)
	require.ErrorIs(t, err, secret.ErrDenied)
	require.ErrorIs(t, node.Destroy(ctx, "acme"), secret.ErrDenied)
	_, err = control.Unwrap(ctx, "acme", wrapped)
	require.NoError(t, err, "it is still there")
}

// The control plane itself can neither read a tenant's key nor undo that one was destroyed.
func TestControlPlaneCannotUndoADestruction(t *testing.T) {
	t.Parallel()
	server := vaulttest.Start(t)
	control := open(t, server.Config("controlplane"))
	ctx := t.Context()
	require.NoError(t, control.Destroy(ctx, "acme"))
	_, err := control.Put(ctx, "destroyed/acme", secret.Login{}, 1)
	require.ErrorIs(t, err, secret.ErrDenied)
	require.ErrorIs(t, control.Delete(ctx, "destroyed/acme"), secret.ErrDenied)

	policies, err := server.Root(t).Sys().GetPolicy("freehold-controlplane")
	require.NoError(t, err)
	require.Contains(t, policies, `"freehold/data/destroyed/*"`)
	token, err := server.Root(t).Auth().Token().Create(nil)
	require.NoError(t, err)
	as := server.Root(t)
	as.SetToken(token.Auth.ClientToken)
	made, err := as.Logical().Write("auth/token/create-orphan", map[string]any{"policies": []string{"freehold-controlplane"}})
	require.NoError(t, err)
	as.SetToken(made.Auth.ClientToken)
	_, _, err = control.DataKey(ctx, "beta")
	require.NoError(t, err)
	for _, path := range []string{"transit/export/encryption-key/beta", "transit/backup/beta"} {
		_, err = as.Logical().Read(path)
		require.ErrorContains(t, err, "permission denied", path)
	}
	_, err = as.Logical().Write("transit/keys/beta/config", map[string]any{"exportable": true})
	require.ErrorContains(t, err, "permission denied")
	_, err = as.Logical().List("freehold/metadata/databases")
	require.ErrorContains(t, err, "permission denied")
}

// An engine that is not there is no word about a secret: nobody may take it
// for "this tenant has no login any more".
func TestLostEngineIsNotNotFound(t *testing.T) {
	t.Parallel()
	server := vaulttest.Start(t)
	cfg := server.Config("controlplane")
	control := open(t, cfg)
	ctx := t.Context()
	_, err := control.Put(ctx, "databases/t_1/auth", secret.Login{User: "u", Password: "p"}, 0)
	require.NoError(t, err)
	require.NoError(t, server.Root(t).Sys().Unmount("freehold"))
	_, _, err = control.Get(ctx, "databases/t_1/auth")
	require.ErrorIs(t, err, secret.ErrUnavailable)
	require.NotErrorIs(t, err, secret.ErrNotFound)
}

// Nothing that was shown or kept is in an error or in the client's text.
func TestErrorsTellNoSecret(t *testing.T) {
	t.Parallel()
	server := vaulttest.Start(t)
	cfg := server.Config("controlplane")
	cfg.SecretIDFile, cfg.SecretID = "", "canary-7f3a9b"
	wrong := open(t, cfg)
	_, err := wrong.Put(t.Context(), "databases/t_1/auth", secret.Login{User: "u", Password: "canary-pass"}, 0)
	require.ErrorIs(t, err, secret.ErrDenied)
	require.NotContains(t, err.Error(), "canary")
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", cfg, cfg, cfg), "canary")
	require.NotContains(t, fmt.Sprint(vault.Config{SecretID: "canary"}), "canary")
}
