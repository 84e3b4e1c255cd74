package adminapi_test

import (
	"net/http"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/adminapi"
)

// everySecretVerb calls what is about credentials until each has given its good answers.
func (f *fleet) everySecretVerb() {
	f.t.Helper()
	admin := adminapi.RoleAdmin
	good := func(method, path, body string) reply {
		r := f.ask(admin, method, path, body)
		require.Contains(f.t, []int{http.StatusOK, http.StatusAccepted}, r.StatusCode, "%s: %s", path, r.body)
		return r
	}
	f.create("vault-keeper")
	listed := string(good("GET", "/v1/secrets?kind=tenant&tenant=vault-keeper&shard=s1", "").body)
	require.Contains(f.t, listed, `"generation":1`)
	require.NotContains(f.t, listed, "password")
	require.Equal(f.t, http.StatusBadRequest, f.ask(admin, "GET", "/v1/secrets?kind=nobody", "").StatusCode)
	for _, path := range []string{"/v1/tenants/vault-keeper/secret/rotate", "/v1/shards/s1/secret/rotate", "/v1/secrets/rotate"} {
		require.Contains(f.t, string(good("POST", path, `{"dry_run":true}`).body), `"feasible":true`)
		done := into[struct{ ID string }](f.t, good("POST", path, ""))
		good("GET", "/v1/operations/"+done.ID+"/watch", "") // ends with the operation
	}
	require.Equal(f.t, http.StatusBadRequest, f.ask(admin, "POST", "/v1/secrets/rotate", `{"at_once":65}`).StatusCode)
	good("POST", "/v1/tenants/vault-keeper/secret/revoke", "")
	good("POST", "/v1/shards/s1/secret/revoke", "")
	require.Equal(f.t, http.StatusNotFound, f.ask(admin, "POST", "/v1/tenants/nobody/secret/rotate", "").StatusCode)
	require.Equal(f.t, http.StatusForbidden, f.ask(adminapi.RoleOperator, "POST", "/v1/secrets/rotate", "").StatusCode)
}
