package identity_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/authority"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/identity"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// provider is an issuer that signs whatever the test wants, and counts who fetches its keys.
type provider struct {
	*httptest.Server
	key     ed25519.PrivateKey
	fetches atomic.Int64
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	p := &provider{key: key}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "openid-configuration") {
			_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, p.URL, p.URL+"/keys")
			return
		}
		p.fetches.Add(1)
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []map[string]string{{"kty": "OKP", "crv": "Ed25519", "kid": "k", "use": "sig", "alg": "EdDSA",
			"x": base64.RawURLEncoding.EncodeToString(public)}}})
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *provider) claims(change func(c jwt.MapClaims)) jwt.MapClaims {
	c := jwt.MapClaims{"iss": p.URL, "aud": "tenant-ops", "sub": "alice", "groups": []string{"support"}, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix()}
	if change != nil {
		change(c)
	}
	return c
}

func sign(t *testing.T, method jwt.SigningMethod, key any, kid string, c jwt.Claims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, c)
	if kid != "" {
		token.Header["kid"] = kid
	}
	text, err := token.SignedString(key)
	require.NoError(t, err)
	return text
}

type noFile struct{}

func (noFile) Lookup(string) (p authority.Principal, ok bool) { return p, false }

func newDesk(t *testing.T, issuers ...identity.Issuer) (*identity.Desk, *catalog.Store) {
	t.Helper()
	store := catalogtest.Open(t)
	people, err := identity.NewPeople(issuers, nil, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- people.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-ran) })
	return identity.New(store, noFile{}, people, slog.New(slog.DiscardHandler)), store
}

// Only what the configured issuer signed for us, in a way that is accepted, and that is good now, speaks for anybody.
func TestTokensThatAreNotTaken(t *testing.T) {
	t.Parallel()
	p, other := newProvider(t), newProvider(t)
	desk, _ := newDesk(t, identity.Issuer{Name: "corp", URL: p.URL, ClientID: "tenant-ops", UseIDToken: true, Roles: map[string]authority.Role{"support": authority.Viewer}})
	good := sign(t, jwt.SigningMethodEdDSA, p.key, "k", p.claims(nil))
	who, err := desk.Authenticate(t.Context(), good, "")
	require.NoError(t, err)
	require.Equal(t, "oidc:corp/alice", who.Name)
	require.Equal(t, authority.Viewer, who.Role())
	require.Equal(t, []string{"support"}, who.Groups)

	set := func(name string, value any) jwt.MapClaims {
		return p.claims(func(c jwt.MapClaims) {
			if c[name] = value; value == nil {
				delete(c, name)
			}
		})
	}
	ours := func(c jwt.MapClaims) string { return sign(t, jwt.SigningMethodEdDSA, p.key, "k", c) }
	parts := strings.Split(good, ".")
	public, err := json.Marshal(p.key.Public())
	require.NoError(t, err)
	payload := base64.RawURLEncoding.EncodeToString
	twice := payload([]byte(`{"iss":"` + p.URL + `","aud":"tenant-ops","exp":9999999999,"sub":"alice","sub":"root"}`))
	head := payload([]byte(`{"alg":"EdDSA","kid":"k"}`))
	for name, token := range map[string]string{
		"another issuer's, with its own key":    sign(t, jwt.SigningMethodEdDSA, other.key, "k", jwt.MapClaims{"iss": other.URL, "aud": "tenant-ops", "sub": "alice", "exp": time.Now().Add(time.Minute).Unix()}),
		"another's key under our issuer's name": sign(t, jwt.SigningMethodEdDSA, other.key, "k", p.claims(nil)),
		"no algorithm":                          sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "k", p.claims(nil)),
		"the public key as a secret":            sign(t, jwt.SigningMethodHS256, public, "k", p.claims(nil)),
		"no signature":                          parts[0] + "." + parts[1] + ".",
		"another payload":                       parts[0] + "." + payload([]byte(`{"iss":"`+p.URL+`","aud":"tenant-ops","sub":"root","exp":9999999999}`)) + "." + parts[2],
		"no key ID":                             sign(t, jwt.SigningMethodEdDSA, p.key, "", p.claims(nil)),
		"a data-plane token":                    ours(set("aud", "freehold")),
		"no audience":                           ours(set("aud", nil)),
		"not yet good":                          ours(set("nbf", time.Now().Add(time.Hour).Unix())),
		"no end":                                ours(set("exp", nil)),
		"nobody":                                ours(set("sub", nil)),
		"a name for terminals":                  ours(set("sub", "a\x1b[2Jb")),
		"a name that is too long":               ours(set("sub", strings.Repeat("x", 129))),
		"groups that are none":                  ours(set("groups", 7)),
		"made for another client":               ours(set("azp", "other")),
		"two names":                             head + "." + twice + "." + payload(ed25519.Sign(p.key, []byte(head+"."+twice))),
		"no token":                              "a.b.c",
		"an access token that there is not":     "fha_000000000000_" + strings.Repeat("a", 52),
	} {
		_, err := desk.Authenticate(t.Context(), token, "")
		require.ErrorIs(t, err, authority.ErrUnknown, name)
	}
	_, err = desk.Authenticate(t.Context(), ours(set("exp", time.Now().Add(-time.Hour).Unix())), "")
	require.ErrorIs(t, err, authority.ErrExpired)
	_, err = desk.Authenticate(t.Context(), sign(t, jwt.SigningMethodEdDSA, other.key, "k", set("exp", time.Now().Add(-time.Hour).Unix())), "")
	require.ErrorIs(t, err, authority.ErrUnknown, "a stranger does not learn more")

	// Made-up key IDs do not have the issuer hammered.
	before := p.fetches.Load()
	for i := range 100 {
		_, err := desk.Authenticate(t.Context(), sign(t, jwt.SigningMethodEdDSA, p.key, fmt.Sprint("kid-", i), p.claims(nil)), "")
		require.ErrorIs(t, err, authority.ErrUnknown)
	}
	require.LessOrEqual(t, p.fetches.Load()-before, int64(20))
}

// An e-mail address that anybody could have typed in is nobody's name.
func TestUnverifiedEmailIsNoName(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	desk, _ := newDesk(t, identity.Issuer{Name: "corp", URL: p.URL, ClientID: "tenant-ops", SubjectClaim: "email"})
	for _, verified := range []any{nil, false, "true", true} {
		token := sign(t, jwt.SigningMethodEdDSA, p.key, "k", p.claims(func(c jwt.MapClaims) {
			if c["email"] = "alice@example.com"; verified != nil {
				c["email_verified"] = verified
			}
		}))
		who, err := desk.Authenticate(t.Context(), token, "")
		if verified != true {
			require.ErrorIs(t, err, authority.ErrUnknown, verified)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, "oidc:corp/alice@example.com", who.Name)
	}
}

// What people may do is what their groups and they themselves are bound to, from the next request on.
func TestBindings(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	desk, _ := newDesk(t, identity.Issuer{Name: "corp", URL: p.URL, ClientID: "tenant-ops"},
		identity.Issuer{Name: "other", URL: "https://other.example", JWKSURL: "https://127.0.0.1:1/jwks", ClientID: "x"})
	ctx, alice := t.Context(), sign(t, jwt.SigningMethodEdDSA, p.key, "k", p.claims(nil))
	root := authority.Principal{Name: "root", Root: "root", Method: authority.ByFile, Grants: []authority.Grant{{Role: authority.Admin, Where: authority.Where{All: true}}}}
	actor := catalog.Actor{Name: "root", Role: "admin"}
	roles := func() (all []authority.Role) {
		who, err := desk.Authenticate(ctx, alice, "")
		require.NoError(t, err)
		for _, g := range who.Grants {
			all = append(all, g.Role)
		}
		return all
	}
	require.Empty(t, roles())
	acme := authority.Where{Tenants: []shardmap.TenantID{"acme"}}
	bind := func(issuer, kind, subject string, g authority.Grant, ends *time.Time) (identity.Binding, error) {
		return desk.Bind(ctx, identity.Binding{Issuer: issuer, Kind: kind, Subject: subject, Grant: g, ExpiresAt: ends}, root, actor)
	}
	group, err := bind("corp", identity.KindGroup, "support", authority.Grant{Role: authority.Viewer, Where: acme}, nil)
	require.NoError(t, err)
	_, err = bind("corp", identity.KindGroup, "alice", authority.Grant{Role: authority.Admin, Where: acme}, nil) // a group of that name
	require.NoError(t, err)
	_, err = bind("other", identity.KindUser, "alice", authority.Grant{Role: authority.Admin, Where: acme}, nil) // another's alice
	require.NoError(t, err)
	_, err = bind("corp", identity.KindUser, "support", authority.Grant{Role: authority.Admin, Where: acme}, nil) // a person of that name
	require.NoError(t, err)
	require.Equal(t, []authority.Role{authority.Viewer}, roles())
	soon := time.Now().Add(time.Hour)
	_, err = bind("corp", identity.KindUser, "alice", authority.Grant{Role: authority.Operator, Where: acme}, &soon)
	require.NoError(t, err)
	require.ElementsMatch(t, []authority.Role{authority.Viewer, authority.Operator}, roles())
	for _, bad := range []struct{ issuer, kind, subject string }{{"nobody", "user", "x"}, {"corp", "robot", "x"}, {"corp", "user", ""}, {"corp", "user", "a\nb"}} {
		_, err := bind(bad.issuer, bad.kind, bad.subject, authority.Grant{Role: authority.Viewer, Where: acme}, nil)
		require.ErrorIs(t, err, identity.ErrInvalid)
	}
	part := authority.Principal{Name: "part", Root: "part", Method: authority.ByOIDC, Grants: []authority.Grant{{Role: authority.Admin, Where: authority.Where{Tenants: []shardmap.TenantID{"rival"}}}}}
	_, err = desk.Bind(ctx, identity.Binding{Issuer: "corp", Kind: identity.KindUser, Subject: "me", Grant: authority.Grant{Role: authority.Viewer, Where: acme}}, part, actor)
	require.ErrorIs(t, err, identity.ErrBeyond)
	// A role for an hour makes none for longer, not even one's own.
	who, err := desk.Authenticate(ctx, alice, "")
	require.NoError(t, err)
	later := soon.Add(time.Minute)
	own := authority.Grant{Role: authority.Operator, Where: acme}
	for _, end := range []*time.Time{nil, &later} {
		_, err = desk.Bind(ctx, identity.Binding{Issuer: "corp", Kind: identity.KindUser, Subject: "alice", Grant: own, ExpiresAt: end}, who, actor)
		require.ErrorIs(t, err, identity.ErrBeyond)
	}
	_, _, err = desk.CreateToken(ctx, identity.TokenSpec{Name: "keep", Expires: later, Grants: []authority.Grant{own}}, who, actor)
	require.ErrorIs(t, err, identity.ErrBeyond)
	_, _, err = desk.CreateToken(ctx, identity.TokenSpec{Name: "brief", Expires: soon.Add(-time.Minute), Grants: []authority.Grant{own}}, who, actor)
	require.NoError(t, err)
	lasting, err := bind("corp", identity.KindGroup, "support", own, nil) // for good
	require.NoError(t, err)
	who, err = desk.Authenticate(ctx, alice, "")
	require.NoError(t, err)
	_, _, err = desk.CreateToken(ctx, identity.TokenSpec{Name: "long", Expires: later, Grants: []authority.Grant{own}}, who, actor)
	require.NoError(t, err)
	require.NoError(t, desk.Unbind(ctx, lasting.ID, root, actor))
	list, _, err := desk.Bindings(ctx, part, catalog.Page{Limit: 10})
	require.NoError(t, err)
	require.Empty(t, list)
	require.ErrorIs(t, desk.Unbind(ctx, group.ID, part, actor), catalog.ErrNotFound)
	list, next, err := desk.Bindings(ctx, root, catalog.Page{Limit: 3})
	require.NoError(t, err)
	require.Len(t, list, 3)
	require.NotEmpty(t, next)
	require.NoError(t, desk.Unbind(ctx, group.ID, root, actor))
	require.Equal(t, []authority.Role{authority.Operator}, roles())
}

// While an issuer's keys can't be had, nobody is told that his token is bad.
func TestAnIssuerThatIsAway(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	token := sign(t, jwt.SigningMethodEdDSA, p.key, "k", p.claims(nil))
	p.Close()
	desk, _ := newDesk(t, identity.Issuer{Name: "corp", URL: p.URL, ClientID: "tenant-ops"})
	_, err := desk.Authenticate(t.Context(), token, "")
	require.ErrorIs(t, err, authority.ErrUnsettled)
}

func TestIssuersThatAreNone(t *testing.T) {
	t.Parallel()
	good := identity.Issuer{Name: "corp", URL: "https://id.example", ClientID: "x"}
	for name, change := range map[string]func(i *identity.Issuer){
		"no name":             func(i *identity.Issuer) { i.Name = "" },
		"a name with a slash": func(i *identity.Issuer) { i.Name = "a/b" },
		"no URL":              func(i *identity.Issuer) { i.URL = "" },
		"no client":           func(i *identity.Issuer) { i.ClientID = "" },
		"a shared secret":     func(i *identity.Issuer) { i.Algorithms = []string{"HS256"} },
		"no signature":        func(i *identity.Issuer) { i.Algorithms = []string{"none"} },
		"a role that is none": func(i *identity.Issuer) { i.Roles = map[string]authority.Role{"g": "root"} },
		"nodes":               func(i *identity.Issuer) { i.Roles = map[string]authority.Role{"g": authority.Node} },
	} {
		i := good
		change(&i)
		_, err := identity.NewPeople([]identity.Issuer{i}, nil, nil)
		require.Error(t, err, name)
	}
	_, err := identity.NewPeople([]identity.Issuer{good, good}, nil, nil)
	require.Error(t, err, "twice")
	people, err := identity.NewPeople([]identity.Issuer{good}, nil, nil)
	require.NoError(t, err)
	require.Equal(t, "x", people.Issuers()[0].Audience)
}
