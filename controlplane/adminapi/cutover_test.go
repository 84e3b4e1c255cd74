package adminapi_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// everyCutover has a move of a tenant of its own cut over.
func (f *fleet) everyCutover() {
	f.t.Helper()
	f.create("patient")
	id := into[api.Operation](f.t, f.want(202, "POST", "/v1/tenants/patient/move", `{"to":"s2","cutover":"manual"}`)).ID
	op := into[api.Operation](f.t, f.want(202, "POST", "/v1/operations/"+id+"/cutover", ""))
	require.Equal(f.t, id, op.ID)
}

func TestCutoversAreRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.create("hasty")
	const none = "/v1/operations/0190a0a0-0000-7000-8000-000000000000/cutover"
	require.Equal(t, "not_found", f.want(404, "POST", none, "").problem(t).Code)
	require.Equal(t, "invalid_id", f.want(400, "POST", "/v1/operations/x/cutover", "").problem(t).Code)
	require.Equal(t, 403, f.ask(adminapi.RoleViewer, "POST", none, "").StatusCode)
	for _, when := range []string{"soon", "at 2026-01-01T00:00:00Z", "2026-01-01", time.Now().Add(31 * 24 * time.Hour).Format(time.RFC3339)} {
		p := f.want(400, "POST", "/v1/tenants/hasty/move", `{"to":"s2","cutover":"`+when+`"}`).problem(t)
		require.Equal(t, "invalid_body", p.Code)
		require.Equal(t, "#/cutover", p.Errors[0].Pointer)
	}
	id := into[api.Operation](t, f.want(202, "POST", "/v1/tenants/hasty/move", `{"to":"s2","cutover":"`+time.Now().Add(time.Hour).Format(time.RFC3339)+`"}`)).ID
	require.Equal(t, "not_waiting", f.want(409, "POST", "/v1/operations/"+id+"/cutover", "").problem(t).Code)
}
