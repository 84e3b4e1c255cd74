package vault_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/vault"
	"github.com/freehold-db/freehold/internal/vault/vaulttest"
)

const (
	path     = "databases/t_1/auth"
	patience = time.Minute
)

// world is a Vault with one login in it, and a node that has read it.
func world(t *testing.T, env ...string) (*vaulttest.Server, *vault.Client) {
	t.Helper()
	server := vaulttest.Start(t, env...)
	control := open(t, server.Config("controlplane"))
	_, err := control.Put(t.Context(), path, secret.Login{User: "u", Password: "p"}, 0)
	require.NoError(t, err)
	node := open(t, server.Config("dataplane"))
	reads(t, node, "at first")
	return server, node
}

func reads(t *testing.T, c *vault.Client, why string) {
	t.Helper()
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		_, _, err := c.Get(context.Background(), path)
		require.NoError(t, err)
	}, patience, 20*time.Millisecond, why)
}

func away(t *testing.T, c *vault.Client) {
	t.Helper()
	_, _, err := c.Get(t.Context(), path)
	require.ErrorIs(t, err, secret.ErrUnavailable)
	require.NotErrorIs(t, err, secret.ErrNotFound)
	require.NotErrorIs(t, err, secret.ErrDenied)
}

func TestSealedAndUnsealed(t *testing.T) {
	t.Parallel()
	server, node := world(t)
	server.Seal(t)
	away(t, node)
	away(t, node)
	server.Unseal(t)
	reads(t, node, "after unseal")
}

// The token ends while Vault is sealed: what is shown afterwards is refused, and replaced.
func TestTokenEndsWhileSealed(t *testing.T) {
	t.Parallel()
	server, node := world(t, "TOKEN_TTL=2s", "TOKEN_MAX_TTL=2s")
	server.Seal(t)
	time.Sleep(2100 * time.Millisecond) // at least: the token's life is Vault's own clock
	away(t, node)
	server.Unseal(t)
	reads(t, node, "after unseal")
}

func TestRestarted(t *testing.T) {
	t.Parallel()
	server, node := world(t)
	server.Stop(t)
	away(t, node)
	server.Run(t)
	away(t, node) // it comes up sealed
	server.Unseal(t)
	reads(t, node, "after the restart")
}

// Vault ends every token: the next call logs in again, and nobody notices.
func TestTokensRevoked(t *testing.T) {
	t.Parallel()
	server, node := world(t)
	server.RevokeTokens(t)
	reads(t, node, "after the tokens were revoked")
}

// Tokens that can't be renewed beyond three seconds: reads go on all the same.
func TestLongestLifeOfATokenEnds(t *testing.T) {
	t.Parallel()
	_, node := world(t, "TOKEN_TTL=2s", "TOKEN_MAX_TTL=3s")
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		_, _, err := node.Get(t.Context(), path)
		require.NoError(t, err)
		time.Sleep(5 * time.Millisecond)
	}
	reads(t, node, "at last")
}

// A secret ID is replaced in its file: the client goes over by itself, one
// that still has the old one can't log in.
func TestSecretIDRotated(t *testing.T) {
	t.Parallel()
	server, node := world(t)
	old := server.Config("dataplane")
	old.SecretIDFile, old.SecretID = "", readFile(t, old.SecretIDFile)
	stale := open(t, old)
	reads(t, stale, "before")
	server.NewSecretID(t, "dataplane")
	server.RevokeTokens(t)
	reads(t, node, "with the new secret ID")
	require.Eventually(t, func() bool {
		_, _, err := stale.Get(t.Context(), path)
		return errors.Is(err, secret.ErrDenied)
	}, patience, 20*time.Millisecond)
}

// Opened while Vault is sealed, or not there at all, it serves when that is over.
func TestOpenedWhileAway(t *testing.T) {
	t.Parallel()
	server, _ := world(t)
	server.Seal(t)
	early := open(t, server.Config("dataplane"))
	away(t, early)
	server.Stop(t)
	earlier := open(t, server.Config("dataplane"))
	away(t, earlier)
	server.Run(t)
	server.Unseal(t)
	reads(t, early, "opened while sealed")
	reads(t, earlier, "opened while down")
}

// A Vault that hangs costs a caller a request's time, and for a second after
// that the others none.
func TestHanging(t *testing.T) {
	t.Parallel()
	server, _ := world(t)
	cfg := server.Config("dataplane")
	cfg.Timeout = 300 * time.Millisecond
	node := open(t, cfg)
	reads(t, node, "before")
	goOn := server.Hang()
	defer goOn()
	require.Eventually(t, func() bool {
		_, _, err := node.Get(t.Context(), path)
		require.ErrorIs(t, err, secret.ErrUnavailable)
		return err.Error() == "secret "+path+": "+secret.ErrUnavailable.Error()+": Vault did not answer a moment ago"
	}, patience, time.Millisecond)

	// A caller who leaves early is no sign that Vault is away.
	goOn()
	reads(t, node, "when it goes on")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := node.Get(gone, path)
	require.ErrorIs(t, err, context.Canceled)
	if _, _, err = node.Get(t.Context(), path); err != nil {
		require.NotContains(t, err.Error(), "a moment ago")
	}
}
