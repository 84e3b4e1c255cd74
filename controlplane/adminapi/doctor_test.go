package adminapi_test

import (
	"net/http"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

func (f *fleet) everyDoctorVerb() {
	r := into[api.SecurityReport](f.t, f.want(200, "GET", "/v1/doctor/security", ""))
	require.Len(f.t, r.Findings, 1)
	require.Equal(f.t, 5, r.Looked)
	r = into[api.SecurityReport](f.t, f.want(200, "GET", "/v1/doctor/security?shard=s2&all=true", ""))
	require.Empty(f.t, r.Findings)
	require.Equal(f.t, 10, r.Looked)
	f.want(http.StatusNotFound, "GET", "/v1/doctor/security?shard=s9", "")
	for _, bad := range []string{"?shard=S1", "?all=perhaps", "?deep=true"} {
		f.want(http.StatusBadRequest, "GET", "/v1/doctor/security"+bad, "")
	}
	require.Equal(f.t, http.StatusForbidden, f.ask(adminapi.RoleViewer, "GET", "/v1/doctor/security", "").StatusCode)
}
