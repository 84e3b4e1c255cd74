package access_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/access"
)

func TestDocumentsAreChecked(t *testing.T) {
	t.Parallel()
	_, key, err := access.NewKey("acme", "analyst", nil, time.Time{})
	require.NoError(t, err)
	good := func() *access.Tenant {
		return &access.Tenant{
			Tenant: "acme", Version: 3, Plan: "gold", Attributes: map[string]string{"tier": "gold"},
			Issuers: []access.Issuer{{URL: "https://sso.acme.example/x", RoleClaim: "https://acme.example/role", DefaultRole: "viewer", Algorithms: []string{"ES256"}}},
			Schemas: []string{"public", "Ünter Tage"}, Roles: []string{"analyst"}, Keys: []access.Key{key},
			Policies: []access.Policy{{Name: "hours", Text: "forbid(principal,action,resource);"}},
			Revoked:  []access.Revocation{{ID: "x"}},
		}
	}
	require.NoError(t, good().Validate())
	for name, spoil := range map[string]func(*access.Tenant){
		"tenant":            func(d *access.Tenant) { d.Tenant = "_fleet" },
		"version":           func(d *access.Tenant) { d.Version = 0 },
		"plan":              func(d *access.Tenant) { d.Plan = "Gold" },
		"negative limit":    func(d *access.Tenant) { d.Limits.MaxRows = -1 },
		"rate that is none": func(d *access.Tenant) { d.Limits.Rate = math.NaN() },
		"attribute":         func(d *access.Tenant) { d.Attributes = map[string]string{"a b": ""} },
		"attribute's value": func(d *access.Tenant) { d.Attributes = map[string]string{"a": "\xff"} },
		"issuer without":    func(d *access.Tenant) { d.Issuers[0].URL = "" },
		"issuer's scheme":   func(d *access.Tenant) { d.Issuers[0].URL = "file:///etc/passwd" },
		"issuer's user":     func(d *access.Tenant) { d.Issuers[0].URL = "https://u:p@sso.example" },
		"jwks":              func(d *access.Tenant) { d.Issuers[0].JWKSURL = "gopher://x" },
		"HMAC":              func(d *access.Tenant) { d.Issuers[0].Algorithms = []string{"HS256"} },
		"none":              func(d *access.Tenant) { d.Issuers[0].Algorithms = []string{"none"} },
		"role claim":        func(d *access.Tenant) { d.Issuers[0].RoleClaim = "a..b" },
		"default role":      func(d *access.Tenant) { d.Issuers[0].DefaultRole = "Admin" },
		"issuer twice":      func(d *access.Tenant) { d.Issuers = append(d.Issuers, d.Issuers[0]) },
		"catalog's schema":  func(d *access.Tenant) { d.Schemas = []string{"pg_catalog"} },
		"platform's schema": func(d *access.Tenant) { d.Schemas = []string{"public", "freehold"} },
		"schema with NUL":   func(d *access.Tenant) { d.Schemas = []string{"a\x00"} },
		"schema twice":      func(d *access.Tenant) { d.Schemas = []string{"a", "a"} },
		"built-in role":     func(d *access.Tenant) { d.Roles = []string{"owner"} },
		"role with quote":   func(d *access.Tenant) { d.Roles = []string{`a"b`} },
		"key's hash":        func(d *access.Tenant) { d.Keys[0].Hash = "00" },
		"key's ID":          func(d *access.Tenant) { d.Keys[0].ID = "ABCDEF012345" },
		"policy's name":     func(d *access.Tenant) { d.Policies[0].Name = "a b" },
		"policy's text":     func(d *access.Tenant) { d.Policies[0].Text = " " },
		"too long a policy": func(d *access.Tenant) { d.Policies[0].Text = strings.Repeat("x", access.MaxPolicyBytes+1) },
		"revocation":        func(d *access.Tenant) { d.Revoked[0].ID = "" },
		"too many attribute": func(d *access.Tenant) {
			for i := range 65 {
				d.Attributes[fmt.Sprint("a", i)] = ""
			}
		},
	} {
		d := good()
		spoil(d)
		require.Error(t, d.Validate(), name)
	}

	fleet := access.Fleet{Version: 1, Plans: map[string]access.Limits{"free": {Rate: 1}}, DefaultPlan: "free"}
	require.NoError(t, fleet.Validate())
	require.Error(t, new(access.Fleet).Validate())
	fleet.Plans["No"] = access.Limits{}
	require.Error(t, fleet.Validate())
}

func TestEvents(t *testing.T) {
	t.Parallel()
	e := access.NewEvent("n1", access.ActionCrossTenant, "acme")
	require.NoError(t, e.Validate())
	e.Claimed = strings.Repeat("ü", 1000)
	require.Equal(t, strings.Repeat("ü", 256), e.Clip().Claimed)
	e.Claimed = "x" + e.Claimed
	require.Equal(t, "x"+strings.Repeat("ü", 255), e.Clip().Claimed)
	for _, bad := range []access.Event{{}, {ID: e.ID}, {ID: e.ID, Tenant: "acme", Node: "n", Time: e.Time}, {ID: e.ID, Tenant: "acme", Action: e.Action}} {
		require.Error(t, bad.Validate())
	}
}
