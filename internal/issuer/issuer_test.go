package issuer_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/issuer"
)

func start(t *testing.T, dir, addr string) *issuer.Server {
	t.Helper()
	s, err := issuer.Start(t.Context(), dir, addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Stop(context.Background()) })
	return s
}

func TestMintedTokenVerifiesAgainstServedKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir, "127.0.0.1:0")

	resp, err := http.Get(s.URL() + "/.well-known/openid-configuration")
	require.NoError(t, err)
	defer resp.Body.Close()
	var doc struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&doc))
	require.Equal(t, s.URL(), doc.Issuer)
	require.Equal(t, s.JWKSURL(), doc.JWKSURI)

	offline, err := issuer.Open(dir)
	require.NoError(t, err)
	raw, err := offline.Mint(issuer.Claims{Tenant: "acme", Role: issuer.RoleEditor, Subject: "alice", TTL: time.Minute})
	require.NoError(t, err)

	keys, err := keyfunc.NewDefaultCtx(t.Context(), []string{doc.JWKSURI})
	require.NoError(t, err)
	var got issuer.Token
	_, err = jwt.ParseWithClaims(raw, &got, keys.Keyfunc, jwt.WithValidMethods([]string{"EdDSA"}),
		jwt.WithIssuer(s.URL()), jwt.WithAudience(issuer.Audience), jwt.WithExpirationRequired())
	require.NoError(t, err)
	require.EqualValues(t, "acme", got.Tenant)
	require.Equal(t, "editor", got.Role)
	require.Equal(t, "alice", got.Subject)
	require.NotEmpty(t, got.ID)
	require.NotNil(t, got.NotBefore)
	require.Equal(t, time.Minute, got.ExpiresAt.Sub(got.IssuedAt.Time))
}

func TestKeySurvivesRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir, "127.0.0.1:0")
	before := s.JWKS()
	require.NoError(t, s.Stop(t.Context()))
	again := start(t, dir, strings.TrimPrefix(s.URL(), "http://"))
	require.Equal(t, before, again.JWKS())
	require.Equal(t, s.URL(), again.URL())
}

func TestKeyFileIsPrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, dir, "127.0.0.1:0")
	path := filepath.Join(dir, "issuer.pem")
	fi, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), fi.Mode().Perm())
	require.NoError(t, os.Chmod(path, 0o644))
	_, err = issuer.Open(dir)
	require.ErrorContains(t, err, "chmod 600")
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	_, err := issuer.Open(t.TempDir())
	require.ErrorIs(t, err, issuer.ErrNotStarted)
	s := start(t, t.TempDir(), "127.0.0.1:0")
	for _, c := range []issuer.Claims{
		{Tenant: "Acme", Role: "editor"}, {Tenant: "acme", Role: "Admin"}, {Tenant: "acme"}, {Tenant: "acme", Role: "owner", Permissions: []string{"root"}},
		{Tenant: "acme", Role: "viewer", TTL: -1}, {Tenant: "acme", Role: "viewer", TTL: 31 * 24 * time.Hour},
	} {
		_, err := s.Mint(c)
		require.Error(t, err, "%+v", c)
	}
}
