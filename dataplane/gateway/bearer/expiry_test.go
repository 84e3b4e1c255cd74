package bearer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/issuer"
	"github.com/freehold-db/freehold/internal/process"
	"github.com/freehold-db/freehold/shardmap"
)

const leeway = 5 * time.Second

func forIssuer(t testing.TB, iss *issuer.Server) *Verifier {
	t.Helper()
	v, err := New(Config{Issuers: []Issuer{{Issuer: access.Issuer{URL: iss.URL(), JWKSURL: iss.JWKSURL()}}}, Audience: issuer.Audience,
		Algorithms: []string{"EdDSA"}, Leeway: leeway, MaxToken: 8 << 10, Log: slog.New(slog.DiscardHandler),
		Directory: access.NewDirectory(func(context.Context, string) ([]byte, error) { return []byte(`{"version":1}`), nil })})
	require.NoError(t, err)
	require.NoError(t, v.Refresh(t.Context()))
	// As after the watch has taken in everything.
	v.cfg.Directory.Begin()
	require.True(t, v.cfg.Directory.Take(access.FleetKey, []byte(`{"version":1}`)))
	v.cfg.Directory.Whole()
	return v
}

// A remembered token is forgotten the second it expires; the leeway is for clocks, not for the cache.
func TestCacheNeverOutlivesTheToken(t *testing.T) {
	t.Parallel()
	iss, err := issuer.Start(t.Context(), t.TempDir(), "127.0.0.1:0")
	require.NoError(t, err)
	defer iss.Stop(t.Context()) //nolint:errcheck // a test server
	v := forIssuer(t, iss)
	tok, err := iss.Mint(issuer.Claims{Tenant: "acme", Role: issuer.RoleViewer, TTL: time.Minute})
	require.NoError(t, err)
	first, err := v.Verify(t.Context(), tok, "")
	require.NoError(t, err)

	v.now = func() time.Time { return first.Expires.Add(-time.Second) }
	again, err := v.Verify(t.Context(), tok, "")
	require.NoError(t, err)
	require.Same(t, first, again)
	v.now = func() time.Time { return first.Expires.Add(leeway - time.Second) }
	again, err = v.Verify(t.Context(), tok, "")
	require.NoError(t, err)
	require.NotSame(t, first, again, "verified anew")
	v.now = func() time.Time { return first.Expires.Add(leeway + time.Second) }
	_, err = v.Verify(t.Context(), tok, "")
	require.ErrorIs(t, err, ErrExpired)
	for _, part := range v.cache {
		require.Zero(t, part.Len())
	}
}

// Keys of a tenant's issuer that is in use are fetched again beside the
// requests, so that a key that was withdrawn is withdrawn here, too.
func TestTenantsKeysAreRenewed(t *testing.T) {
	t.Parallel()
	fleet, err := issuer.Start(t.Context(), t.TempDir(), "127.0.0.1:0")
	require.NoError(t, err)
	defer fleet.Stop(context.Background()) //nolint:errcheck // a test server
	port, err := process.FreePort()        // not one that the system gives to the next who asks for any
	require.NoError(t, err)
	sso, err := issuer.Start(t.Context(), t.TempDir(), fmt.Sprintf("127.0.0.1:%d", port))
	require.NoError(t, err)
	tok, err := sso.Mint(issuer.Claims{Tenant: "acme", Role: issuer.RoleViewer})
	require.NoError(t, err)
	v := forIssuer(t, fleet)
	v.guard = newGuard(prefixes("127.0.0.0/8"))
	doc, err := json.Marshal(access.Tenant{Tenant: "acme", Version: 1, Issuers: []access.Issuer{{URL: sso.URL()}}})
	require.NoError(t, err)
	require.True(t, v.cfg.Directory.Take("acme", doc))
	_, err = v.Verify(t.Context(), tok, "")
	require.NoError(t, err)

	// The same issuer, with another key.
	require.NoError(t, sso.Stop(t.Context()))
	again, err := issuer.Start(t.Context(), t.TempDir(), strings.TrimPrefix(sso.URL(), "http://"))
	require.NoError(t, err)
	defer again.Stop(context.Background()) //nolint:errcheck // a test server
	_, err = v.Verify(t.Context(), tok, "")
	require.NoError(t, err, "not due yet")
	keys, ok := v.tenants.Get(tenantKeys{issuer: sso.URL()})
	require.True(t, ok)
	require.Eventually(t, func() bool {
		keys.Outdate()
		_, err = v.Verify(t.Context(), tok, "")
		return errors.Is(err, ErrInvalid)
	}, 20*time.Second, 10*time.Millisecond)
}

// What is remembered costs a hash and two look-ups.
func TestRememberedAllocatesNothing(t *testing.T) {
	iss, err := issuer.Start(t.Context(), t.TempDir(), "127.0.0.1:0")
	require.NoError(t, err)
	defer iss.Stop(t.Context()) //nolint:errcheck // a test server
	v := forIssuer(t, iss)
	tok, err := iss.Mint(issuer.Claims{Tenant: "acme", Role: issuer.RoleViewer})
	require.NoError(t, err)
	text, key, err := access.NewKey("acme", access.RoleViewer, nil, time.Time{})
	require.NoError(t, err)
	doc, err := json.Marshal(access.Tenant{Tenant: "acme", Version: 1, Keys: []access.Key{key}})
	require.NoError(t, err)
	require.True(t, v.cfg.Directory.Take("acme", doc))
	for _, credential := range []string{tok, text} {
		require.Zero(t, testing.AllocsPerRun(100, func() {
			if _, err := v.Verify(t.Context(), credential, "acme"); err != nil {
				t.Error(err)
			}
		}))
	}
}

func FuzzVerify(f *testing.F) {
	iss, err := issuer.Start(f.Context(), f.TempDir(), "127.0.0.1:0")
	require.NoError(f, err)
	defer iss.Stop(f.Context()) //nolint:errcheck // a test server
	v := forIssuer(f, iss)
	tok, err := iss.Mint(issuer.Claims{Tenant: "acme", Role: issuer.RoleViewer})
	require.NoError(f, err)
	for _, s := range []string{tok, "", "..", "a.b.c", tok[:len(tok)-2], "fh_acme_000000000000_" + strings.Repeat("a", 52)} {
		f.Add(s, "acme")
	}
	f.Fuzz(func(t *testing.T, credential, named string) {
		id, err := v.Verify(t.Context(), credential, shardmap.TenantID(named))
		if (err == nil) != (credential == tok) {
			t.Fatalf("%q: %v, %v", credential, id, err)
		}
	})
}

func BenchmarkRemembered(b *testing.B) {
	iss, err := issuer.Start(b.Context(), b.TempDir(), "127.0.0.1:0")
	require.NoError(b, err)
	defer iss.Stop(b.Context()) //nolint:errcheck // a test server
	v := forIssuer(b, iss)
	tok, err := iss.Mint(issuer.Claims{Tenant: "acme", Role: issuer.RoleViewer})
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), tok, ""); err != nil {
			b.Fatal(err)
		}
	}
}
