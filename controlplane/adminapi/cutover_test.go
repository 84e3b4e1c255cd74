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
	op = into[api.Operation](f.t, f.want(202, "POST", "/v1/operations/"+id+"/pace", `{"max_bytes_per_s":1000000}`))
	require.Empty(f.t, op.Asked.Pace)
	f.want(202, "POST", "/v1/operations/"+id+"/pace", `{"pace":"full"}`)
	op = into[api.Operation](f.t, f.want(200, "GET", "/v1/operations/"+id, ""))
	require.EqualValues(f.t, 1e6, *op.Asked.MaxBytesPerS, "what is left out stays")
	require.Equal(f.t, api.PaceFull, op.Asked.Pace)
}

func TestPacesAreRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.create("settled")
	require.Equal(t, "not_found", f.want(404, "POST", "/v1/operations/0190a0a0-0000-7000-8000-000000000000/pace", `{"pace":"full"}`).problem(t).Code)
	for body, at := range map[string]string{`{"pace":"fast"}`: "#/pace", `{"max_bytes_per_s":1}`: "#/max_bytes_per_s", `{}`: "#"} {
		p := f.want(400, "POST", "/v1/operations/0190a0a0-0000-7000-8000-000000000000/pace", body).problem(t)
		require.Equal(t, "invalid_body", p.Code)
		require.Equal(t, at, p.Errors[0].Pointer)
	}
	require.Equal(t, "#/pace", f.want(400, "POST", "/v1/tenants/settled/move", `{"to":"s2","pace":"fast"}`).problem(t).Errors[0].Pointer)
	id := into[api.Operation](t, f.want(202, "POST", "/v1/tenants/settled/move", `{"to":"s2","pace":"full"}`)).ID
	require.Equal(t, 403, f.ask(adminapi.RoleViewer, "POST", "/v1/operations/"+id+"/pace", `{"pace":"full"}`).StatusCode)
	f.want(409, "POST", "/v1/operations/"+id+"/pace", `{"pace":"full"}`)
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
