package bearer_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/gateway/bearer"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/shardmap"
)

// tenants is a directory that the test writes.
type tenants struct {
	*access.Directory
	t       testing.TB
	version int64
}

// knowing gives cfg a directory that has taken in everything, which is nothing but what is set later.
func knowing(t testing.TB, cfg *bearer.Config) *tenants {
	t.Helper()
	cfg.Networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	d := &tenants{cfg.Directory, t, 1}
	d.Begin()
	require.True(t, d.Take(access.FleetKey, []byte(`{"version":1}`)))
	d.Whole()
	return d
}

func (d *tenants) set(doc access.Tenant) {
	d.t.Helper()
	d.version++
	doc.Version = d.version
	b, err := json.Marshal(doc)
	require.NoError(d.t, err)
	require.True(d.t, d.Take(string(doc.Tenant), b))
}

func with(c jwt.MapClaims, name string, value any) jwt.MapClaims {
	c = maps.Clone(c)
	if value == nil {
		delete(c, name)
	} else {
		c[name] = value
	}
	return c
}

func TestTenantsOwnIssuer(t *testing.T) {
	t.Parallel()
	fleet, sso := newIDP(t), newIDP(t)
	fleetKey, fleetJWK := edKey(t, "k")
	ssoKey, ssoJWK := edKey(t, "k")
	fleet.publish(fleetJWK)
	sso.publish(ssoJWK)
	cfg := config(t, fleet.URL)
	docs := knowing(t, &cfg)
	v := verifier(t, cfg)
	require.NoError(t, v.Refresh(t.Context()))
	tok := func(c jwt.MapClaims) string { return sign(t, jwt.SigningMethodEdDSA, ssoKey, "k", c) }
	mine := claims(sso.URL)

	_, err := v.Verify(t.Context(), tok(mine), "")
	require.ErrorIs(t, err, bearer.ErrClaims, "nobody has that issuer")
	require.Zero(t, sso.fetches.Load())

	docs.set(access.Tenant{Tenant: "acme", Issuers: []access.Issuer{{URL: sso.URL, DefaultRole: "viewer", RoleClaim: "app.role"}}})
	id, err := v.Verify(t.Context(), tok(mine), "")
	require.NoError(t, err)
	require.EqualValues(t, "acme", id.Tenant)
	require.True(t, id.Own)
	require.Empty(t, id.Claimed)
	require.Equal(t, "viewer", id.Role, "its role claim is another")
	again, err := v.Verify(t.Context(), tok(mine), "")
	require.NoError(t, err)
	require.Same(t, id, again)

	// It need not claim the tenant, and cannot claim another.
	id, err = v.Verify(t.Context(), tok(with(with(mine, "tenant", nil), "app", map[string]any{"role": "editor"})), "")
	require.NoError(t, err)
	require.EqualValues(t, "acme", id.Tenant)
	require.Equal(t, "editor", id.Role)
	for _, named := range []shardmap.TenantID{"", "rival", "acme"} {
		id, err = v.Verify(t.Context(), tok(with(mine, "tenant", "rival")), named)
		require.NoError(t, err)
		require.EqualValues(t, "acme", id.Tenant, "good for its own tenant only")
		require.EqualValues(t, "rival", id.Claimed, "to be refused")
	}

	// Another tenant may trust the same issuer: then the claim or the request decides.
	docs.set(access.Tenant{Tenant: "rival", Issuers: []access.Issuer{{URL: sso.URL, DefaultRole: "viewer", Audience: "rivals"}}})
	anyones := tok(with(with(mine, "tenant", nil), "aud", []string{audience, "rivals"}))
	_, err = v.Verify(t.Context(), anyones, "")
	require.ErrorIs(t, err, bearer.ErrClaims, "nothing says whose it is")
	for _, named := range []shardmap.TenantID{"acme", "rival", "acme"} {
		id, err = v.Verify(t.Context(), anyones, named)
		require.NoError(t, err)
		require.Equal(t, named, id.Tenant)
	}
	_, err = v.Verify(t.Context(), tok(with(mine, "tenant", nil)), "rival")
	require.ErrorIs(t, err, bearer.ErrClaims, "rival wants another audience")

	// Without the issuer its tokens are worth nothing, remembered or not.
	docs.set(access.Tenant{Tenant: "acme"})
	id, err = v.Verify(t.Context(), anyones, "acme")
	require.NoError(t, err)
	require.EqualValues(t, "rival", id.Tenant, "there is one left that trusts it")
	_, err = v.Verify(t.Context(), tok(mine), "")
	require.ErrorIs(t, err, bearer.ErrClaims, "and wants another audience")

	// The fleet's issuer goes first, whatever keys a tenant says that it has.
	docs.set(access.Tenant{Tenant: "acme", Issuers: []access.Issuer{{URL: fleet.URL, JWKSURL: sso.URL + "/keys"}}})
	_, err = v.Verify(t.Context(), tok(with(mine, "iss", fleet.URL)), "acme")
	require.ErrorIs(t, err, bearer.ErrInvalid)
	id, err = v.Verify(t.Context(), sign(t, jwt.SigningMethodEdDSA, fleetKey, "k", claims(fleet.URL)), "acme")
	require.NoError(t, err)
	require.False(t, id.Own)
}

func TestKeysOfTenantsIssuers(t *testing.T) {
	t.Parallel()
	sso := newIDP(t)
	key, jwk := edKey(t, "k")
	tok := sign(t, jwt.SigningMethodEdDSA, key, "k", claims(sso.URL))
	cfg := config(t, "https://fleet.example")
	docs := knowing(t, &cfg)
	docs.set(access.Tenant{Tenant: "acme", Issuers: []access.Issuer{{URL: sso.URL}}})

	closed := cfg
	closed.Networks = nil
	_, err := verifier(t, closed).Verify(t.Context(), tok, "")
	require.ErrorIs(t, err, bearer.ErrNoKeys, "loopback is not for tenants")
	require.Zero(t, sso.fetches.Load())

	// One that is broken is not asked by every request.
	v := verifier(t, cfg)
	sso.broken.Store(true)
	for range 20 {
		_, err := v.Verify(t.Context(), tok, "")
		require.ErrorIs(t, err, bearer.ErrNoKeys)
	}
	require.EqualValues(t, 1, sso.fetches.Load())

	v = verifier(t, cfg)
	sso.broken.Store(false)
	sso.publish(jwk)
	_, err = v.Verify(t.Context(), tok, "")
	require.NoError(t, err)
	// Its rotation is found by the key ID, its outage is lived through.
	newKey, newJWK := edKey(t, "new")
	sso.publish(newJWK, jwk)
	rotated := sign(t, jwt.SigningMethodEdDSA, newKey, "new", claims(sso.URL))
	_, err = v.Verify(t.Context(), rotated, "")
	require.NoError(t, err)
	sso.broken.Store(true)
	_, err = v.Verify(t.Context(), sign(t, jwt.SigningMethodEdDSA, newKey, "new", with(claims(sso.URL), "sub", "bob")), "")
	require.NoError(t, err)
}

func TestRevocation(t *testing.T) {
	t.Parallel()
	p := newIDP(t)
	key, jwk := edKey(t, "k")
	p.publish(jwk)
	cfg := config(t, p.URL)
	docs := knowing(t, &cfg)
	v := verifier(t, cfg)
	require.NoError(t, v.Refresh(t.Context()))
	now := time.Now()
	tok := func(c jwt.MapClaims) string { return sign(t, jwt.SigningMethodEdDSA, key, "k", c) }
	good := func(s string) {
		t.Helper()
		_, err := v.Verify(t.Context(), s, "")
		require.NoError(t, err)
	}
	refused := func(s string) {
		t.Helper()
		var revoked *bearer.RevokedError
		_, err := v.Verify(t.Context(), s, "")
		require.ErrorAs(t, err, &revoked)
		require.EqualValues(t, "acme", revoked.Identity.Tenant)
	}
	issued := func(id string) jwt.MapClaims { return with(with(claims(p.URL), "jti", id), "iat", now.Unix()) }
	one, other := tok(issued("one")), tok(issued("other"))
	rivals := tok(with(issued("one"), "tenant", "rival"))
	undated := tok(with(claims(p.URL), "iat", nil))
	for _, s := range []string{one, other, rivals, undated} { // all are remembered now
		good(s)
	}
	docs.set(access.Tenant{Tenant: "acme", Revoked: []access.Revocation{{ID: "one", Expires: now.Add(time.Hour)}}})
	refused(one)
	refused(one)
	good(other)
	good(rivals)

	docs.set(access.Tenant{Tenant: "acme", NotBefore: now.Add(-time.Minute)})
	good(one)
	refused(undated)
	docs.set(access.Tenant{Tenant: "acme", NotBefore: now.Add(2 * time.Second)})
	refused(one)
	refused(other)
	good(rivals)
	good(tok(with(claims(p.URL), "iat", now.Add(4*time.Second).Unix()))) // within the leeway
	_, err := v.Verify(t.Context(), tok(with(claims(p.URL), "iat", now.Add(time.Hour).Unix())), "")
	require.ErrorIs(t, err, bearer.ErrClaims, "a token of the future would outlive any revocation")
}

func TestRolesOfATenant(t *testing.T) {
	t.Parallel()
	p := newIDP(t)
	key, jwk := edKey(t, "k")
	p.publish(jwk)
	cfg := config(t)
	cfg.Issuers = []bearer.Issuer{{Issuer: access.Issuer{URL: p.URL, RoleClaim: "https://x.example/roles.db", DefaultRole: "viewer"}, TenantClaim: "app.tenants"}}
	docs := knowing(t, &cfg)
	v := verifier(t, cfg)
	require.NoError(t, v.Refresh(t.Context()))
	in := func(tenants any, role any) string {
		c := with(with(claims(p.URL), "tenant", nil), "app", map[string]any{"tenants": tenants})
		return sign(t, jwt.SigningMethodEdDSA, key, "k", with(with(c, "https://x.example/roles", map[string]any{"db": role}), "scope", "a sql b"))
	}
	id, err := v.Verify(t.Context(), in("acme", "owner"), "")
	require.NoError(t, err)
	require.Equal(t, "owner", id.Role)
	require.True(t, id.May(access.PermissionSQL))
	require.False(t, id.May("c"))
	_, err = v.Verify(t.Context(), in("acme", "analyst"), "")
	require.ErrorIs(t, err, bearer.ErrClaims)
	docs.set(access.Tenant{Tenant: "acme", Roles: []string{"analyst"}})
	id, err = v.Verify(t.Context(), in("acme", "analyst"), "")
	require.NoError(t, err)
	require.Equal(t, "analyst", id.Role)
	_, err = v.Verify(t.Context(), in("rival", "analyst"), "")
	require.ErrorIs(t, err, bearer.ErrClaims, "it is acme's alone")
	docs.set(access.Tenant{Tenant: "acme"})
	_, err = v.Verify(t.Context(), in("acme", "analyst"), "")
	require.ErrorIs(t, err, bearer.ErrClaims, "remembered or not")
	id, err = v.Verify(t.Context(), in("acme", nil), "")
	require.NoError(t, err)
	require.Equal(t, "viewer", id.Role, "of a token without one")
	_, err = v.Verify(t.Context(), in("acme", 1), "")
	require.ErrorIs(t, err, bearer.ErrClaims)

	// Good for several: the request picks.
	several := in([]string{"acme", "rival"}, "viewer")
	_, err = v.Verify(t.Context(), several, "")
	require.ErrorIs(t, err, bearer.ErrAmbiguous)
	for _, named := range []shardmap.TenantID{"rival", "acme", "rival"} {
		id, err = v.Verify(t.Context(), several, named)
		require.NoError(t, err)
		require.Equal(t, named, id.Tenant)
	}
	id, err = v.Verify(t.Context(), several, "other")
	require.NoError(t, err)
	require.EqualValues(t, "acme", id.Tenant, "not the one that was named")
	for _, bad := range []any{[]any{"acme", 1}, []any{}, []any{"A"}, map[string]any{}} {
		_, err = v.Verify(t.Context(), in(bad, "viewer"), "acme")
		require.ErrorIs(t, err, bearer.ErrClaims, "%v", bad)
	}
}

func TestAPIKeys(t *testing.T) {
	t.Parallel()
	cfg := config(t, "https://fleet.example")
	docs := knowing(t, &cfg)
	v := verifier(t, cfg)
	text, key, err := access.NewKey("acme", "editor", []string{access.PermissionSQL}, time.Time{})
	require.NoError(t, err)
	brief, briefKey, err := access.NewKey("acme", "analyst", nil, time.Now().Add(time.Hour))
	require.NoError(t, err)
	past, pastKey, err := access.NewKey("acme", "viewer", nil, time.Now().Add(-time.Second))
	require.NoError(t, err)

	_, err = v.Verify(t.Context(), text, "")
	require.ErrorIs(t, err, bearer.ErrKey, "the tenant has none")
	docs.set(access.Tenant{Tenant: "acme", Keys: []access.Key{key, briefKey, pastKey}})
	id, err := v.Verify(t.Context(), text, "")
	require.NoError(t, err)
	require.EqualValues(t, "acme", id.Tenant)
	require.True(t, id.Own)
	require.Equal(t, "editor", id.Role)
	require.True(t, id.May(access.PermissionSQL))
	require.Equal(t, key.ID, id.KeyID)
	require.JSONEq(t, fmt.Sprintf(`{"tenant":"acme","role":"editor","sub":"key/%s","permissions":["sql"]}`, key.ID), id.Claims)
	again, err := v.Verify(t.Context(), text, "rival")
	require.NoError(t, err)
	require.Same(t, id, again)
	_, err = v.Verify(t.Context(), past, "")
	require.ErrorIs(t, err, bearer.ErrKeyExpired)
	_, err = v.Verify(t.Context(), brief, "")
	require.ErrorIs(t, err, bearer.ErrKey, "the tenant has no such role")

	forged := []byte(text)
	forged[len(forged)-3] ^= 1
	for _, bad := range []string{string(forged), "fh_acme", "fh_", "fh_rival" + text[len("fh_acme"):], text + "a"} {
		_, err = v.Verify(t.Context(), bad, "")
		require.ErrorIs(t, err, bearer.ErrKey, bad)
		require.NotContains(t, err.Error(), text[len(text)-52:])
	}
	docs.set(access.Tenant{Tenant: "acme", Keys: []access.Key{briefKey}, Roles: []string{"analyst"}})
	_, err = v.Verify(t.Context(), text, "")
	require.ErrorIs(t, err, bearer.ErrKey, "revoked, though remembered")
	_, err = v.Verify(t.Context(), brief, "")
	require.NoError(t, err)
}

// With the directory unknown, nobody can tell what was revoked.
func TestUnknownDirectory(t *testing.T) {
	t.Parallel()
	p := newIDP(t)
	key, jwk := edKey(t, "k")
	p.publish(jwk)
	var away atomic.Bool
	away.Store(true)
	cfg := config(t, p.URL)
	cfg.Directory = access.NewDirectory(func(context.Context, string) ([]byte, error) {
		if away.Load() {
			return nil, errors.New("away")
		}
		return nil, nil
	})
	v := verifier(t, cfg)
	require.NoError(t, v.Refresh(t.Context()))
	text, _, err := access.NewKey("acme", "editor", nil, time.Time{})
	require.NoError(t, err)
	tok := sign(t, jwt.SigningMethodEdDSA, key, "k", claims(p.URL))
	for _, credential := range []string{tok, text} {
		_, err = v.Verify(t.Context(), credential, "")
		require.ErrorIs(t, err, access.ErrUnknown)
	}
	away.Store(false)
	_, err = v.Verify(t.Context(), tok, "")
	require.NoError(t, err)
	_, err = v.Verify(t.Context(), text, "")
	require.ErrorIs(t, err, bearer.ErrKey)
}

// A secret of development signs for everybody, and is never mixed up with an issuer's keys.
func TestSharedSecret(t *testing.T) {
	t.Parallel()
	p := newIDP(t)
	key, jwk := edKey(t, "k")
	p.publish(jwk)
	cfg := config(t, p.URL)
	cfg.Secret = []byte("0123456789abcdef0123456789abcdef")
	v := verifier(t, cfg)
	require.True(t, v.Known())
	require.NoError(t, v.Refresh(t.Context()))
	hs := func(secret []byte, c jwt.MapClaims) string { return sign(t, jwt.SigningMethodHS256, secret, "k", c) }
	for name, iss := range map[string]any{"none": nil, "any": "supabase-demo", "the fleet's": p.URL} {
		id, err := v.Verify(t.Context(), hs(cfg.Secret, with(claims(""), "iss", iss)), "")
		require.NoError(t, err, name)
		require.EqualValues(t, "acme", id.Tenant)
	}
	pub, ok := key.Public().(ed25519.PublicKey)
	require.True(t, ok)
	for name, c := range map[string]struct {
		token string
		want  error
	}{
		"another secret": {hs([]byte("0123456789abcdef0123456789abcdeX"), claims(p.URL)), bearer.ErrInvalid},
		"public key":     {hs(pub, claims(p.URL)), bearer.ErrInvalid},
		"HS512":          {sign(t, jwt.SigningMethodHS512, cfg.Secret, "k", claims(p.URL)), bearer.ErrInvalid},
		"no expiry":      {hs(cfg.Secret, with(claims(p.URL), "exp", nil)), bearer.ErrClaims},
		"audience":       {hs(cfg.Secret, with(claims(p.URL), "aud", "other")), bearer.ErrClaims},
	} {
		_, err := v.Verify(t.Context(), c.token, "")
		require.ErrorIs(t, err, c.want, name)
	}
	_, err := verifier(t, config(t, p.URL)).Verify(t.Context(), hs(cfg.Secret, claims("x")), "")
	require.Error(t, err, "without the secret")
	cfg.Secret = []byte("short")
	_, err = bearer.New(cfg)
	require.Error(t, err)
}

func TestSeveralIssuers(t *testing.T) {
	t.Parallel()
	one, two := newIDP(t), newIDP(t)
	oneKey, oneJWK := edKey(t, "k")
	ps, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	one.publish(oneJWK)
	two.publish(map[string]string{"kty": "RSA", "n": b64(ps.N.Bytes()), "e": b64(big.NewInt(int64(ps.E)).Bytes()), "kid": "k", "use": "sig"})
	cfg := config(t, one.URL)
	cfg.Issuers = append(cfg.Issuers, bearer.Issuer{Issuer: access.Issuer{URL: two.URL, Audience: "second", Algorithms: []string{"PS256"}}})
	v := verifier(t, cfg)
	two.broken.Store(true)
	require.Error(t, v.Refresh(t.Context()))
	require.True(t, v.Known(), "one of them will do to begin")
	_, err = v.Verify(t.Context(), sign(t, jwt.SigningMethodEdDSA, oneKey, "k", claims(one.URL)), "")
	require.NoError(t, err)
	two.broken.Store(false)
	require.NoError(t, v.Refresh(t.Context()))
	_, err = v.Verify(t.Context(), sign(t, jwt.SigningMethodPS256, ps, "k", with(claims(two.URL), "aud", "second")), "")
	require.NoError(t, err)
	for name, s := range map[string]string{
		"audience of the other":  sign(t, jwt.SigningMethodPS256, ps, "k", claims(two.URL)),
		"algorithm of the other": sign(t, jwt.SigningMethodRS256, ps, "k", with(claims(two.URL), "aud", "second")),
		"key of the other":       sign(t, jwt.SigningMethodEdDSA, oneKey, "k", with(claims(two.URL), "aud", "second")),
		"name of the other":      sign(t, jwt.SigningMethodPS256, ps, "k", claims(one.URL)),
	} {
		_, err = v.Verify(t.Context(), s, "")
		require.Error(t, err, name)
	}
	cfg.Issuers = append(cfg.Issuers, cfg.Issuers[0])
	_, err = bearer.New(cfg)
	require.Error(t, err)
}
