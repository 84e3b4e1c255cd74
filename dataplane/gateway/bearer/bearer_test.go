package bearer_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/gateway/bearer"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/issuer"
)

const audience = "freehold"

var b64 = base64.RawURLEncoding.EncodeToString

// idp is an issuer that the test rotates, breaks and counts the fetches of.
type idp struct {
	*httptest.Server
	fetches atomic.Int64
	broken  atomic.Bool

	mu   sync.Mutex
	keys []map[string]string
}

func newIDP(t *testing.T) *idp {
	t.Helper()
	p := &idp{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/.well-known/openid-configuration" {
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, p.URL, p.URL+"/keys")
			return
		}
		p.fetches.Add(1)
		if p.broken.Load() {
			http.Error(w, "broken", http.StatusBadGateway)
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": p.keys})
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *idp) publish(keys ...map[string]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = keys
}

func edKey(t *testing.T, kid string) (ed25519.PrivateKey, map[string]string) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return key, map[string]string{"kty": "OKP", "crv": "Ed25519", "x": b64(pub), "kid": kid, "use": "sig", "alg": "EdDSA"}
}

func claims(iss string) jwt.MapClaims {
	now := time.Now().Unix()
	return jwt.MapClaims{"iss": iss, "aud": audience, "sub": "alice", "tenant": "acme", "role": "editor", "iat": now, "nbf": now, "exp": now + 60}
}

func sign(t *testing.T, m jwt.SigningMethod, key any, kid string, c jwt.Claims) string {
	t.Helper()
	tok := jwt.NewWithClaims(m, c)
	tok.Header["kid"] = kid
	s, err := tok.SignedString(key)
	require.NoError(t, err)
	return s
}

// config accepts tokens of these issuers, and knows nothing of any tenant.
func config(t testing.TB, issuers ...string) bearer.Config {
	t.Helper()
	cfg := bearer.Config{Audience: audience, Algorithms: []string{"EdDSA", "ES256", "RS256"}, Leeway: 5 * time.Second, MaxToken: 8 << 10,
		Directory: access.NewDirectory(func(context.Context, string) ([]byte, error) { return nil, nil }), Log: slog.New(slog.DiscardHandler)}
	for _, url := range issuers {
		cfg.Issuers = append(cfg.Issuers, bearer.Issuer{Issuer: access.Issuer{URL: url}})
	}
	return cfg
}

func verifier(t testing.TB, cfg bearer.Config) *bearer.Verifier {
	t.Helper()
	v, err := bearer.New(cfg)
	require.NoError(t, err)
	return v
}

func TestGoodTokens(t *testing.T) {
	t.Parallel()
	p := newIDP(t)
	ed, edJWK := edKey(t, "ed")
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	es, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	pub, err := es.PublicKey.Bytes()
	require.NoError(t, err)
	p.publish(edJWK,
		map[string]string{"kty": "RSA", "n": b64(rs.N.Bytes()), "e": b64(big.NewInt(int64(rs.E)).Bytes()), "kid": "rs", "use": "sig", "alg": "RS256"},
		map[string]string{"kty": "EC", "crv": "P-256", "x": b64(pub[1:33]), "y": b64(pub[33:]), "kid": "es"})
	v := verifier(t, config(t, p.URL))
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = v.Verify(soon, sign(t, jwt.SigningMethodEdDSA, ed, "ed", claims(p.URL)), "")
	require.ErrorIs(t, err, bearer.ErrNoKeys)
	require.False(t, v.Known())
	early := make(chan error, 1) // a request to a node that has just started waits for the keys
	go func() {
		_, err := v.Verify(t.Context(), sign(t, jwt.SigningMethodEdDSA, ed, "ed", claims(p.URL)), "")
		early <- err
	}()
	require.NoError(t, v.Refresh(t.Context()))
	require.NoError(t, <-early)
	require.True(t, v.Known())

	for _, tok := range []string{
		sign(t, jwt.SigningMethodEdDSA, ed, "ed", claims(p.URL)),
		sign(t, jwt.SigningMethodRS256, rs, "rs", claims(p.URL)),
		sign(t, jwt.SigningMethodES256, es, "es", claims(p.URL)),
	} {
		id, err := v.Verify(t.Context(), tok, "")
		require.NoError(t, err)
		require.EqualValues(t, "acme", id.Tenant)
		require.Equal(t, issuer.RoleEditor, id.Role)
		require.Equal(t, "alice", id.Subject)
		require.Contains(t, id.Claims, `"tenant":"acme"`)
		again, err := v.Verify(t.Context(), tok, "")
		require.NoError(t, err)
		require.Same(t, id, again, "remembered")
	}
}

// Each of these is signed well enough to be let in by somebody less careful.
func TestForgedTokens(t *testing.T) {
	t.Parallel()
	p := newIDP(t)
	key, jwk := edKey(t, "k")
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	p.publish(jwk, map[string]string{"kty": "RSA", "n": b64(rs.N.Bytes()), "e": b64(big.NewInt(int64(rs.E)).Bytes()), "kid": "rs"})
	v := verifier(t, config(t, p.URL))
	require.NoError(t, v.Refresh(t.Context()))
	stranger, _ := edKey(t, "k")
	good := sign(t, jwt.SigningMethodEdDSA, key, "k", claims(p.URL))
	parts := strings.Split(good, ".")

	set := func(name string, value any) jwt.MapClaims {
		c := claims(p.URL)
		c[name] = value
		if value == nil {
			delete(c, name)
		}
		return c
	}
	signed := func(c jwt.Claims) string { return sign(t, jwt.SigningMethodEdDSA, key, "k", c) }
	payload := func(text string) string {
		head := b64([]byte(`{"alg":"EdDSA","kid":"k"}`)) + "." + b64([]byte(text))
		return head + "." + b64(ed25519.Sign(key, []byte(head)))
	}
	header := func(text string) string {
		head := b64([]byte(text)) + "." + parts[1]
		return head + "." + b64(ed25519.Sign(key, []byte(head)))
	}
	now := time.Now().Unix()
	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, claims(p.URL)).SignedString(jwt.UnsafeAllowNoneSignatureType)
	require.NoError(t, err)
	base := fmt.Sprintf(`"iss":%q,"aud":"freehold","role":"editor","nbf":%d,"exp":%d`, p.URL, now, now+60)
	require.NoError(t, func() error { _, err := v.Verify(t.Context(), payload("{"+base+`,"tenant":"acme"}`), ""); return err }(), "the forge itself works")

	for name, c := range map[string]struct {
		token string
		want  error
	}{
		"none":                       {unsigned, bearer.ErrInvalid},
		"none with key ID":           {b64([]byte(`{"alg":"none","kid":"k"}`)) + "." + parts[1] + ".", bearer.ErrInvalid},
		"None in capitals":           {b64([]byte(`{"alg":"NONE","kid":"k"}`)) + "." + parts[1] + "." + parts[2], bearer.ErrInvalid},
		"HS256 with the public key":  {sign(t, jwt.SigningMethodHS256, []byte(key.Public().(ed25519.PublicKey)), "k", claims(p.URL)), bearer.ErrInvalid},
		"HS256 with the JWK's text":  {sign(t, jwt.SigningMethodHS256, []byte(jwk["x"]), "k", claims(p.URL)), bearer.ErrInvalid},
		"algorithm not pinned":       {sign(t, jwt.SigningMethodRS512, rs, "rs", claims(p.URL)), bearer.ErrInvalid},
		"other kind of key":          {sign(t, jwt.SigningMethodRS256, rs, "k", claims(p.URL)), bearer.ErrInvalid},
		"stranger's key":             {sign(t, jwt.SigningMethodEdDSA, stranger, "k", claims(p.URL)), bearer.ErrInvalid},
		"unknown key ID":             {sign(t, jwt.SigningMethodEdDSA, stranger, "x", claims(p.URL)), bearer.ErrInvalid},
		"no key ID":                  {header(`{"alg":"EdDSA"}`), bearer.ErrInvalid},
		"critical extension":         {header(`{"alg":"EdDSA","kid":"k","crit":["exp"]}`), bearer.ErrInvalid},
		"key brought along":          {header(`{"alg":"EdDSA","kid":"x","jwk":{"kty":"OKP","crv":"Ed25519","x":"` + jwk["x"] + `"}}`), bearer.ErrInvalid},
		"tampered payload":           {parts[0] + "." + b64([]byte(strings.Replace(mustDecode(t, parts[1]), "acme", "rival", 1))) + "." + parts[2], bearer.ErrInvalid},
		"tampered signature":         {good[:len(good)-4] + "AAAA", bearer.ErrInvalid},
		"no signature":               {parts[0] + "." + parts[1] + ".", bearer.ErrInvalid},
		"four parts":                 {good + ".x", bearer.ErrInvalid},
		"empty":                      {"", bearer.ErrInvalid},
		"expired":                    {signed(set("exp", now-6)), bearer.ErrExpired},
		"not yet valid":              {signed(set("nbf", now+60)), bearer.ErrClaims},
		"other issuer":               {signed(set("iss", "https://elsewhere.example")), bearer.ErrClaims},
		"other audience":             {signed(set("aud", "other")), bearer.ErrClaims},
		"no issuer":                  {signed(set("iss", nil)), bearer.ErrClaims},
		"no audience":                {signed(set("aud", nil)), bearer.ErrClaims},
		"no expiry":                  {signed(set("exp", nil)), bearer.ErrClaims},
		"not-before of another type": {signed(set("nbf", "now")), bearer.ErrClaims},
		"no tenant":                  {signed(set("tenant", nil)), bearer.ErrClaims},
		"tenant of another type":     {signed(set("tenant", 7)), bearer.ErrClaims},
		"tenant that is no ID":       {signed(set("tenant", "acme.rival")), bearer.ErrClaims},
		"unknown role":               {signed(set("role", "admin")), bearer.ErrClaims},
		"no role":                    {signed(set("role", nil)), bearer.ErrClaims},
		"tenant in other case alone": {payload("{" + base + `,"Tenant":"acme"}`), bearer.ErrClaims},
		"tenant twice":               {payload("{" + base + `,"tenant":"acme","tenant":"rival"}`), bearer.ErrClaims},
	} {
		id, err := v.Verify(t.Context(), c.token, "")
		require.Nil(t, id, name)
		require.ErrorIs(t, err, c.want, name)
	}
	_, err = v.Verify(t.Context(), good, "")
	require.NoError(t, err)
	_, err = v.Verify(t.Context(), signed(set("nbf", nil)), "")
	require.NoError(t, err, "few OIDC providers say it; who does is believed")
	id, err := v.Verify(t.Context(), payload("{"+base+`,"tenant":"acme","Tenant":"rival","TENANT":"rival"}`), "")
	require.NoError(t, err)
	require.EqualValues(t, "acme", id.Tenant, "names differ in their case")
}

func mustDecode(t *testing.T, s string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	require.NoError(t, err)
	return string(b)
}

func TestRotationAndOutage(t *testing.T) {
	t.Parallel()
	p := newIDP(t)
	oldKey, oldJWK := edKey(t, "old")
	newKey, newJWK := edKey(t, "new")
	p.publish(oldJWK)
	v := verifier(t, config(t, p.URL))
	require.NoError(t, v.Refresh(t.Context()))
	withOld := sign(t, jwt.SigningMethodEdDSA, oldKey, "old", claims(p.URL))
	withNew := sign(t, jwt.SigningMethodEdDSA, newKey, "new", claims(p.URL))
	_, err := v.Verify(t.Context(), withOld, "")
	require.NoError(t, err)

	// An unknown ID fetches once, and finds the new key.
	p.publish(newJWK, oldJWK)
	_, err = v.Verify(t.Context(), withNew, "")
	require.NoError(t, err)
	// Made-up IDs do not hammer the issuer.
	before := p.fetches.Load()
	for i := range 50 {
		_, err := v.Verify(t.Context(), sign(t, jwt.SigningMethodEdDSA, newKey, fmt.Sprint(i), claims(p.URL)), "")
		require.ErrorIs(t, err, bearer.ErrInvalid)
	}
	require.Equal(t, before, p.fetches.Load())

	// While the issuer is away, or answers nonsense, the known keys go on.
	p.broken.Store(true)
	require.Error(t, v.Refresh(t.Context()))
	_, err = v.Verify(t.Context(), withNew, "")
	require.NoError(t, err)
	p.broken.Store(false)
	p.publish()
	require.ErrorContains(t, v.Refresh(t.Context()), "no key")
	_, err = v.Verify(t.Context(), withNew, "")
	require.NoError(t, err)

	// A withdrawn key is withdrawn for tokens verified before, too.
	p.publish(newJWK)
	require.NoError(t, v.Refresh(t.Context()))
	_, err = v.Verify(t.Context(), withOld, "")
	require.ErrorIs(t, err, bearer.ErrInvalid)
	_, err = v.Verify(t.Context(), withNew, "")
	require.NoError(t, err)
}

// A key that cannot verify anything does not take the others along.
func TestOddKeysAreLeftOut(t *testing.T) {
	t.Parallel()
	p := newIDP(t)
	key, jwk := edKey(t, "k")
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	secret := []byte("0123456789abcdef0123456789abcdef")
	p.publish(map[string]string{"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "a"}, map[string]string{"kty": "XYZ", "kid": "b"},
		map[string]string{"kty": "oct", "k": b64(secret), "kid": "oct"}, map[string]string{"kty": "OKP", "crv": "X25519", "x": jwk["x"], "kid": "c"},
		map[string]string{"kty": "OKP", "crv": "Ed25519", "x": jwk["x"], "kid": "enc", "use": "enc"}, map[string]string{"kty": "RSA", "kid": "d"},
		map[string]string{"kty": "RSA", "n": b64(weak.N.Bytes()), "e": b64(big.NewInt(int64(weak.E)).Bytes()), "kid": "weak"}, jwk)
	v := verifier(t, config(t, p.URL))
	require.NoError(t, v.Refresh(t.Context()))
	_, err = v.Verify(t.Context(), sign(t, jwt.SigningMethodEdDSA, key, "k", claims(p.URL)), "")
	require.NoError(t, err)
	for name, tok := range map[string]string{
		"for encryption": sign(t, jwt.SigningMethodEdDSA, key, "enc", claims(p.URL)),
		"weak":           sign(t, jwt.SigningMethodRS256, weak, "weak", claims(p.URL)),
		"secret":         sign(t, jwt.SigningMethodHS256, secret, "oct", claims(p.URL)),
	} {
		_, err = v.Verify(t.Context(), tok, "")
		require.ErrorIs(t, err, bearer.ErrInvalid, name)
	}
}

func TestSymmetricAlgorithmsCannotBePinned(t *testing.T) {
	t.Parallel()
	for _, algs := range [][]string{nil, {"HS256"}, {"EdDSA", "none"}, {"eddsa"}} {
		require.Error(t, bearer.CheckAlgorithms(algs), "%v", algs)
	}
	cfg := config(t, "https://idp.example")
	cfg.Issuers[0].Algorithms = []string{"HS256"}
	_, err := bearer.New(cfg)
	require.Error(t, err)
}
