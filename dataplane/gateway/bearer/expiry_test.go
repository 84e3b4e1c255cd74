package bearer

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/issuer"
)

// A remembered token is forgotten the second it expires; the leeway is for clocks, not for the cache.
func TestCacheNeverOutlivesTheToken(t *testing.T) {
	t.Parallel()
	iss, err := issuer.Start(t.Context(), t.TempDir(), "127.0.0.1:0")
	require.NoError(t, err)
	defer iss.Stop(t.Context()) //nolint:errcheck // a test server
	keys := NewKeys(iss.URL(), iss.JWKSURL(), slog.New(slog.DiscardHandler))
	require.NoError(t, keys.Refresh(t.Context()))
	v, err := NewVerifier(keys, issuer.Audience, []string{"EdDSA"})
	require.NoError(t, err)
	tok, err := iss.Mint(issuer.Claims{Tenant: "acme", Role: issuer.RoleViewer, TTL: time.Minute})
	require.NoError(t, err)
	first, err := v.Verify(t.Context(), tok)
	require.NoError(t, err)

	v.now = func() time.Time { return first.Expires.Add(-time.Second) }
	again, err := v.Verify(t.Context(), tok)
	require.NoError(t, err)
	require.Same(t, first, again)
	v.now = func() time.Time { return first.Expires.Add(leeway - time.Second) }
	again, err = v.Verify(t.Context(), tok)
	require.NoError(t, err)
	require.NotSame(t, first, again, "verified anew")
	v.now = func() time.Time { return first.Expires.Add(leeway + time.Second) }
	_, err = v.Verify(t.Context(), tok)
	require.ErrorIs(t, err, ErrExpired)
	require.Zero(t, v.cache.Len())
}

func BenchmarkRemembered(b *testing.B) {
	iss, err := issuer.Start(b.Context(), b.TempDir(), "127.0.0.1:0")
	require.NoError(b, err)
	defer iss.Stop(b.Context()) //nolint:errcheck // a test server
	keys := NewKeys(iss.URL(), iss.JWKSURL(), slog.New(slog.DiscardHandler))
	require.NoError(b, keys.Refresh(b.Context()))
	v, err := NewVerifier(keys, issuer.Audience, []string{"EdDSA"})
	require.NoError(b, err)
	tok, err := iss.Mint(issuer.Claims{Tenant: "acme", Role: issuer.RoleViewer})
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), tok); err != nil {
			b.Fatal(err)
		}
	}
}
