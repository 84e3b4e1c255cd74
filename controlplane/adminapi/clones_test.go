package adminapi_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// everyCloneVerb gives each of them its good answer, about tenants of its own; the gate must be open.
func (f *fleet) everyCloneVerb() {
	f.t.Helper()
	f.create("sheep")
	require.Contains(f.t, string(f.want(200, "POST", "/v1/tenants/sheep/clone", `{"id":"dolly","dry_run":true}`).body), `"feasible":true`)
	op := into[api.Operation](f.t, f.want(202, "POST", "/v1/tenants/sheep/clone", `{"id":"dolly","display_name":"Dolly","to":"s2","schema_only":true,"max_bytes_per_s":1000000}`))
	require.EqualValues(f.t, "dolly", op.Tenant, "the operation is the new tenant's")
	f.ended(op.ID)

	plan := into[api.UpgradePlan](f.t, f.want(200, "GET", "/v1/shards/s1/upgrade?to=s2&limit=1", ""))
	require.Equal(f.t, "18.4", plan.To.Postgres)
	require.Len(f.t, plan.Items, 1)
	require.NotEmpty(f.t, plan.NextCursor)
	seen := map[string]bool{}
	for plan.NextCursor != "" {
		plan = into[api.UpgradePlan](f.t, f.want(200, "GET", "/v1/shards/s1/upgrade?to=s2&limit=1&cursor="+plan.NextCursor, ""))
		for _, p := range plan.Items {
			seen[string(p.Tenant)] = p.Feasible
		}
	}
	require.True(f.t, seen["sheep"])
}

func TestClonesAreRefusedAndPlanned(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.create("clumsy")
	f.create("acme")
	for _, c := range []struct {
		path, body string
		status     int
		code       string
	}{
		{"/v1/tenants/nobody/clone", `{"id":"copy"}`, 404, "not_found"},
		{"/v1/tenants/acme/clone", `{"id":"clumsy"}`, 409, "already_exists"},
		{"/v1/tenants/acme/clone", `{"id":"Copy"}`, 400, "invalid_id"},
		{"/v1/tenants/acme/clone", `{}`, 400, "invalid_id"},
		{"/v1/tenants/acme/clone", `{"id":"copy","to":"nowhere"}`, 404, "not_found"},
		{"/v1/tenants/acme/clone", `{"id":"copy","to":"no where"}`, 400, "invalid_id"},
		{"/v1/tenants/acme/clone", `{"id":"copy","max_bytes_per_s":1}`, 400, "invalid_body"},
		{"/v1/tenants/acme/clone", `{"id":"copy","keys":true}`, 400, "invalid_body"},
	} {
		require.Equal(t, c.code, f.want(c.status, "POST", c.path, c.body).problem(t).Code, "%+v", c)
	}
	dry := into[api.Plan](t, f.want(200, "POST", "/v1/tenants/clumsy/clone", `{"id":"copy","dry_run":true}`))
	require.False(t, dry.Feasible)
	require.Equal(t, "the clone can't be made; there are large objects (remove them)", dry.Refusal)

	plan := into[api.UpgradePlan](t, f.want(200, "GET", "/v1/shards/s1/upgrade?to=s2", ""))
	for _, p := range plan.Items {
		require.Equal(t, p.Tenant != "clumsy", p.Feasible)
		if !p.Feasible {
			require.Equal(t, "install its package there", p.Refusals[0].Remedy)
		}
	}
	require.Len(t, plan.Items, 2)
	require.Equal(t, "invalid_parameter", f.want(400, "GET", "/v1/shards/s1/upgrade", "").problem(t).Code)
	require.Equal(t, "not_found", f.want(404, "GET", "/v1/shards/s1/upgrade?to=s9", "").problem(t).Code)
}
