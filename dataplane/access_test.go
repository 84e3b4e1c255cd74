package dataplane_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/issuer"
)

// What the control plane publishes of a tenant holds at a node moments later.
func TestAccessOfATenant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tenant("acme", 3)
	w.tenant("rival", 5)
	nc, err := nats.Connect(w.nats.URL(), nats.Timeout(20*time.Second))
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(time.Minute))
	require.NoError(t, err)
	stream, err := js.CreateStream(t.Context(), access.AuditStreamConfig(1))
	require.NoError(t, err)
	sso, err := issuer.Start(t.Context(), t.TempDir(), "127.0.0.1:0")
	require.NoError(t, err)
	defer stop(t, sso)
	n := w.node(func(c *dataplane.Config) { c.IssuerNetworks = []string{"127.0.0.0/8"} })
	text, key, err := access.NewKey("acme", access.RoleEditor, nil, time.Time{})
	require.NoError(t, err)
	ssoToken, err := sso.Mint(issuer.Claims{Tenant: "acme", Role: issuer.RoleViewer})
	require.NoError(t, err)
	forRival, err := sso.Mint(issuer.Claims{Tenant: "rival", Role: issuer.RoleViewer})
	require.NoError(t, err)

	notes := n.URL() + "/rest/v1/notes?select=owner"
	get := func(token string) answer { return do(t, http.MethodGet, notes, token, "") }
	become := func(token string, status int, code string) {
		t.Helper()
		var a answer
		require.Eventually(t, func() bool { a = get(token); return a.status == status }, time.Minute, 10*time.Millisecond, "%d", status)
		require.Contains(t, a.body, code)
	}
	mine := w.token("acme", "viewer")
	become(mine, 200, "acme")
	become(text, 401, "api_key_invalid")
	become(ssoToken, 401, "PGRST303")

	doc := access.Tenant{Tenant: "acme", Version: 1, Keys: []access.Key{key}, Issuers: []access.Issuer{{URL: sso.URL()}}}
	publish := func() {
		doc.Version++
		w.publish(access.Bucket, "acme", doc)
	}
	publish()
	become(text, 200, "acme")
	become(ssoToken, 200, "acme")
	become(forRival, 403, "tenant_mismatch")
	a := do(t, http.MethodPost, n.URL()+"/rest/v1/notes", text, `{"id": 100, "owner": "acme", "body": "new"}`)
	require.Equal(t, 201, a.status, a.body)

	// A policy refuses tables, whether they are asked for or embedded.
	db := w.admin(w.database("acme"))
	_, err = db.Exec(t.Context(), `CREATE TABLE salaries (id bigint PRIMARY KEY, note bigint REFERENCES notes); GRANT SELECT ON salaries TO `+w.database("acme")+`_rw, `+w.database("acme")+`_ro`)
	require.NoError(t, err)
	embed := n.URL() + "/rest/v1/notes?select=id,salaries(id)&limit=1"
	require.Equal(t, 200, do(t, http.MethodGet, embed, mine, "").status)
	doc.Policies = []access.Policy{{Name: "payroll", Text: `forbid (principal, action, resource == Table::"public.salaries");`}}
	publish()
	require.Eventually(t, func() bool { a = do(t, http.MethodGet, embed, mine, ""); return a.status == 403 }, time.Minute, 10*time.Millisecond)
	require.Contains(t, a.body, "Forbidden by policy payroll.")
	require.Equal(t, 403, do(t, http.MethodGet, n.URL()+"/rest/v1/salaries", mine, "").status)
	// One that forbids reading also stops what a write would show, before it is done.
	doc.Policies = append(doc.Policies, access.Policy{Name: "blind", Text: `forbid (principal, action in Action::"read", resource == Table::"public.notes");`})
	publish()
	editor, note := w.token("acme", "editor"), n.URL()+"/rest/v1/notes?id=eq.1"
	require.Eventually(t, func() bool { return get(editor).status == 403 }, time.Minute, 10*time.Millisecond)
	shown := func(r *http.Request) { r.Header.Set("Prefer", "return=representation") }
	change := func(method, body string) int { return do(t, method, note, editor, body, shown).status }
	require.Equal(t, 403, change(http.MethodPatch, `{"body": "seen"}`))
	require.Equal(t, 403, change(http.MethodDelete, ""))
	require.Equal(t, 403, change(http.MethodPut, `{"id": 1, "owner": "acme", "body": "seen"}`))
	require.Equal(t, 403, do(t, http.MethodPost, n.URL()+"/rest/v1/notes", editor, `{"id": 200, "owner": "acme", "body": "seen"}`, shown).status)
	var seen int
	require.NoError(t, db.QueryRow(t.Context(), `SELECT count(*) FROM notes WHERE body = 'seen' OR id = 1 AND body IS NULL`).Scan(&seen))
	require.Zero(t, seen)
	require.Equal(t, 204, do(t, http.MethodPatch, note, editor, `{"body": "unseen"}`).status)
	doc.Policies = doc.Policies[:1]

	// Policies judge the schema that is served, also when no profile names it.
	doc.Policies = append(doc.Policies, access.Policy{Name: "inner", Text: `forbid (principal, action, resource == Table::"inner.wages");`})
	publish()
	other := w.node(func(c *dataplane.Config) { c.Schemas = []string{"inner", "public"} })
	require.Eventually(t, func() bool {
		a = do(t, http.MethodGet, other.URL()+"/rest/v1/wages", mine, "")
		return a.status == 403
	}, time.Minute, 10*time.Millisecond)
	require.Contains(t, a.body, "Forbidden by policy inner.")
	require.Equal(t, 200, get(mine).status)

	// All of it ends as it began.
	doc.Keys, doc.Issuers, doc.NotBefore = nil, nil, time.Now().Add(time.Minute)
	publish()
	become(text, 401, "api_key_invalid")
	become(ssoToken, 401, "PGRST303")
	become(mine, 401, "revoked")
	require.Equal(t, 200, get(w.token("rival", "viewer")).status)

	// The audit log hears of it.
	actions := map[string]bool{}
	require.Eventually(t, func() bool {
		info, err := stream.Info(t.Context())
		require.NoError(t, err)
		for seq := uint64(1); seq <= info.State.LastSeq; seq++ {
			msg, err := stream.GetMsg(t.Context(), seq)
			require.NoError(t, err)
			var e access.Event
			require.NoError(t, json.Unmarshal(msg.Data, &e))
			require.NoError(t, e.Validate())
			require.EqualValues(t, "acme", e.Tenant)
			require.Equal(t, "n1", e.Node)
			actions[e.Action] = true
		}
		return actions[access.ActionCrossTenant] && actions[access.ActionKeyRefused] && actions[access.ActionPolicyDenied] && actions[access.ActionRevoked]
	}, time.Minute, 20*time.Millisecond)
}

// A shared secret is for development, and that has to be said.
func TestSharedSecretNeedsDevelopment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tenant("acme", 1)
	file := filepath.Join(t.TempDir(), "secret")
	secret := []byte("0123456789abcdef0123456789abcdef")
	require.NoError(t, os.WriteFile(file, append(secret, '\n'), 0o600))
	cfg := w.config()
	cfg.HS256SecretFile = file
	_, err := dataplane.Start(t.Context(), cfg)
	require.ErrorContains(t, err, "development: true")
	n := w.node(func(c *dataplane.Config) { c.HS256SecretFile, c.Development, c.Issuer, c.JWKSURL = file, true, "", "" })
	tok, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"aud": "freehold", "tenant": "acme", "role": "viewer", "exp": time.Now().Add(time.Hour).Unix()}).SignedString(secret)
	require.NoError(t, err)
	require.Equal(t, 200, do(t, http.MethodGet, n.URL()+"/rest/v1/notes", tok, "").status)
	require.Equal(t, 401, do(t, http.MethodGet, n.URL()+"/rest/v1/notes", w.token("acme", "viewer"), "").status)
}

func TestIssuersOfTheConfiguration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.yaml")
	require.NoError(t, os.WriteFile(path, []byte(`
secrets_dir: /x
nats_url: nats://127.0.0.1:4222
issuers:
  - url: https://a.example
    audience: app
    role_claim: app_metadata.role
    default_role: viewer
  - {url: https://b.example, tenant_claim: org, algorithms: [PS256]}
`), 0o600))
	cfg, err := dataplane.LoadConfig(path)
	require.NoError(t, err)
	require.Equal(t, dataplane.Issuers{
		{URL: "https://a.example", Audience: "app", RoleClaim: "app_metadata.role", DefaultRole: "viewer"},
		{URL: "https://b.example", TenantClaim: "org", Algorithms: []string{"PS256"}},
	}, cfg.Issuers)
	t.Setenv("FREEHOLD_ISSUERS", `[{"url": "https://c.example"}]`)
	cfg, err = dataplane.LoadConfig(path)
	require.NoError(t, err)
	require.Equal(t, dataplane.Issuers{{URL: "https://c.example"}}, cfg.Issuers)

	good := cfg
	for name, spoil := range map[string]func(*dataplane.Config){
		"no issuer": func(c *dataplane.Config) { c.Issuers = nil },
		"twice":     func(c *dataplane.Config) { c.Issuer = "https://c.example" },
		"no URL":    func(c *dataplane.Config) { c.Issuers = dataplane.Issuers{{URL: "c.example"}} },
		"HMAC": func(c *dataplane.Config) {
			c.Issuers = dataplane.Issuers{{URL: "https://c.example", Algorithms: []string{"HS256"}}}
		},
		"claim":            func(c *dataplane.Config) { c.TenantClaim = "a..b" },
		"issuer's claim":   func(c *dataplane.Config) { c.Issuers = dataplane.Issuers{{URL: "https://c.example", TenantClaim: "."}} },
		"skew":             func(c *dataplane.Config) { c.ClockSkew = time.Hour },
		"token":            func(c *dataplane.Config) { c.MaxToken = 1 << 20 },
		"network":          func(c *dataplane.Config) { c.IssuerNetworks = []string{"10.0.0.0"} },
		"source":           func(c *dataplane.Config) { c.TenantFrom = []string{"path"} },
		"header":           func(c *dataplane.Config) { c.TenantHeader = "Authorization" },
		"keys of nobody":   func(c *dataplane.Config) { c.JWKSURL = "https://c.example/keys" },
		"secret by itself": func(c *dataplane.Config) { c.HS256SecretFile = "/x" },
	} {
		c := good
		spoil(&c)
		require.Error(t, c.Validate(), name)
	}
	require.NoError(t, good.Validate())
}
