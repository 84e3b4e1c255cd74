package adminapi_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// soaked moves a tenant with a soak, as if: the gate must be open.
func (f *fleet) soaked(tenant string) string {
	f.t.Helper()
	op := into[api.Operation](f.t, f.want(202, "POST", "/v1/tenants/"+tenant+"/move", `{"to":"s2","soak_seconds":1800}`))
	f.ended(op.ID)
	return op.ID
}

// ended watches an operation to its end.
func (f *fleet) ended(id string) {
	f.t.Helper()
	require.Contains(f.t, string(f.want(200, "GET", "/v1/operations/"+id+"/watch", "").body), `"state":"done"`)
}

// everySoakVerb gives each of them its good answer, about tenants of its own.
func (f *fleet) everySoakVerb() {
	f.t.Helper()
	close(f.Domain.Gate)
	f.create("fickle")
	f.create("settled")
	fickle, settled := f.soaked("fickle"), f.soaked("settled")
	k := into[api.Soak](f.t, f.want(200, "GET", "/v1/operations/"+fickle+"/soak", ""))
	require.Equal(f.t, "soaking", k.State)
	require.EqualValues(f.t, "fickle", k.Tenant)
	page := into[api.Page[api.Soak]](f.t, f.want(200, "GET", "/v1/soaks?live=true&limit=1", ""))
	require.Len(f.t, page.Items, 1)
	require.Equal(f.t, settled, page.Items[0].Operation)
	page = into[api.Page[api.Soak]](f.t, f.want(200, "GET", "/v1/soaks?live=true&limit=1&cursor="+page.NextCursor, ""))
	require.Equal(f.t, fickle, page.Items[0].Operation)

	require.Contains(f.t, string(f.want(200, "POST", "/v1/operations/"+fickle+"/reverse", `{"dry_run":true}`).body), `"feasible":true`)
	back := into[api.Operation](f.t, f.want(202, "POST", "/v1/operations/"+fickle+"/reverse", `{"max_pause_ms":200,"soak_seconds":60,"cutover":"auto"}`))
	f.ended(back.ID)
	done := into[api.Operation](f.t, f.want(202, "POST", "/v1/operations/"+settled+"/complete", ""))
	f.ended(done.ID)
	require.Empty(f.t, into[api.Page[api.Soak]](f.t, f.want(200, "GET", "/v1/soaks?live=true", "")).Items)
	require.Len(f.t, into[api.Page[api.Soak]](f.t, f.want(200, "GET", "/v1/soaks?tenant=fickle", "")).Items, 1)
}

func TestSoaksRefusals(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	close(f.Domain.Gate)
	f.create("acme")
	f.create("clumsy")
	const none = "/v1/operations/0190a0a0-0000-7000-8000-000000000000"
	require.Equal(t, "not_found", f.want(404, "POST", none+"/reverse", "").problem(t).Code)
	require.Equal(t, "not_found", f.want(404, "POST", none+"/complete", "").problem(t).Code)
	require.Equal(t, "not_found", f.want(404, "GET", none+"/soak", "").problem(t).Code)
	require.Equal(t, "invalid_id", f.want(400, "POST", "/v1/operations/x/reverse", "").problem(t).Code)
	require.Equal(t, "invalid_parameter", f.want(400, "GET", "/v1/soaks?alive=true", "").problem(t).Code)
	id := f.soaked("acme")
	require.Equal(t, "invalid_body", f.want(400, "POST", "/v1/operations/"+id+"/reverse", `{"max_pause_ms":1}`).problem(t).Code)
	require.Equal(t, "invalid_body", f.want(400, "POST", "/v1/operations/"+id+"/reverse", `{"soak_seconds":99999999}`).problem(t).Code)
	require.Equal(t, "#/cutover", f.want(400, "POST", "/v1/operations/"+id+"/reverse", `{"cutover":"soon"}`).problem(t).Errors[0].Pointer)
	require.Equal(t, 403, f.ask(adminapi.RoleViewer, "POST", "/v1/operations/"+id+"/reverse", "").StatusCode)
	clumsy := f.soaked("clumsy")
	require.Contains(t, string(f.want(200, "POST", "/v1/operations/"+clumsy+"/reverse", `{"dry_run":true}`).body), `"feasible":false`)
	f.ended(into[api.Operation](t, f.want(202, "POST", "/v1/operations/"+id+"/complete", "")).ID)
	refused := f.want(409, "POST", "/v1/operations/"+id+"/reverse", "").problem(t)
	require.Equal(t, "no_soak", refused.Code)
	require.Contains(t, refused.Hint, "tenant move soaks")
}
