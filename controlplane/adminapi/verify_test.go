package adminapi_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// everyVerification compares the move of a tenant of its own, and finds the comparison again.
func (f *fleet) everyVerification() {
	f.t.Helper()
	f.create("proven")
	id := into[api.Operation](f.t, f.want(202, "POST", "/v1/tenants/proven/move", `{"to":"s2"}`)).ID
	done := into[api.Operation](f.t, f.want(200, "POST", "/v1/operations/"+id+"/verify", `{"only_pks":true,"sample":12.5,"max_bytes_per_s":1000000}`))
	require.Contains(f.t, string(done.Receipt), `"outcome":"equal"`)
	page := into[api.Page[api.Operation]](f.t, f.want(200, "GET", "/v1/operations?kind=move-verify&of="+id, ""))
	require.Len(f.t, page.Items, 1)
	require.Equal(f.t, done.ID, page.Items[0].ID)
	require.Empty(f.t, into[api.Page[api.Operation]](f.t, f.want(200, "GET", "/v1/operations?of="+done.ID, "")).Items)
}

func TestVerificationsRefusals(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.create("acme")
	const none = "/v1/operations/0190a0a0-0000-7000-8000-000000000000/verify"
	require.Equal(t, "not_found", f.want(404, "POST", none, "").problem(t).Code)
	require.Equal(t, "invalid_id", f.want(400, "POST", "/v1/operations/x/verify", "").problem(t).Code)
	for body, at := range map[string]string{`{"sample":101}`: "#/sample", `{"sample":-1}`: "#/sample", `{"max_bytes_per_s":7}`: "#/max_bytes_per_s"} {
		p := f.want(400, "POST", none, body).problem(t)
		require.Equal(t, "invalid_body", p.Code)
		require.Equal(t, at, p.Errors[0].Pointer)
	}
	require.Equal(t, "invalid_parameter", f.want(400, "GET", "/v1/operations?of=7", "").problem(t).Code)
	require.Equal(t, 403, f.ask(adminapi.RoleViewer, "POST", none, "").StatusCode)
	id := into[api.Operation](t, f.want(202, "POST", "/v1/tenants/acme/move", `{"to":"s2"}`)).ID
	done := into[api.Operation](t, f.want(200, "POST", "/v1/operations/"+id+"/verify", ""))
	require.Equal(t, "conflicting_state", f.want(409, "POST", "/v1/operations/"+done.ID+"/verify", "").problem(t).Code, "it is no move")
}
