package gateway_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/gateway"
	"github.com/freehold-db/freehold/dataplane/gateway/bearer"
	"github.com/freehold-db/freehold/internal/access"
)

// What is wrong with a token is said as PostgREST says it, to the letter.
func TestRefusalsOfTokens(t *testing.T) {
	t.Parallel()
	secret := []byte("0123456789abcdef0123456789abcdef")
	d := open(t, func(c *gateway.Config) {
		docs := access.NewDirectory(nil)
		docs.Begin()
		require.True(t, docs.Take(access.FleetKey, []byte(`{"version":1}`)))
		docs.Whole()
		var err error
		c.Verifier, err = bearer.New(bearer.Config{Secret: secret, Audience: "freehold", MaxToken: 8 << 10, Log: c.Log, Directory: docs})
		require.NoError(t, err)
	})
	plain := open(t) // of an issuer with keys
	now := time.Now().Unix()
	signed := func(claim string, value any) string {
		claims := jwt.MapClaims{"aud": "freehold", "tenant": "acme", "role": "viewer", "exp": now + 600}
		if claims[claim] = value; value == nil {
			delete(claims, claim)
		}
		text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(secret)
		require.NoError(t, err)
		return text
	}
	good := signed("exp", now+600)
	require.Equal(t, 200, d.get(t, "/rest/v1/t", with("Authorization", "Bearer "+good)).status)
	mine := plain.token(t, "acme")
	parts := strings.Split(mine, ".")
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	unknown := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"iss": plain.issuer.URL()})
	unknown.Header["kid"] = "unknown"
	strange, err := unknown.SignedString(stranger)
	require.NoError(t, err)
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."

	body := func(code, message, details string) string {
		if details != "null" {
			details = `"` + details + `"`
		}
		return `{"code":"` + code + `","details":` + details + `,"hint":null,"message":"` + message + `"}`
	}
	for name, c := range map[string]struct {
		d             *door
		authorization string
		want          string
	}{
		"expired":           {d, "Bearer " + signed("exp", now-60), body("PGRST303", "JWT expired", "null")},
		"not yet":           {d, "Bearer " + signed("nbf", now+60), body("PGRST303", "JWT not yet valid", "null")},
		"of the future":     {d, "Bearer " + signed("iat", now+60), body("PGRST303", "JWT issued at future", "null")},
		"audience":          {d, "Bearer " + signed("aud", "other"), body("PGRST303", "JWT not in audience", "null")},
		"exp no number":     {d, "Bearer " + signed("exp", "soon"), body("PGRST303", "The JWT 'exp' claim must be a number", "null")},
		"nbf no number":     {d, "Bearer " + signed("nbf", "soon"), body("PGRST303", "The JWT 'nbf' claim must be a number", "null")},
		"iat no number":     {d, "Bearer " + signed("iat", "soon"), body("PGRST303", "The JWT 'iat' claim must be a number", "null")},
		"aud no text":       {d, "Bearer " + signed("aud", 7), body("PGRST303", "The JWT 'aud' claim must be a string or an array of strings", "null")},
		"two parts":         {d, "Bearer a.b", body("PGRST301", "Expected 3 parts in JWT; got 2", "null")},
		"no JSON":           {d, "Bearer a.b.c", body("PGRST301", "JWT couldn't be decoded", "null")},
		"empty":             {d, "Bearer ", body("PGRST301", "Empty JWT is sent in Authorization header", "null")},
		"nobody":            {d, "", body("PGRST302", "Anonymous access is disabled", "null")},
		"another scheme":    {d, "Basic " + good, body("PGRST302", "Anonymous access is disabled", "null")},
		"another secret":    {d, "Bearer " + good[:len(good)-4] + "AAAA", body("PGRST301", "No suitable key or wrong key type", "None of the keys was able to decode the JWT")},
		"another signature": {plain, "Bearer " + parts[0] + "." + parts[1] + "." + strings.Repeat("A", 86), body("PGRST301", "No suitable key or wrong key type", "None of the keys was able to decode the JWT")},
		"another key":       {plain, "Bearer " + strange, body("PGRST301", "No suitable key or wrong key type", "No suitable key was found to decode the JWT")},
		"unsigned":          {plain, "Bearer " + unsigned, body("PGRST301", "Wrong or unsupported encoding algorithm", "Its alg is none of those that are accepted of the issuer")},
	} {
		a := c.d.get(t, "/rest/v1/t", func(r *http.Request) {
			if c.authorization != "" {
				r.Header.Set("Authorization", c.authorization)
			}
		})
		require.Equal(t, 401, a.status, name)
		require.JSONEq(t, c.want, a.body, name)
		if strings.Contains(c.want, "PGRST302") {
			require.Equal(t, "Bearer", a.header.Get("WWW-Authenticate"), name)
		} else {
			require.Regexp(t, `^Bearer error="invalid_token", error_description="[^"]+"$`, a.header.Get("WWW-Authenticate"), name)
		}
	}
	a := d.get(t, "/rest/v1/t", with("Authorization", "Bearer "+signed("exp", nil)))
	require.Contains(t, a.body, `"PGRST303"`)
	require.Contains(t, a.body, "The token's claims are refused")
}
