package adminapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/controlplane/adminapi/admintest"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/internal/secret"
)

var file = header{"Content-Type": "application/octet-stream"}

// everyRemoveVerb takes a shard out that has nothing on it.
func (f *fleet) everyRemoveVerb() {
	f.t.Helper()
	why := f.want(409, "DELETE", "/v1/shards/s3", "").problem(f.t)
	require.Contains(f.t, why.Detail, "drain it first")
	_, err := f.Store.Pool().Exec(f.t.Context(), `update shards set state = 'down' where id = 's3'`)
	require.NoError(f.t, err)
	require.Equal(f.t, "removed", into[api.Shard](f.t, f.want(200, "DELETE", "/v1/shards/s3", "")).State)
	require.NotContains(f.t, string(f.want(200, "GET", "/v1/shards", "").body), "s3")
	require.Equal(f.t, "conflicting_state", f.want(409, "POST", "/v1/shards/s3/cordon", "").problem(f.t).Code)
}

// everyCopyVerb gives each of them its good answer, about tenants of its own.
func (f *fleet) everyCopyVerb() {
	f.t.Helper()
	f.create("sealed")
	f.ended(into[api.Operation](f.t, f.want(202, "POST", "/v1/tenants/sealed/export", `{"keep_seconds":3600}`)).ID)
	list := into[api.Page[api.Copy]](f.t, f.want(200, "GET", "/v1/tenants/sealed/copies?surviving=true&limit=10", ""))
	require.Len(f.t, list.Items, 1)
	path := "/v1/tenants/sealed/copies/" + list.Items[0].ID
	require.Equal(f.t, admintest.SealedFile, string(f.want(200, "GET", path+"/content", "").body))
	require.Equal(f.t, 1, into[api.Copy](f.t, f.want(200, "GET", path, "")).HandedOut)
	f.ended(into[api.Operation](f.t, f.want(202, "POST", path+"/import", `{"id":"unsealed","display_name":"Again","to":"s2"}`)).ID)
	sent := f.ask(adminapi.RoleAdmin, "POST", "/v1/tenants/sealed/copies", admintest.SealedFile+strings.Repeat(" and more", adminapi.MaxBody/4), file)
	require.Equal(f.t, 201, sent.StatusCode, "a file may be larger than a document")
	require.Equal(f.t, "upload", into[api.Copy](f.t, sent).Origin)
	require.Equal(f.t, "deleted", into[api.Copy](f.t, f.want(200, "DELETE", path, "")).WhyGone)

	f.ended(into[api.Operation](f.t, f.want(202, "POST", "/v1/tenants/sealed/key/rotate", "")).ID)
	require.False(f.t, into[api.TenantKey](f.t, f.want(200, "GET", "/v1/tenants/sealed/key", "")).Destroyed)
	erasing := f.ask(adminapi.RoleAdmin, "POST", "/v1/tenants/sealed/erase", "", header{"X-Freehold-Reason": "article 17"})
	require.Equal(f.t, 202, erasing.StatusCode, string(erasing.body))
	f.ended(into[api.Operation](f.t, erasing).ID)
	require.Equal(f.t, `{"certificate":"<signed>"}`, into[api.Erasure](f.t, f.want(200, "GET", "/v1/tenants/sealed/erasure", "")).Certificate)
	require.NotEmpty(f.t, into[api.ErasureKey](f.t, f.want(200, "GET", "/v1/erasure-key", "")).PublicKey)
	require.True(f.t, into[api.TenantKey](f.t, f.want(200, "GET", "/v1/tenants/sealed/key", "")).Destroyed)
	require.NotNil(f.t, into[api.Tenant](f.t, f.want(200, "GET", "/v1/tenants/sealed", "")).ErasedAt)
}

func TestCopiesAndErasuresRefusals(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.create("acme")
	f.create("bank")
	f.ended(into[api.Operation](t, f.want(202, "POST", "/v1/tenants/bank/export", "")).ID)
	bank := into[api.Page[api.Copy]](t, f.want(200, "GET", "/v1/tenants/bank/copies", "")).Items[0].ID
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"POST", "/v1/tenants/nobody/export", "", 404, "not_found"},
		{"POST", "/v1/tenants/acme/export", `{"keep_seconds":1}`, 400, "invalid_request"},
		{"POST", "/v1/tenants/acme/export", `{"keep_seconds":-1}`, 400, "invalid_body"},
		{"GET", "/v1/tenants/acme/copies/x", "", 404, "not_found"},
		{"GET", "/v1/tenants/acme/copies/" + bank, "", 404, "not_found"}, // another tenant's
		{"GET", "/v1/tenants/acme/copies/" + bank + "/content", "", 404, "not_found"},
		{"POST", "/v1/tenants/acme/copies/" + bank + "/import", `{"id":"mine"}`, 404, "not_found"},
		{"DELETE", "/v1/tenants/acme/copies/" + bank, "", 404, "not_found"},
		{"POST", "/v1/tenants/bank/copies/" + bank + "/import", `{"id":"acme"}`, 409, "already_exists"},
		{"POST", "/v1/tenants/bank/copies/" + bank + "/import", `{"id":"No"}`, 400, "invalid_id"},
		{"POST", "/v1/tenants/acme/erase", "", 400, "invalid_parameter"}, // without a reason
		{"GET", "/v1/tenants/acme/erasure", "", 404, "not_found"},
	} {
		require.Equal(t, c.code, f.want(c.status, c.method, c.path, c.body).problem(t).Code, "%+v", c)
	}
	require.Equal(t, "copy_damaged", f.ask(adminapi.RoleAdmin, "POST", "/v1/tenants/acme/copies", "junk", file).problem(t).Code)
	why := header{"X-Freehold-Reason": "article 17"}
	require.Equal(t, 403, f.ask(adminapi.RoleOperator, "POST", "/v1/tenants/acme/erase", "", why).StatusCode)
	require.Equal(t, 403, f.ask(adminapi.RoleViewer, "GET", "/v1/tenants/bank/copies/"+bank+"/content", "").StatusCode)
	f.ended(into[api.Operation](t, f.ask(adminapi.RoleAdmin, "POST", "/v1/tenants/acme/erase", "", why)).ID)
	require.Equal(t, "tenant_erased", f.want(409, "POST", "/v1/tenants/acme/export", "").problem(t).Code)
	require.Equal(t, "tenant_erased", f.ask(adminapi.RoleAdmin, "POST", "/v1/tenants/acme/copies", admintest.SealedFile, file).problem(t).Code)
}

// While the secret store is sealed nothing is broken: what needs a key is to be asked for again.
func TestSealedSecretsAreNoFault(t *testing.T) {
	t.Parallel()
	status, code := adminapi.Code(fmt.Errorf("unseal: %w: Vault is sealed", secret.ErrUnavailable))
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "secrets_unavailable", code)
}

// What is made of a copy bears its source's labels: whoever may do this with those may import it.
func TestWhoeverMayByLabelsImports(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.createLabelled("acme", `{"env":"prod"}`)
	f.ended(into[api.Operation](t, f.want(202, "POST", "/v1/tenants/acme/export", "")).ID)
	path := "/v1/tenants/acme/copies/" + into[api.Page[api.Copy]](t, f.want(200, "GET", "/v1/tenants/acme/copies", "")).Items[0].ID + "/import"
	prod := f.accessToken("prod", api.Grant{Role: "admin", Labels: map[string]string{"env": "prod"}}).Text
	// Over the source alone it is not enough: the new tenant would be beyond those rights.
	named := f.accessToken("named", api.Grant{Role: "admin", Tenants: []tenantID{"acme"}}).Text
	require.Equal(t, http.StatusForbidden, f.askAs(named, "POST", path, `{"id":"again"}`).StatusCode)
	f.want(http.StatusOK, "PUT", "/v1/tenants/acme/labels", `{"labels":{"env":"dev"}}`)
	require.Equal(t, http.StatusForbidden, f.askAs(prod, "POST", path, `{"id":"again"}`).StatusCode)
	f.want(http.StatusOK, "PUT", "/v1/tenants/acme/labels", `{"labels":{"env":"prod"}}`)
	require.Equal(t, http.StatusAccepted, f.askAs(prod, "POST", path, `{"id":"again"}`).StatusCode)
}
