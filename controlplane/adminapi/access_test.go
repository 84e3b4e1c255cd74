package adminapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/internal/access"
)

func (f *fleet) want(status int, method, path, body string, headers ...header) reply {
	f.t.Helper()
	r := f.ask(adminapi.RoleAdmin, method, path, body, headers...)
	require.Equal(f.t, status, r.StatusCode, "%s %s: %s", method, path, r.body)
	return r
}

// everyAccessVerb gives each of them its good answer, about a tenant of its own.
func (f *fleet) everyAccessVerb() {
	f.t.Helper()
	f.create("gated")
	f.want(200, "PUT", "/v1/plans/pro", `{"limits":{"rate":100,"burst":200,"concurrency":20,"weight":2,"max_body":1000,"max_answer":2000,"max_rows":10,"statement_ms":1500}}`)
	f.want(200, "PUT", "/v1/plans/free", `{}`)
	f.want(200, "GET", "/v1/plans", "")
	f.want(200, "PATCH", "/v1/fleet/access", `{"default_plan":"free","policies":[{"name":"all","text":"permit (principal, action, resource);"}]}`)
	f.want(200, "GET", "/v1/fleet/access", "")
	f.want(404, "GET", "/v1/access/gated", "")
	f.want(200, "GET", "/v1/tenants/gated/access", "")
	f.want(201, "POST", "/v1/tenants/gated/roles", `{"name":"analyst","description":"reads figures"}`)
	f.want(200, "GET", "/v1/tenants/gated/roles", "")
	f.want(200, "PATCH", "/v1/tenants/gated/access", `{"plan":"pro","limits":{"rate":5,"statement_ms":10},"attributes":{"tier":"gold"},"schemas":["public","api"],
		"issuers":[{"url":"https://id.acme.example","default_role":"analyst","algorithms":["ES256"],"role_claim":"app.role"}],
		"policies":[{"name":"none","text":"forbid (principal, action, resource);"}]}`)
	key := into[api.NewKey](f.t, f.want(201, "POST", "/v1/tenants/gated/keys",
		`{"role":"analyst","permissions":["sql"],"description":"etl","expires_at":"2100-01-01T00:00:00Z"}`))
	f.want(200, "GET", "/v1/tenants/gated/keys?limit=1", "")
	f.want(200, "POST", "/v1/tenants/gated/tokens/revoke", `{"id":"jti-1","expires_at":"`+time.Now().Add(time.Hour).Format(time.RFC3339)+`"}`)
	f.want(200, "POST", "/v1/tenants/gated/tokens/revoke", `{"all":true}`)
	for _, path := range []string{"/v1/access/gated", "/v1/access/_fleet"} {
		require.Equal(f.t, http.StatusOK, f.ask(adminapi.RoleNode, "GET", path, "").StatusCode)
	}
	f.want(200, "DELETE", "/v1/tenants/gated/keys/"+key.ID, "")
	f.want(200, "PATCH", "/v1/tenants/gated/access", `{"plan":"","issuers":[]}`)
	f.want(200, "DELETE", "/v1/tenants/gated/roles/analyst", "")
	f.want(200, "DELETE", "/v1/plans/pro", "")
}

func TestAccessIsChangedAndRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.create("acme")
	f.want(200, "PUT", "/v1/plans/pro", `{"limits":{"rate":100,"burst":7}}`)
	first := f.want(200, "PATCH", "/v1/tenants/acme/access", `{"plan":"pro","limits":{"rate":5}}`)
	require.Equal(t, `"1"`, first.Header.Get("ETag"))
	doc := into[api.TenantAccess](t, first)
	require.Equal(t, api.Limits{Rate: 5, Burst: 7}, doc.EffectiveLimits)

	// Of two who read the same version, one wins; asking for what is there already is no change.
	f.want(200, "PATCH", "/v1/tenants/acme/access", `{"limits":{"rate":6}}`, header{"If-Match": `"1"`})
	lost := f.want(412, "PATCH", "/v1/tenants/acme/access", `{"limits":{"rate":7}}`, header{"If-Match": `"1"`})
	require.Equal(t, "changed_meanwhile", lost.problem(t).Code)
	again := f.want(200, "PATCH", "/v1/tenants/acme/access", `{"limits":{"rate":6}}`, header{"If-Match": `"1"`})
	require.Equal(t, `"2"`, again.Header.Get("ETag"))
	f.want(412, "PATCH", "/v1/fleet/access", `{"default_plan":"pro"}`, header{"If-Match": `"1"`})

	// A plan that somebody has stays, and it is said who.
	inUse := f.want(409, "DELETE", "/v1/plans/pro", "")
	require.Equal(t, "in_use", inUse.problem(t).Code)
	require.Contains(t, inUse.problem(t).Detail, "acme")
	f.want(200, "PATCH", "/v1/tenants/acme/access", `{"plan":""}`)
	f.want(200, "PATCH", "/v1/fleet/access", `{"default_plan":"pro"}`)
	require.Contains(t, f.want(409, "DELETE", "/v1/plans/pro", "").problem(t).Detail, "default")
	require.Equal(t, "pro", into[api.TenantAccess](t, f.want(200, "GET", "/v1/tenants/acme/access", "")).EffectivePlan)

	future := time.Now().Add(time.Hour).Format(time.RFC3339)
	before := into[api.TenantAccess](t, f.want(200, "GET", "/v1/tenants/acme/access", "")).Version
	for _, bad := range []struct {
		method, path, body string
		status             int
		place              string
	}{
		{"PUT", "/v1/plans/Pro", `{}`, 400, "plan"},
		{"PUT", "/v1/plans/pro", `{"limits":{"rate":-1}}`, 400, "#/limits"},
		{"PUT", "/v1/plans/pro", `{"limits":{"rat":1}}`, 400, "#/limits/rat"},
		{"PUT", "/v1/plans/pro", `{"limits":{"statement_ms":86400001}}`, 400, "#/limits/statement_ms"},
		{"DELETE", "/v1/plans/none", ``, 404, ""},
		{"PATCH", "/v1/fleet/access", `{"default_plan":"none"}`, 404, ""},
		{"PATCH", "/v1/fleet/access", `{"default_plan":null}`, 400, "#/default_plan"},
		{"PATCH", "/v1/fleet/access", `{"policies":[{"name":"p","text":"permit"}]}`, 400, ""},
		{"PATCH", "/v1/tenants/nobody/access", `{"plan":"pro"}`, 404, ""},
		{"PATCH", "/v1/tenants/acme/access", `{"plan":"none"}`, 404, ""},
		{"PATCH", "/v1/tenants/acme/access", `{"limits":null}`, 400, "#/limits"},
		{"PATCH", "/v1/tenants/acme/access", `{"schemas":["pg_catalog"]}`, 400, ""},
		{"PATCH", "/v1/tenants/acme/access", `{"attributes":{"Tier":"x"}}`, 400, ""},
		{"PATCH", "/v1/tenants/acme/access", `{"issuers":[{"url":"ftp://x"}]}`, 400, ""},
		{"PATCH", "/v1/tenants/acme/access", `{"issuers":[{"url":"https://x","algorithms":["HS256"]}]}`, 400, ""},
		{"PATCH", "/v1/tenants/acme/access", `{"issuers":[{"url":"https://x","default_role":"nobodys"}]}`, 400, ""},
		{"PATCH", "/v1/tenants/acme/access", `{"policies":[{"name":"p","text":"permit"}]}`, 400, ""},
		{"POST", "/v1/tenants/acme/keys", `{"role":"nobodys"}`, 400, ""},
		{"POST", "/v1/tenants/acme/keys", `{"role":"editor","permissions":["all"]}`, 400, ""},
		{"POST", "/v1/tenants/acme/keys", `{"role":"editor","expires_at":"2020-01-01T00:00:00Z"}`, 400, ""},
		{"POST", "/v1/tenants/nobody/keys", `{"role":"editor"}`, 404, ""},
		{"DELETE", "/v1/tenants/acme/keys/0123456789ab", ``, 404, ""},
		{"DELETE", "/v1/tenants/acme/keys/fh_acme_0123456789ab_secret", ``, 400, "key"},
		{"POST", "/v1/tenants/acme/tokens/revoke", `{}`, 400, "#/id"},
		{"POST", "/v1/tenants/acme/tokens/revoke", `{"id":"x"}`, 400, "#/expires_at"},
		{"POST", "/v1/tenants/acme/tokens/revoke", `{"id":"x","expires_at":"2020-01-01T00:00:00Z"}`, 400, ""},
		{"POST", "/v1/tenants/acme/tokens/revoke", `{"id":"x","expires_at":"` + future + `","all":true}`, 400, "#/all"},
		{"POST", "/v1/tenants/acme/roles", `{"name":"owner"}`, 400, "#/name"},
		{"POST", "/v1/tenants/acme/roles", `{"name":"a-b"}`, 400, "#/name"},
		{"DELETE", "/v1/tenants/acme/roles/analyst", ``, 404, ""},
	} {
		r := f.want(bad.status, bad.method, bad.path, bad.body)
		if bad.place != "" {
			require.NotEmpty(t, r.problem(t).Errors, "%s %s %s: %s", bad.method, bad.path, bad.body, r.body)
			place := r.problem(t).Errors[0]
			require.Equal(t, bad.place, place.Pointer+place.Parameter, "%s", r.body)
		}
		require.NotContains(t, string(r.body), "secret")
	}
	f.want(400, "PATCH", "/v1/tenants/acme/access", `{"plan":""}`, header{"If-Match": `W/"1"`})
	require.Equal(t, before, into[api.TenantAccess](t, f.want(200, "GET", "/v1/tenants/acme/access", "")).Version, "nothing was changed")
}

func TestKeysAndRoles(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.create("acme")
	f.want(201, "POST", "/v1/tenants/acme/roles", `{"name":"analyst"}`, header{"Idempotency-Key": "role-1"})
	f.want(201, "POST", "/v1/tenants/acme/roles", `{"name":"analyst"}`, header{"Idempotency-Key": "role-1"})
	require.Equal(t, "already_exists", f.want(409, "POST", "/v1/tenants/acme/roles", `{"name":"analyst"}`).problem(t).Code)
	require.Contains(t, f.want(400, "POST", "/v1/tenants/acme/keys", `{"role":"editor"}`, header{"Idempotency-Key": "k"}).problem(t).Errors[0].Detail, "secret")
	key := into[api.NewKey](t, f.want(201, "POST", "/v1/tenants/acme/keys", `{"role":"analyst"}`))
	tenant, id, err := access.ParseKey(key.Text)
	require.NoError(t, err)
	require.Equal(t, []string{"acme", key.ID}, []string{string(tenant), id})
	node := into[access.Tenant](t, f.ask(adminapi.RoleNode, "GET", "/v1/access/acme", ""))
	require.True(t, node.Key(id).Matches(key.Text))
	require.NoError(t, node.Validate())
	require.Contains(t, f.want(409, "DELETE", "/v1/tenants/acme/roles/analyst", "").problem(t).Detail, "key "+id)
	require.Equal(t, "revoked", into[api.Key](t, f.want(200, "DELETE", "/v1/tenants/acme/keys/"+id, "")).State)
	require.Equal(t, "revoked", into[api.Key](t, f.want(200, "DELETE", "/v1/tenants/acme/keys/"+id, "")).State)
	require.Empty(t, into[access.Tenant](t, f.ask(adminapi.RoleNode, "GET", "/v1/access/acme", "")).Keys)
	require.Len(t, into[api.Page[api.Key]](t, f.want(200, "GET", "/v1/tenants/acme/keys", "")).Items, 1)

	// While the tenant moves, its roles stay as they are.
	f.want(202, "POST", "/v1/tenants/acme/move", `{"to":"s2"}`)
	require.Equal(t, "operation_under_way", f.want(409, "POST", "/v1/tenants/acme/roles", `{"name":"late"}`).problem(t).Code)
	require.Equal(t, "operation_under_way", f.want(409, "DELETE", "/v1/tenants/acme/roles/analyst", "").problem(t).Code)

	f.create("beta")
	f.Domain.Fail = func() error { return fmt.Errorf("connection refused") }
	away := f.want(503, "POST", "/v1/tenants/beta/roles", `{"name":"analyst"}`).problem(t)
	require.Equal(t, "shard_unavailable", away.Code)
	require.NotContains(t, away.Detail, "refused")
	require.Empty(t, into[api.Page[api.TenantRole]](t, f.want(200, "GET", "/v1/tenants/beta/roles", "")).Items)

	// The audit log knows who got in by what, and holds no secret.
	var log strings.Builder
	rows, err := f.Store.Pool().Query(testContext(t), `select record::text from audit_outbox`)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var r json.RawMessage
		require.NoError(t, rows.Scan(&r))
		log.Write(r)
	}
	require.NoError(t, rows.Err())
	for _, action := range []string{"key.create", "key.revoke", "role.create"} {
		require.Contains(t, log.String(), action)
	}
	require.Contains(t, log.String(), id)
	secret := key.Text[strings.LastIndex(key.Text, "_")+1:]
	for where, text := range map[string]string{"audit log": log.String(), "log": f.Log.String()} {
		require.NotContains(t, text, secret, where)
		require.NotContains(t, text, node.Keys[0].Hash, where)
	}
}

func TestWhoMayChangeAccess(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.create("acme")
	for role, want := range map[adminapi.Role]int{adminapi.RoleViewer: 403, adminapi.RoleNode: 403, adminapi.RoleOperator: 200} {
		require.Equal(t, want, f.ask(role, "PATCH", "/v1/tenants/acme/access", `{"limits":{"rate":5}}`).StatusCode, role)
	}
	for _, body := range []string{`{"issuers":[]}`, `{"policies":[]}`, `{"attributes":{}}`, `{"schemas":[]}`} {
		require.Equal(t, 403, f.ask(adminapi.RoleOperator, "PATCH", "/v1/tenants/acme/access", body).StatusCode, body)
	}
	require.Equal(t, 403, f.ask(adminapi.RoleOperator, "POST", "/v1/tenants/acme/keys", `{"role":"viewer"}`).StatusCode)
	for path, role := range map[string]adminapi.Role{"/v1/access/acme": adminapi.RoleOperator, "/v1/access/_fleet": adminapi.RoleViewer, "/v1/plans": adminapi.RoleNode} {
		require.Equal(t, 403, f.ask(role, "GET", path, "").StatusCode, path)
	}
}
