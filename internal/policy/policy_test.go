package policy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/policy"
)

func compile(t testing.TB, texts ...string) *policy.Set {
	t.Helper()
	var list []access.Policy
	for i, text := range texts {
		list = append(list, access.Policy{Name: fmt.Sprintf("p%d", i), Text: text})
	}
	s, err := policy.Compile(list)
	require.NoError(t, err)
	return s
}

var (
	alice = policy.NewPrincipal(policy.Who{Tenant: "acme", Subject: "alice", Role: "editor", Permissions: []string{"sql"}, Issuer: "https://idp.example",
		Claims: []byte(`{"sub":"alice","app_metadata":{"department":"hr","level":3,"ratio":1.5,"none":null},"groups":["a","b"]}`)})
	robot = policy.NewPrincipal(policy.Who{Tenant: "acme", Subject: "0123456789ab", Key: true, Role: "viewer"})
	noon  = policy.Context{Attributes: map[string]string{"tier": "gold"}, IP: netip.MustParseAddr("10.1.2.3"),
		Time: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), Headers: map[string]string{"user-agent": "curl/8"}}
)

func on(method string, kind policy.Kind, name string) policy.What {
	return policy.What{Tenant: "acme", Method: method, Kind: kind, Schema: "public", Name: name}
}

func TestWhatPoliciesSee(t *testing.T) {
	t.Parallel()
	get, post := on("GET", policy.Table, "projects"), on("POST", policy.Table, "projects")
	salaries, call := on("GET", policy.Table, "salaries"), on("POST", policy.Function, "raise")
	sql := policy.What{Tenant: "acme", Method: "POST", Kind: policy.SQL}
	root := on("GET", policy.Root, "")
	for _, c := range []struct {
		text string
		who  policy.Principal
		what policy.What
		want bool
	}{
		// A forbid takes away, and leaves the rest.
		{`forbid (principal, action, resource == Table::"public.salaries");`, alice, salaries, false},
		{`forbid (principal, action, resource == Table::"public.salaries");`, alice, get, true},
		{`forbid (principal, action in Action::"write", resource);`, alice, post, false},
		{`forbid (principal, action in Action::"write", resource);`, alice, get, true},
		{`forbid (principal, action in Action::"write", resource);`, alice, call, true},
		{`forbid (principal, action == Action::"DELETE", resource);`, alice, on("DELETE", policy.Table, "projects"), false},
		{`forbid (principal, action == Action::"DELETE", resource);`, alice, on("PATCH", policy.Table, "projects"), true},
		{`forbid (principal, action in Action::"call", resource);`, alice, call, false},
		{`forbid (principal, action in Action::"call", resource);`, alice, on("GET", policy.Function, "f"), false},
		{`forbid (principal, action in Action::"read", resource);`, alice, on("GET", policy.Function, "f"), false},
		{`forbid (principal, action in Action::"read", resource);`, alice, on("HEAD", policy.Table, "f"), false},
		{`forbid (principal, action in Action::"sql", resource);`, alice, sql, false},
		{`forbid (principal, action in Action::"sql", resource);`, alice, post, true},
		{`forbid (principal, action, resource is Root);`, alice, root, false},
		{`forbid (principal, action, resource in Schema::"public");`, alice, get, false},
		{`forbid (principal, action, resource in Schema::"other");`, alice, get, true},
		{`forbid (principal, action, resource in Tenant::"acme");`, alice, get, false},
		{`forbid (principal, action, resource) when { resource.kind == "table" && resource.name like "sal*" };`, alice, salaries, false},
		{`@id("x") @type("y") forbid (principal, action, resource is Root);`, alice, root, false},
		// Who asks.
		{`forbid (principal in Role::"editor", action, resource);`, alice, get, false},
		{`forbid (principal in Role::"viewer", action, resource);`, alice, get, true},
		{`forbid (principal is Key, action, resource);`, robot, get, false},
		{`forbid (principal is Key, action, resource);`, alice, get, true},
		{`forbid (principal == User::"alice", action, resource);`, alice, get, false},
		{`forbid (principal, action, resource) when { principal.permissions.contains("sql") };`, alice, get, false},
		{`forbid (principal, action, resource) unless { principal has claims.app_metadata.department && principal.claims.app_metadata.department == "hr" };`, alice, get, true},
		{`forbid (principal, action, resource) when { principal.claims.app_metadata.level > 2 };`, alice, get, false},
		{`forbid (principal, action, resource) when { principal.claims.app_metadata has ratio || principal.claims.app_metadata has none };`, alice, get, true},
		{`forbid (principal, action, resource) when { principal.claims.groups.contains("b") };`, alice, get, false},
		// What it comes with.
		{`forbid (principal, action, resource) unless { context.attributes.tier == "gold" };`, alice, get, true},
		{`forbid (principal, action, resource) unless { context.ip.isInRange(ip("10.0.0.0/8")) };`, alice, get, true},
		{`forbid (principal, action, resource) unless { context.ip.isInRange(ip("192.168.0.0/16")) };`, alice, get, false},
		{`forbid (principal, action, resource) when { context.time > datetime("2026-11-23T11:00:00Z") };`, alice, get, false},
		{`forbid (principal, action, resource) when { context.headers has "user-agent" && context.headers["user-agent"] like "curl*" };`, alice, get, false},
		// What a forbid cannot judge it refuses.
		{`forbid (principal, action, resource) unless { principal.claims.department == "hr" };`, alice, get, false},
		// With a permit of one's own, the rest is denied.
		{`permit (principal, action in Action::"read", resource);`, alice, get, true},
		{`permit (principal, action in Action::"read", resource);`, alice, post, false},
		{`permit (principal, action, resource); forbid (principal, action in Action::"write", resource);`, alice, post, false},
		{`permit (principal, action, resource) when { principal.claims.department == "hr" };`, alice, get, false},
	} {
		d := policy.Judge(policy.NewRequest(c.who, c.what, noon), compile(t, c.text))
		require.Equal(t, c.want, d.Allowed, "%s: %+v", c.text, d)
	}
}

func TestSetsNarrowEachOther(t *testing.T) {
	t.Parallel()
	get := policy.NewRequest(alice, on("GET", policy.Table, "projects"), noon)
	fleet := compile(t, `forbid (principal, action, resource == Table::"public.projects");`)
	tenant := compile(t, `permit (principal, action, resource);`, `forbid (principal, action in Action::"write", resource);`)

	require.True(t, policy.Judge(get).Allowed, "no policies: as roles allow")
	require.True(t, policy.Judge(get, nil, compile(t)).Allowed)
	require.True(t, policy.Judge(get, nil, tenant).Allowed)
	d := policy.Judge(get, fleet, tenant)
	require.False(t, d.Allowed, "a tenant's permit does not undo a fleet's forbid")
	require.Equal(t, []string{"p0"}, d.Policies)
	d = policy.Judge(get, compile(t, `permit (principal, action in Action::"write", resource);`), tenant)
	require.False(t, d.Allowed)
	require.Empty(t, d.Policies, "nothing permitted it")
	d = policy.Judge(get, compile(t, `forbid (principal, action, resource) when { context.nothing };`))
	require.False(t, d.Allowed)
	require.Equal(t, []string{"p0"}, d.Policies)
	require.Contains(t, d.Errors[0], "policy p0, line 1")

	require.True(t, compile(t).Empty())
	require.True(t, (*policy.Set)(nil).Empty())
	require.False(t, fleet.Empty())
}

// Whatever policies say, nobody gets at another tenant's.
func TestTenantsAreApart(t *testing.T) {
	t.Parallel()
	what := on("GET", policy.Table, "projects")
	what.Tenant = "rival"
	d := policy.Judge(policy.NewRequest(alice, what, noon), compile(t, `permit (principal, action, resource);`))
	require.False(t, d.Allowed)
	require.Equal(t, []string{"_tenant"}, d.Policies)
}

func TestBrokenPoliciesAreRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`forbid (principal, action, resource`:                                                   "p",
		`allow (principal, action, resource);`:                                                  "p",
		`// nothing`:                                                                            "no statement",
		`forbid (principal, action == Action::"select", resource);`:                             `no Action::"select"`,
		`forbid (principal, action in [Action::"read", Action::"wrte"], resource);`:             `no Action::"wrte"`,
		`forbid (principal in Roles::"editor", action, resource);`:                              `type "Roles"`,
		`forbid (principal is Robot, action, resource);`:                                        `type "Robot"`,
		"\n\n" + `forbid (principal, action, resource) when { resource == Tabel::"public.t" };`: `p, line 3: there are no entities of type "Tabel"`,
		`forbid (principal, action, resource) when { principal is Usr in Role::"x" };`:          `type "Usr"`,
		strings.Repeat("(", 100_000):                                                            "p",
	} {
		_, err := policy.Compile([]access.Policy{{Name: "p", Text: text}})
		require.ErrorContains(t, err, want, "%.80s", text)
	}
}

func FuzzCompile(f *testing.F) {
	f.Add(`forbid (principal, action in Action::"write", resource) when { context.ip.isInRange(ip("10.0.0.0/8")) };`)
	f.Add(`permit (principal, action, resource) unless { principal.claims has a.b && [1, "x"].contains(principal.claims.a) };`)
	r := policy.NewRequest(alice, on("GET", policy.Table, "projects"), noon)
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := policy.Compile([]access.Policy{{Name: "p", Text: text}}); err == nil {
			policy.Judge(r, s)
		}
	})
}

func BenchmarkJudge(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, "forbid (principal in Role::\"viewer\", action in Action::\"write\", resource == Table::\"public.t%d\") unless { context.ip.isInRange(ip(\"10.0.0.0/8\")) };\n", i)
		}
		set := compile(b, text.String())
		b.Run(fmt.Sprintf("policies=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !policy.Judge(policy.NewRequest(alice, on("GET", policy.Table, "projects"), noon), set).Allowed {
					b.Fatal("refused")
				}
			}
		})
	}
}
