package adminapi_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/freehold-db/freehold/controlplane/adminapi"
)

// A cursor comes from outside: one that somebody made up is refused, or finds nothing, and is no fault of ours.
func TestMadeUpCursors(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.create("acme")
	for list, path := range map[string]string{
		"tenants": "/v1/tenants", "shards": "/v1/shards", "operations": "/v1/operations", "break-glass": "/v1/break-glass",
		"access-tokens": "/v1/access-tokens", "bindings": "/v1/bindings", "copies": "/v1/tenants/acme/copies", "keys": "/v1/tenants/acme/keys",
		"secrets": "/v1/secrets", "soaks": "/v1/soaks", "audit": "/v1/audit", "rebalance-plans": "/v1/rebalance/plans",
	} {
		for _, key := range []string{"x", "\xff", "0198c0de", "7/x"} {
			cursor := base64.RawURLEncoding.EncodeToString([]byte(list + "\x00" + key))
			r := f.ask(adminapi.RoleAdmin, "GET", path+"?cursor="+url.QueryEscape(cursor), "")
			assert.Less(t, r.StatusCode, http.StatusInternalServerError, "%s after %q: %s", list, key, r.body)
		}
	}
}
