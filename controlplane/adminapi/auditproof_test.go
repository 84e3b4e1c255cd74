package adminapi_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/audit/proof"
)

func hashes(t *testing.T, texts []string) (path []tlog.Hash) {
	t.Helper()
	for _, s := range texts {
		b, err := base64.StdEncoding.DecodeString(s)
		require.NoError(t, err)
		path = append(path, tlog.Hash(b))
	}
	return path
}

// What the log shows to a tenant's auditor, and to anybody, holds without believing the API.
func TestTheAuditLogIsHeldToWhatItWas(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	viewer, operator := adminapi.RoleViewer, adminapi.RoleOperator
	anyone := adminapi.Role("")
	require.Equal(t, "no_checkpoint", f.ask(anyone, "GET", "/audit/checkpoint", "").problem(t).Code)
	f.create("acme")
	f.create("beta")
	first := into[api.AuditCheckpoint](t, f.ask(operator, "POST", "/v1/audit/checkpoint", ""))
	require.True(t, first.Anchored)
	require.Positive(t, first.Records)
	f.create("gamma")
	page := into[api.TenantAudit](t, f.ask(viewer, "GET", "/v1/tenants/acme/audit?proofs=true&limit=5", ""))
	keys, err := proof.ParseKeys(string(f.ask(anyone, "GET", "/audit/keys", "").body))
	require.NoError(t, err)
	older, err := keys.Open([]byte(page.Checkpoint))
	require.NoError(t, err)
	require.NotEmpty(t, page.Items)
	for _, e := range page.Items {
		require.EqualValues(t, "acme", e.Tenant)
		require.NoError(t, proof.Included(older, e.Position, e.Leaf, hashes(t, e.Proof)))
		require.ErrorIs(t, proof.Included(older, e.Position, e.Leaf+" ", hashes(t, e.Proof)), proof.ErrProof)
	}
	require.Empty(t, into[api.TenantAudit](t, f.ask(viewer, "GET", "/v1/tenants/nobody/audit", "")).Items)

	f.ask(operator, "POST", "/v1/audit/checkpoint", "{}")
	newer, err := keys.Open(f.ask(anyone, "GET", "/audit/checkpoint", "").body)
	require.NoError(t, err)
	require.Greater(t, newer.Size, older.Size)
	steps := into[api.AuditConsistency](t, f.ask(anyone, "GET", fmt.Sprintf("/audit/consistency?from=%d&to=%d", older.Size, newer.Size), ""))
	require.NoError(t, proof.Extends(older, newer, hashes(t, steps.Proof)))
	for _, query := range []string{"", "?from=0&to=1", "?from=2&to=1", "?from=1&to=999999", "?from=1&to=1&x=1", "?from=a&to=1"} {
		require.Equal(t, http.StatusBadRequest, f.ask(anyone, "GET", "/audit/consistency"+query, "").StatusCode, query)
	}

	export := f.ask(viewer, "GET", "/v1/audit/export", "")
	require.Equal(t, http.StatusOK, export.StatusCode)
	r := proof.Verify(proof.Read(bytes.NewReader(export.body)), keys)
	require.Equal(t, proof.Sound, r.Verdict, "%+v", r)
	require.Equal(t, map[string]int{"memory": 2}, r.Anchored)
	for _, bad := range []string{"/v1/audit/export?x=1", "/v1/audit?above=x", "/v1/tenants/acme/audit?proofs=maybe", "/v1/tenants/acme/audit?tenant=beta"} {
		require.Equal(t, http.StatusBadRequest, f.ask(viewer, "GET", bad, "").StatusCode, bad)
	}
	// Who asks for proofs all the time is told to wait, and nobody else is.
	f.API.RefuseProofs()
	require.Equal(t, http.StatusTooManyRequests, f.ask(anyone, "GET", "/audit/keys", "").StatusCode)
	require.Equal(t, http.StatusOK, f.ask(viewer, "GET", "/v1/audit", "").StatusCode)
}

// everyAuditVerb asks for everything that the audit log gives out once.
func (f *fleet) everyAuditVerb() {
	require.Equal(f.t, http.StatusOK, f.ask(adminapi.RoleOperator, "POST", "/v1/audit/checkpoint", "").StatusCode)
	for _, path := range []string{"/v1/tenants/acme/audit?proofs=true", "/v1/audit/export", "/v1/audit?above=3", "/audit/checkpoint", "/audit/keys", "/audit/consistency?from=1&to=2"} {
		require.Equal(f.t, http.StatusOK, f.ask(adminapi.RoleViewer, "GET", path, "").StatusCode, path)
	}
}
