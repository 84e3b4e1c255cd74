package dataplane_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane"
	"github.com/freehold-db/freehold/internal/issuer"
	"github.com/freehold-db/freehold/shardmap"
)

func TestServesTenants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tenant("acme", 3)
	w.tenant("rival", 5)
	n := w.node()
	for tenant, rows := range map[shardmap.TenantID]int{"acme": 3, "rival": 5} {
		a := do(t, http.MethodGet, n.URL()+"/rest/v1/notes?select=id,owner&order=id", w.token(tenant, "viewer"), "")
		require.Equal(t, 200, a.status, a.body)
		require.Equal(t, rows, strings.Count(a.body, fmt.Sprintf(`"owner":%q`, tenant)), a.body)
		require.Equal(t, rows, strings.Count(a.body, `"owner"`))
	}

	// Editors write, viewers do not.
	note := `{"id": 100, "owner": "acme", "body": "new"}`
	a := do(t, http.MethodPost, n.URL()+"/rest/v1/notes", w.token("acme", "viewer"), note)
	require.Equal(t, 403, a.status, a.body)
	a = do(t, http.MethodPost, n.URL()+"/rest/v1/notes", w.token("acme", "editor"), note)
	require.Equal(t, 201, a.status, a.body)

	a = do(t, http.MethodGet, n.URL()+"/rest/v1/notes", w.token("nobody", "viewer"), "")
	require.Equal(t, 404, a.status, a.body)
	metrics := do(t, http.MethodGet, n.OpsURL()+"/metrics", "", "").body
	require.Equal(t, 404, do(t, http.MethodGet, n.URL()+"/metrics", "", "").status, "not for clients")
	require.Contains(t, metrics, `freehold_http_request_duration_seconds_count{method="GET",route="/rest/v1/:table",status="200"} 2`)
	for _, figure := range []string{"freehold_router_connections ", "freehold_router_busy_total 0", "freehold_router_holds_total 0", "freehold_router_refused_total ",
		"freehold_schemas 1", "freehold_schema_bytes ", `freehold_schema_reads_total{what="schema"} 1`,
		"freehold_shardmap_hits_total ", "freehold_shardmap_negative_hits_total ", "freehold_feed_connected 1", "freehold_feed_synced 1", "freehold_token_keys_known 1"} {
		require.Contains(t, metrics, figure)
	}
	require.NotContains(t, metrics, "acme", "no tenant is a label")
}

// What an answer may cost in memory is bounded, and what is too much is said.
func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tenant("acme", 2000) // of about 130 bytes each
	n := w.node(func(c *dataplane.Config) { c.MaxAnswer, c.Router.MaxMessage = 10_000, 150_000 })
	tok := w.token("acme", "viewer")
	for rows, want := range map[int]int{10: 200, 500: 400, 2000: 400} { // the last one does not even get to the node
		a := do(t, http.MethodGet, fmt.Sprintf("%s/rest/v1/notes?limit=%d", n.URL(), rows), tok, "")
		require.Equal(t, want, a.status, rows)
		if want == 400 {
			require.Contains(t, a.body, "answer_too_large", rows)
		}
	}
	require.Equal(t, 200, do(t, http.MethodGet, n.URL()+"/rest/v1/notes?limit=1", tok, "").status)
}

// A token of tenant acme gets nothing of rival, by whatever way.
func TestTokenOpensItsOwnTenantOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tenant("acme", 3)
	w.tenant("rival", 5)
	n := w.node(func(c *dataplane.Config) { c.Domain = "db.example.com" })
	mine := w.token("acme", "editor")
	notes := n.URL() + "/rest/v1/notes?select=owner"

	dir := t.TempDir()
	elsewhere, err := issuer.Start(t.Context(), dir, "127.0.0.1:0") // same claims, another key and URL
	require.NoError(t, err)
	defer stop(t, elsewhere)
	foreign, err := elsewhere.Mint(issuer.Claims{Tenant: "rival", Role: "editor"})
	require.NoError(t, err)
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	parts := strings.Split(mine, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	rivals := base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(payload), `"acme"`, `"rival"`, 1)))
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`))
	now := time.Now()
	forged := func(m jwt.SigningMethod, key any) string {
		tok := jwt.NewWithClaims(m, jwt.MapClaims{"iss": w.issuer.URL(), "aud": "freehold", "tenant": "rival", "role": "editor",
			"nbf": now.Unix(), "exp": now.Add(time.Hour).Unix()})
		mint, _, err := jwt.NewParser().ParseUnverified(mine, jwt.MapClaims{})
		require.NoError(t, err)
		tok.Header["kid"] = mint.Header["kid"]
		s, err := tok.SignedString(key)
		require.NoError(t, err)
		return s
	}

	for name, c := range map[string]struct {
		token  string
		adjust func(*http.Request)
		status int
	}{
		"header":                    {mine, func(r *http.Request) { r.Header.Set("X-Tenant-ID", "rival") }, 403},
		"two headers":               {mine, func(r *http.Request) { r.Header["X-Tenant-Id"] = []string{"acme", "rival"} }, 403},
		"subdomain":                 {mine, func(r *http.Request) { r.Host = "rival.db.example.com" }, 403},
		"path":                      {mine, func(r *http.Request) { r.URL.Path = "/rest/v1/rival/notes" }, 404},
		"path upwards":              {mine, func(r *http.Request) { r.URL.Opaque = "/rest/v1/../../rival/rest/v1/notes" }, 404},
		"database as schema":        {mine, func(r *http.Request) { r.URL.Path = "/rest/v1/" + w.database("rival") + ".public.notes" }, 404},
		"schema of the platform":    {mine, func(r *http.Request) { r.Header.Set("Accept-Profile", "freehold") }, 406},
		"no token":                  {"", func(*http.Request) {}, 401},
		"none":                      {none + "." + rivals + ".", func(*http.Request) {}, 401},
		"tampered payload":          {parts[0] + "." + rivals + "." + parts[2], func(*http.Request) {}, 401},
		"stranger's key":            {forged(jwt.SigningMethodEdDSA, stranger), func(*http.Request) {}, 401},
		"HS256 with the public key": {forged(jwt.SigningMethodHS256, w.issuer.JWKS()), func(*http.Request) {}, 401},
		"another issuer":            {foreign, func(*http.Request) {}, 401},
		"token of nobody we know":   {"garbage", func(*http.Request) {}, 401},
	} {
		a := do(t, http.MethodGet, notes, c.token, "", c.adjust)
		require.Equal(t, c.status, a.status, "%s: %s", name, a.body)
		require.NotContains(t, a.body, `"owner":"rival"`, name)
	}

	// What the request sets for SQL to read is the token's, whatever headers say.
	a := do(t, http.MethodGet, notes, mine, "", func(r *http.Request) { r.Header.Set("X-Tenant-ID", "acme") })
	require.Equal(t, 200, a.status)
	require.Equal(t, 3, strings.Count(a.body, `"acme"`))
}

func TestStateOfTheTenant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tenant("acme", 1)
	n := w.node()
	tok := w.token("acme", "viewer")
	become := func(status int, code string) {
		t.Helper()
		require.Eventually(t, func() bool {
			a := do(t, http.MethodGet, n.URL()+"/rest/v1/notes", tok, "")
			return a.status == status && strings.Contains(a.body, code)
		}, time.Minute, 20*time.Millisecond)
	}
	become(200, "owner")
	w.place("acme", shardmap.Suspended, 2)
	become(403, "tenant_suspended")
	w.place("acme", shardmap.Active, 3)
	become(200, "owner")
	w.place("acme", shardmap.Deleted, 4)
	become(410, "tenant_deleted")
	w.place("acme", shardmap.Active, 3) // late news
	for until := time.Now().Add(300 * time.Millisecond); time.Now().Before(until); {
		require.Equal(t, 410, do(t, http.MethodGet, n.URL()+"/rest/v1/notes", tok, "").status)
	}
}

func TestServerTiming(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tenant("acme", 3)
	n := w.node(func(c *dataplane.Config) { c.ServerTiming = true })
	other := w.node()
	timing := func(url, path string) string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+w.token("acme", "viewer"))
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		return resp.Header.Get("Server-Timing")
	}
	const told = `^jwt;dur=\d+\.\d, queue;dur=\d+\.\d, parse;dur=\d+\.\d, plan;dur=\d+\.\d, transaction;dur=\d+\.\d, response;dur=\d+\.\d$`
	require.Regexp(t, told, timing(n.URL(), "/rest/v1/notes?id=eq.1"))
	require.Regexp(t, told, timing(n.URL(), "/rest/v1/nothing"), "refusals tell, too")
	require.Empty(t, timing(other.URL(), "/rest/v1/notes"))
}
