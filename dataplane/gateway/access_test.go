package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/fault"
	"github.com/freehold-db/freehold/dataplane/gateway"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/issuer"
	"github.com/freehold-db/freehold/shardmap"
)

var version atomic.Int64

// know gives the door's directory a tenant's document, newer than those before.
func (d *door) know(t *testing.T, doc access.Tenant) {
	t.Helper()
	doc.Version = version.Add(1)
	b, err := json.Marshal(doc)
	require.NoError(t, err)
	require.True(t, d.docs.Take(string(doc.Tenant), b))
}

func (d *door) knowFleet(t *testing.T, policies ...access.Policy) {
	t.Helper()
	b, err := json.Marshal(access.Fleet{Version: version.Add(1) + 1, Policies: policies})
	require.NoError(t, err)
	require.True(t, d.docs.Take(access.FleetKey, b))
}

func newKey(t *testing.T, tenant shardmap.TenantID, role string, expires time.Time) (string, access.Key) {
	t.Helper()
	text, k, err := access.NewKey(tenant, role, nil, expires)
	require.NoError(t, err)
	return text, k
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	d := open(t)
	mine, mineKey := newKey(t, "acme", "editor", time.Time{})
	second, secondKey := newKey(t, "acme", "viewer", time.Time{})
	theirs, theirsKey := newKey(t, "rival", "editor", time.Time{})
	past, pastKey := newKey(t, "acme", "viewer", time.Now().Add(-time.Minute))
	gone, _ := newKey(t, "acme", "viewer", time.Time{})
	d.know(t, access.Tenant{Tenant: "acme", Keys: []access.Key{mineKey, secondKey, pastKey}})
	d.know(t, access.Tenant{Tenant: "rival", Keys: []access.Key{theirsKey}})
	tok, other := d.token(t, "acme"), d.token(t, "acme")
	both := func(bearer, key string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+bearer)
			r.Header.Set("Apikey", key)
		}
	}
	for name, f := range map[string]func(*http.Request){
		"key as bearer":            with("Authorization", "Bearer "+mine),
		"key as apikey":            with("apikey", mine),
		"both the same":            both(mine, mine),
		"token twice":              both(tok, tok),
		"token as apikey":          with("apikey", tok),
		"key beside a token":       both(tok, mine),
		"empty apikey beside":      both(tok, ""),
		"agreeing header":          func(r *http.Request) { both(mine, mine)(r); r.Header.Set("X-Tenant-ID", "acme") },
		"connection string beside": func(r *http.Request) { both(tok, mine)(r); r.Header.Set("Neon-Connection-String", "nonsense") },
	} {
		a := d.get(t, "/rest/v1/t", f)
		require.Equal(t, 200, a.status, "%s: %s", name, a.body)
		require.Equal(t, "acme", a.body, name)
		// Of a bearer every cache knows that its answers are its own (RFC 9111 §3.5); of other headers none does.
		private := map[bool]string{true: "private"}[name == "key as apikey" || name == "token as apikey"]
		require.Equal(t, private, a.header.Get("Cache-Control"), name)
	}
	require.Empty(t, d.reported())

	for name, c := range map[string]struct {
		f      func(*http.Request)
		status int
		code   string
		action string
	}{
		"two keys":                       {both(mine, second), 401, "PGRST302", ""},
		"two tokens":                     {both(tok, other), 401, "PGRST302", ""},
		"token as apikey beside a key":   {both(mine, tok), 401, "PGRST302", ""},
		"two apikeys":                    {func(r *http.Request) { r.Header["Apikey"] = []string{mine, mine} }, 401, "PGRST302", ""},
		"scheme":                         {func(r *http.Request) { both("", mine)(r); r.Header.Set("Authorization", "Basic x") }, 401, "PGRST302", ""},
		"key of another tenant":          {both(tok, theirs), 403, "tenant_mismatch", access.ActionCrossTenant},
		"key, another tenant's header":   {func(r *http.Request) { both(mine, mine)(r); r.Header.Set("X-Tenant-ID", "rival") }, 403, "tenant_mismatch", access.ActionCrossTenant},
		"expired key":                    {with("apikey", past), 401, "api_key_invalid", access.ActionKeyRefused},
		"revoked key":                    {with("apikey", gone), 401, "api_key_invalid", access.ActionKeyRefused},
		"revoked key beside a token":     {both(tok, gone), 401, "api_key_invalid", access.ActionKeyRefused},
		"no key at all":                  {with("apikey", "fh_acme"), 401, "api_key_invalid", ""},
		"nonsense":                       {with("apikey", "x"), 401, "PGRST301", ""},
		"connection string, not for SQL": {with("Neon-Connection-String", "postgres://u:"+mine+"@h/d"), 401, "PGRST302", ""},
	} {
		a := d.get(t, "/rest/v1/t", c.f)
		require.Equal(t, c.status, a.status, "%s: %s", name, a.body)
		require.Contains(t, a.body, `"`+c.code+`"`, name)
		require.NotContains(t, a.body, mine[len(mine)-52:], name)
		events := d.reported()
		if c.action == "" {
			require.Empty(t, events, name)
			continue
		}
		require.Len(t, events, 1, name)
		events[0].Node = "n1"
		require.NoError(t, events[0].Validate(), name)
		require.Equal(t, c.action, events[0].Action, name)
		require.EqualValues(t, "acme", events[0].Tenant, name)
		require.NotEmpty(t, events[0].RequestID, name)
		require.NotContains(t, fmt.Sprint(events[0]), mine, name)
	}
	for _, text := range []string{mine, past, gone, theirs, tok} {
		require.NotContains(t, d.log.String(), text[len(text)-40:], "no credential is in the log")
	}
}

func TestConnectionStringOfSQL(t *testing.T) {
	t.Parallel()
	d := open(t)
	d.API().POST("/sql", func(c *gin.Context) { c.String(http.StatusOK, "sql") })
	mine, mineKey := newKey(t, "acme", "editor", time.Time{})
	theirs, theirsKey := newKey(t, "rival", "editor", time.Time{})
	d.know(t, access.Tenant{Tenant: "acme", Keys: []access.Key{mineKey}})
	d.know(t, access.Tenant{Tenant: "rival", Keys: []access.Key{theirsKey}})
	post := func(f ...func(*http.Request)) answer {
		return d.get(t, "/sql", append(f, func(r *http.Request) { r.Method = http.MethodPost })...)
	}
	connection := func(text string) func(*http.Request) {
		return with("Neon-Connection-String", "postgresql://acme:"+text+"@db.example.com/main?sslmode=require")
	}
	require.Equal(t, 200, post(connection(mine)).status)
	require.Equal(t, 200, post(connection(strings.ReplaceAll(d.token(t, "acme"), ".", "%2E"))).status, "a token may be it, too")
	require.Equal(t, 200, post(connection(mine), with("Authorization", "Bearer "+d.token(t, "acme"))).status)
	require.Equal(t, 200, post(connection("password"), with("Authorization", "Bearer "+d.token(t, "acme"))).status, "a password that is no key means nothing beside a token")
	require.Equal(t, 200, post(connection("password"), with("apikey", mine)).status, "nor beside a key")
	require.Equal(t, 200, post(connection(mine), with("apikey", mine)).status)
	for _, a := range []answer{post(connection(mine), with("apikey", theirs)), post(connection(mine), with("apikey", d.token(t, "acme"))),
		post(connection(theirs), with("apikey", mine), with("Authorization", "Bearer "+d.token(t, "acme")))} {
		require.Equal(t, 401, a.status, "two keys, of which somebody in front may have seen the other: %s", a.body)
		require.Contains(t, a.body, "two different credentials")
	}
	require.Equal(t, 403, post(connection(theirs), with("Authorization", "Bearer "+d.token(t, "acme"))).status)
	require.Equal(t, 401, post(connection("")).status)
	require.Equal(t, 401, post(with("Neon-Connection-String", "%zz")).status)
	require.Equal(t, 401, post(with("Neon-Connection-String", "postgres://host/db")).status)
}

func TestTenantFrom(t *testing.T) {
	t.Parallel()
	naming := func(from ...string) func(*gateway.Config) {
		return func(c *gateway.Config) {
			c.Naming = gateway.Naming{From: from, Domain: "db.example.com", Header: "X-Org"}
		}
	}
	acme, rival := host("acme.db.example.com"), host("rival.db.example.com")
	for name, c := range map[string]struct {
		from   []string
		adjust []func(*http.Request)
		status int
	}{
		"subdomain alone":                      {[]string{"subdomain"}, []func(*http.Request){acme}, 200},
		"subdomain alone, none there":          {[]string{"subdomain"}, nil, 400},
		"subdomain alone, another":             {[]string{"subdomain"}, []func(*http.Request){rival}, 403},
		"subdomain alone, the header is not":   {[]string{"subdomain"}, []func(*http.Request){acme, with("X-Org", "rival")}, 200},
		"header alone":                         {[]string{"header"}, []func(*http.Request){with("X-Org", "acme"), rival}, 200},
		"header alone, the usual one is not":   {[]string{"header"}, []func(*http.Request){with("X-Tenant-ID", "acme")}, 400},
		"header alone, another":                {[]string{"header"}, []func(*http.Request){with("X-Org", "rival")}, 403},
		"all agree":                            {nil, []func(*http.Request){acme, with("X-Org", "acme")}, 200},
		"header disagrees":                     {nil, []func(*http.Request){acme, with("X-Org", "rival")}, 403},
		"subdomain disagrees":                  {[]string{"header", "subdomain", "claim"}, []func(*http.Request){rival, with("X-Org", "acme")}, 403},
		"claim suffices":                       {[]string{"header", "claim"}, nil, 200},
		"claim alone, nothing else is":         {[]string{"claim"}, []func(*http.Request){rival, with("X-Org", "rival")}, 200},
		"not a tenant's name in the subdomain": {nil, []func(*http.Request){host("a.b.db.example.com")}, 403},
	} {
		d := open(t, naming(c.from...))
		a := d.get(t, "/rest/v1/t", append(c.adjust, with("Authorization", "Bearer "+d.token(t, "acme")))...)
		require.Equal(t, c.status, a.status, "%s: %s", name, a.body)
		if c.status == 200 {
			require.Equal(t, "acme", a.body, name)
		}
		require.Len(t, d.reported(), map[bool]int{true: 1, false: 0}[c.status == 403], name)
	}
	for _, n := range []gateway.Naming{{From: []string{"path"}}, {From: []string{"claim", "claim"}}, {Header: "a b"}, {Header: "authorization"}} {
		require.Error(t, n.Check(), "%+v", n)
	}
}

func TestRevokedTokenIsReported(t *testing.T) {
	t.Parallel()
	d := open(t)
	tok := with("Authorization", "Bearer "+d.token(t, "acme"))
	require.Equal(t, 200, d.get(t, "/rest/v1/t", tok).status)
	d.know(t, access.Tenant{Tenant: "acme", NotBefore: time.Now().Add(time.Minute)})
	a := d.get(t, "/rest/v1/t", tok)
	require.Equal(t, 401, a.status)
	require.Contains(t, a.body, `"PGRST303"`)
	events := d.reported()
	require.Len(t, events, 1)
	require.Equal(t, access.ActionRevoked, events[0].Action)
	require.EqualValues(t, "acme", events[0].Tenant)
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	d := open(t)
	d.API().GET("/rest/v1/rpc/:function", func(c *gin.Context) { c.String(http.StatusOK, "called") })
	d.API().GET("/rest/v1/embed/:table", func(c *gin.Context) {
		if ask := gateway.Related(c.Request.Context()); ask != nil {
			if err := ask("public", "salaries"); err != nil {
				fault.Write(c, err)
				return
			}
		}
		c.String(http.StatusOK, "embedded")
	})
	acme, rival := with("Authorization", "Bearer "+d.token(t, "acme")), with("Authorization", "Bearer "+d.token(t, "rival"))
	status := func(path string, f ...func(*http.Request)) int { return d.get(t, path, f...).status }
	require.Equal(t, 200, status("/rest/v1/salaries", acme))
	require.Equal(t, 200, status("/rest/v1/embed/t", acme))

	d.know(t, access.Tenant{Tenant: "acme", Attributes: map[string]string{"tier": "free"}, Policies: []access.Policy{
		{Name: "payroll", Text: `forbid (principal, action, resource == Table::"public.salaries");`},
		{Name: "no-calls", Text: `forbid (principal, action in Action::"call", resource) when { context.attributes.tier == "free" };`},
		{Name: "secret", Text: `forbid (principal, action, resource in Schema::"secret");`},
	}})
	a := d.get(t, "/rest/v1/salaries", acme)
	require.Equal(t, 403, a.status)
	require.JSONEq(t, `{"code":"policy_denied","details":null,"hint":"Forbidden by policy payroll.","message":"A policy does not allow this request"}`, a.body)
	events := d.reported()
	require.Len(t, events, 1)
	require.Equal(t, access.ActionPolicyDenied, events[0].Action)
	require.Equal(t, 403, status("/rest/v1/rpc/f", acme))
	require.Equal(t, 403, status("/rest/v1/embed/t", acme), "embedding is reading, too")
	require.Equal(t, 200, status("/rest/v1/t", acme))
	require.Equal(t, 403, status("/rest/v1/t", acme, with("Accept-Profile", "secret")))
	require.Equal(t, 200, status("/rest/v1/t", acme, with("Content-Profile", "secret")), "not looked at when reading")
	for _, path := range []string{"/rest/v1/salaries", "/rest/v1/rpc/f", "/rest/v1/embed/t"} {
		require.Equal(t, 200, status(path, rival), "they are acme's policies")
	}

	d.knowFleet(t, access.Policy{Name: "read-only", Text: `permit (principal, action in Action::"read", resource);`})
	require.Equal(t, 200, status("/rest/v1/salaries", rival))
	require.Equal(t, 403, status("/rest/v1/salaries", acme))
	post := func(r *http.Request) { r.Method = http.MethodPost }
	a = d.get(t, "/rest/v1/t", rival, post)
	require.Equal(t, 403, a.status)
	require.Contains(t, a.body, "No policy permits it.")

	// What should not be there at all lets nobody pass.
	d.know(t, access.Tenant{Tenant: "acme", Policies: []access.Policy{{Name: "broken", Text: "forbid"}}})
	a = d.get(t, "/rest/v1/t", acme)
	require.Equal(t, 503, a.status)
	require.Contains(t, a.body, `"policy_broken"`)
	require.Contains(t, d.log.String(), "policies cannot be read")
	require.Equal(t, 200, status("/rest/v1/t", rival))
	d.knowFleet(t)
	d.know(t, access.Tenant{Tenant: "acme"})
	require.Equal(t, 200, status("/rest/v1/salaries", acme))
}

// Policies and the audit log see the same client: the one that trusted proxies say.
func TestPoliciesSeeTheClientsAddress(t *testing.T) {
	t.Parallel()
	d := open(t, func(c *gateway.Config) { c.Proxies = []string{"127.0.0.1"} })
	d.know(t, access.Tenant{Tenant: "acme", Policies: []access.Policy{{Name: "office", Text: `forbid (principal, action, resource) unless { context.ip.isInRange(ip("198.51.100.0/24")) };`}}})
	acme := with("Authorization", "Bearer "+d.token(t, "acme"))
	get := func(from string) int { return d.get(t, "/rest/v1/t", acme, with("X-Forwarded-For", from)).status }
	require.Equal(t, 200, get("203.0.113.9, 198.51.100.7"))
	require.Equal(t, 200, get("::ffff:198.51.100.7"))
	require.Equal(t, 403, get("198.51.100.7, 203.0.113.9"), "what a client says of itself counts for nothing")
	events := d.reported()
	require.Len(t, events, 1)
	require.Equal(t, "203.0.113.9", events[0].Remote)

	direct := open(t)
	direct.know(t, access.Tenant{Tenant: "acme", Policies: []access.Policy{{Name: "office", Text: `forbid (principal, action, resource) unless { context.ip.isLoopback() };`}}})
	acme = with("Authorization", "Bearer "+direct.token(t, "acme"))
	require.Equal(t, 200, direct.get(t, "/rest/v1/t", acme, with("X-Forwarded-For", "203.0.113.9")).status, "nobody is trusted")
}

func TestOwnersAreLetIn(t *testing.T) {
	t.Parallel()
	d := open(t)
	tok, err := d.issuer.Mint(issuer.Claims{Tenant: "acme", Role: issuer.RoleOwner})
	require.NoError(t, err)
	require.Equal(t, 200, d.get(t, "/rest/v1/t", with("Authorization", "Bearer "+tok)).status)
	tok, err = d.issuer.Mint(issuer.Claims{Tenant: "acme", Role: "analyst"})
	require.NoError(t, err)
	require.Equal(t, 401, d.get(t, "/rest/v1/t", with("Authorization", "Bearer "+tok)).status, "the tenant has no such role")
	d.know(t, access.Tenant{Tenant: "acme", Roles: []string{"analyst"}})
	require.Equal(t, 200, d.get(t, "/rest/v1/t", with("Authorization", "Bearer "+tok)).status)
}
