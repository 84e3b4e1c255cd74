package adminapi_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/controlplane/adminapi/admintest"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
)

const goodShard = `"postgres":{"host":"h","port":1},"bouncer":{"host":"h","port":2},"admin":{"user":"a","password":"p"},"bouncer_admin":{"user":"b","password":"p"}`

func TestBadInputIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.create("acme")
	f.create("gone")
	require.Equal(t, http.StatusOK, f.ask(adminapi.RoleAdmin, "DELETE", "/v1/tenants/gone", "").StatusCode)
	f.create("moving")
	require.Equal(t, http.StatusAccepted, f.ask(adminapi.RoleAdmin, "POST", "/v1/tenants/moving/move", `{"to":"s2"}`).StatusCode)
	long := strings.Repeat("x", 201)
	none := "0190a0a0-0000-7000-8000-000000000000"
	tests := []struct {
		method, path, body string
		status             int
		code, place        string
	}{
		// bodies
		{"POST", "/v1/tenants", `not json`, 400, "malformed_json", "#"},
		{"POST", "/v1/tenants", `{"id":"a"`, 400, "malformed_json", "#"},
		{"POST", "/v1/tenants", `{"id":"a"} {}`, 400, "malformed_json", "#"},
		{"POST", "/v1/tenants", `{"id":"a","id":"b"}`, 400, "malformed_json", "#/id"},
		{"POST", "/v1/tenants", "{\"id\":\"a\xff\"}", 400, "malformed_json", "#/id"},
		{"POST", "/v1/tenants", `null`, 400, "invalid_body", "#"},
		{"POST", "/v1/tenants", `[]`, 400, "invalid_body", "#"},
		{"POST", "/v1/tenants", `"acme"`, 400, "invalid_body", "#"},
		{"POST", "/v1/tenants", `{"id":7}`, 400, "invalid_body", "#/id"},
		{"POST", "/v1/tenants", `{"ID":"new"}`, 400, "invalid_body", "#/ID"},
		{"POST", "/v1/tenants", `{"id":"new","shrad":"s1"}`, 400, "invalid_body", "#/shrad"},
		{"POST", "/v1/tenants", `{"id":"new","display_name":"` + long + `"}`, 400, "invalid_body", "#/display_name"},
		{"POST", "/v1/tenants", `{"id":"new","display_name":"a\u001b[2J"}`, 400, "invalid_body", "#/display_name"},
		{"POST", "/v1/tenants", strings.Repeat("[", 20000), 400, "malformed_json", ""},
		{"POST", "/v1/tenants/acme/suspend", `{"why":"x"}`, 400, "invalid_body", "#/why"},
		// IDs
		{"POST", "/v1/tenants", ``, 400, "invalid_id", "#/id"},
		{"POST", "/v1/tenants", `{"id":"Acme"}`, 400, "invalid_id", "#/id"},
		{"POST", "/v1/tenants", `{"id":"new","shard":"S1"}`, 400, "invalid_id", "#/shard"},
		{"GET", "/v1/tenants/" + strings.Repeat("a", 48), "", 400, "invalid_id", "tenant"},
		{"DELETE", "/v1/tenants/a%20b", "", 400, "invalid_id", "tenant"},
		{"GET", "/v1/tenants/%27;drop", "", 400, "invalid_id", "tenant"},
		{"GET", "/v1/placements/UPPER", "", 400, "invalid_id", "tenant"},
		{"GET", "/v1/shards/1", "", 400, "invalid_id", "shard"},
		{"POST", "/v1/shards/1/cordon", "", 400, "invalid_id", "shard"},
		{"GET", "/v1/operations/17", "", 400, "invalid_id", "operation"},
		{"GET", "/v1/operations/{" + none + "}", "", 400, "invalid_id", "operation"},
		// parameters
		{"GET", "/v1/tenants?limit=0", "", 400, "invalid_parameter", "limit"},
		{"GET", "/v1/tenants?limit=1001", "", 400, "invalid_parameter", "limit"},
		{"GET", "/v1/tenants?limit=1&limit=2", "", 400, "invalid_parameter", "limit"},
		{"GET", "/v1/tenants?cursor=zzz", "", 400, "invalid_parameter", "cursor"},
		{"GET", "/v1/tenants?stat=active", "", 400, "invalid_parameter", "stat"},
		{"GET", "/v1/tenants?state=asleep", "", 400, "invalid_parameter", "state"},
		{"GET", "/v1/tenants?shard=S", "", 400, "invalid_parameter", "shard"},
		{"GET", "/v1/tenants?purged=maybe", "", 400, "invalid_parameter", "purged"},
		{"GET", "/v1/tenants?q=%00", "", 400, "invalid_parameter", "q"},
		{"GET", "/v1/tenants?%zz", "", 400, "invalid_parameter", "query"},
		{"GET", "/v1/shards?state=broken", "", 400, "invalid_parameter", "state"},
		{"GET", "/v1/operations?state=running,gone", "", 400, "invalid_parameter", "state"},
		{"GET", "/v1/operations?tenant=A", "", 400, "invalid_parameter", "tenant"},
		{"GET", "/v1/audit?from=yesterday", "", 400, "invalid_parameter", "from"},
		{"POST", "/v1/tenants?dry_run=true", `{"id":"new"}`, 400, "invalid_parameter", "dry_run"},
		// what there is not
		{"GET", "/v1/tenants/nobody", "", 404, "not_found", ""},
		{"DELETE", "/v1/tenants/nobody", "", 404, "not_found", ""},
		{"POST", "/v1/tenants/nobody/suspend", "", 404, "not_found", ""},
		{"POST", "/v1/tenants/nobody/resume", "", 404, "not_found", ""},
		{"POST", "/v1/tenants/nobody/restore", "", 404, "not_found", ""},
		{"POST", "/v1/tenants/nobody/move", `{"to":"s2"}`, 404, "not_found", ""},
		{"POST", "/v1/tenants/nobody/access", ``, 404, "not_found", ""},
		{"GET", "/v1/placements/nobody", "", 404, "not_found", ""},
		{"GET", "/v1/shards/s9", "", 404, "not_found", ""},
		{"GET", "/v1/shards/s9/address", "", 404, "not_found", ""},
		{"POST", "/v1/shards/s9/cordon", "", 404, "not_found", ""},
		{"POST", "/v1/shards/s9/uncordon", "", 404, "not_found", ""},
		{"POST", "/v1/tenants", `{"id":"new","shard":"s9"}`, 404, "not_found", ""},
		{"POST", "/v1/tenants/acme/move", `{"to":"s9"}`, 404, "not_found", ""},
		{"POST", "/v1/tenants/acme/move", `{"to":"s9","dry_run":true}`, 404, "not_found", ""},
		{"GET", "/v1/operations/" + none, "", 404, "not_found", ""},
		{"GET", "/v1/operations/" + none + "/watch", "", 404, "not_found", ""},
		{"POST", "/v1/operations/" + none + "/cancel", "", 404, "not_found", ""},
		{"GET", "/v2/tenants", "", 404, "no_such_route", ""},
		{"GET", "/v1/tenants/", "", 404, "no_such_route", ""},
		{"PUT", "/v1/tenants/acme", "{}", 405, "method_not_allowed", ""},
		// what does not fit the state of things
		{"POST", "/v1/tenants", `{"id":"acme"}`, 409, "already_exists", ""},
		{"POST", "/v1/tenants", `{"id":"gone"}`, 409, "already_exists", ""},
		{"POST", "/v1/tenants", `{"id":"new","region":"mars"}`, 409, "no_room", ""},
		{"POST", "/v1/tenants/acme/resume", "", 409, "conflicting_state", ""},
		{"POST", "/v1/tenants/acme/restore", "", 409, "conflicting_state", ""},
		{"POST", "/v1/tenants/acme/move", `{"to":"s1"}`, 409, "already_there", ""},
		{"POST", "/v1/tenants/acme/move", `{"to":"s1","dry_run":true}`, 409, "already_there", ""},
		{"POST", "/v1/tenants/moving/move", `{"to":"s2"}`, 409, "operation_under_way", ""},
		{"POST", "/v1/tenants/moving/suspend", ``, 409, "operation_under_way", ""},
		{"DELETE", "/v1/tenants/gone", "", 409, "conflicting_state", ""},
		{"POST", "/v1/shards", `{"id":"s1",` + goodShard + `}`, 409, "already_exists", ""},
		{"POST", "/v1/shards", `{"id":"s7",` + strings.Replace(goodShard, `"h"`, `"unfit.example"`, 1) + `}`, 422, "shard_unfit", ""},
		// values
		{"POST", "/v1/tenants/acme/move", `{}`, 400, "invalid_id", "#/to"},
		{"POST", "/v1/tenants/acme/move", `{"to":"s2","max_pause_ms":-1}`, 400, "invalid_body", "#/max_pause_ms"},
		{"POST", "/v1/tenants/acme/move", `{"to":"s2","max_pause_ms":1e3000}`, 400, "invalid_body", "#/max_pause_ms"},
		{"POST", "/v1/tenants/acme/move", `{"to":"s2","max_pause_ms":600000}`, 400, "invalid_body", "#/max_pause_ms"},
		{"POST", "/v1/tenants/acme/move", `{"to":"s2","max_bytes_per_s":1}`, 400, "invalid_body", "#/max_bytes_per_s"},
		{"POST", "/v1/tenants/acme/move", `{"to":"s2","soak_seconds":-1}`, 400, "invalid_body", "#/soak_seconds"},
		{"POST", "/v1/tenants/acme/move", `{"to":"s2","dry_run":"yes"}`, 400, "invalid_body", "#/dry_run"},
		{"POST", "/v1/tenants/acme/move", `{"to":"s2","ddl":"maybe"}`, 400, "invalid_body", "#/ddl"},
		{"POST", "/v1/tenants/acme/access", `{"as":"superuser"}`, 400, "invalid_body", "#/as"},
		{"POST", "/v1/tenants/acme/access", `{"ttl_seconds":100000}`, 400, "invalid_body", "#/ttl_seconds"},
		{"POST", "/v1/tenants/acme/access", `{"ttl_seconds":-1}`, 400, "invalid_body", "#/ttl_seconds"},
		{"POST", "/v1/shards", `{"id":"s7"}`, 400, "invalid_body", "#/admin/user"},
		{"POST", "/v1/shards", `{"id":"s7",` + strings.Replace(goodShard, `:1}`, `:70000}`, 1) + `}`, 400, "invalid_body", "#/postgres/port"},
		{"POST", "/v1/shards", `{"id":"s7","routes_file":"routes.ini",` + goodShard + `}`, 400, "invalid_body", "#/routes_file"},
		{"POST", "/v1/shards", `{"id":"s7","max_databases":-1,` + goodShard + `}`, 400, "invalid_body", "#/max_databases"},
		{"POST", "/v1/shards", `{"id":"s7","labels":{"a":"b","a":"c"},` + goodShard + `}`, 400, "malformed_json", "#/labels/a"},
	}
	f.settle(t, "moving")
	for _, test := range tests {
		name := fmt.Sprintf("%s %.60s %.60s", test.method, test.path, test.body)
		f.unchanged(func() {
			r := f.ask(adminapi.RoleAdmin, test.method, test.path, test.body)
			require.Equal(t, test.status, r.StatusCode, "%s: %s", name, r.body)
			p := r.problem(t)
			require.Equal(t, test.code, p.Code, "%s: %s", name, r.body)
			if test.place == "" {
				return
			}
			require.NotEmpty(t, p.Errors, "%s: %s", name, r.body)
			place := p.Errors[0]
			require.Equal(t, test.place, place.Pointer+place.Parameter, "%s: %s", name, r.body)
		})
	}
}

// settle waits until the tenant's operation is under way, so that nothing changes by itself.
func (f *fleet) settle(t *testing.T, tenant string) {
	require.Eventually(t, func() bool {
		page := into[api.Page[api.Operation]](t, f.ask(adminapi.RoleViewer, "GET", "/v1/operations?unfinished=true&tenant="+tenant, ""))
		return len(page.Items) == 1 && page.Items[0].Progress.Percent == 40
	}, time.Minute, 20*time.Millisecond)
}

func TestBodiesThatAreTooLargeOrNotJSON(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.unchanged(func() {
		r := f.ask(adminapi.RoleAdmin, "POST", "/v1/tenants", `{"id":"acme"}`, header{"Content-Type": "text/plain"})
		require.Equal(t, "not_json", r.problem(t).Code)
		r = f.ask(adminapi.RoleAdmin, "POST", "/v1/tenants", `{"id":"acme","display_name":"`+strings.Repeat("x", adminapi.MaxBody)+`"}`)
		require.Equal(t, http.StatusRequestEntityTooLarge, r.StatusCode)

		// 100 MB announced: refused before any of it was sent.
		conn, err := net.Dial("tcp", strings.TrimPrefix(f.URL, "http://")) //nolint:noctx // loopback, in a test
		require.NoError(t, err)
		defer conn.Close() //nolint:errcheck // the test's own
		require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		_, err = fmt.Fprint(conn, "POST /v1/tenants HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin-token\r\nContent-Type: application/json\r\nContent-Length: 104857600\r\n\r\n")
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		defer resp.Body.Close() //nolint:errcheck // read to its end
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
		require.Contains(t, string(body), `"code":"body_too_large"`)
	})
	// Not announced: it is cut off at the limit, and whatever the sender sees, it is no success.
	f.unchanged(func() {
		req, err := http.NewRequestWithContext(testContext(t), "POST", f.URL+"/v1/tenants", io.LimitReader(endless{}, 100<<20))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer admin-token")
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
		}
	})
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.create("acme")
	order := map[adminapi.Role]int{adminapi.RoleViewer: 1, adminapi.RoleOperator: 2, adminapi.RoleAdmin: 3}
	fill := strings.NewReplacer(":tenant", "nobody", ":shard", "s9", ":operation", "0190a0a0-0000-7000-8000-000000000000")
	f.unchanged(func() {
		for _, v := range adminapi.Verbs() {
			path := fill.Replace(v.Path)
			for _, token := range []header{{}, {"Authorization": ""}, {"Authorization": "Bearer "}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"},
				{"Authorization": "Bearer " + strings.Repeat("x", 4000)}} {
				r := f.ask("", v.Method, path, "", token)
				require.Equal(t, http.StatusUnauthorized, r.StatusCode, "%s %s", v.Method, path)
				require.Contains(t, r.Header.Get("WWW-Authenticate"), "Bearer")
			}
			for _, role := range admintest.Roles {
				may := order[role] >= order[v.Need] && order[role] > 0
				if role == adminapi.RoleNode {
					may = v.Nodes
				}
				r := f.ask(role, v.Method, path, noBody(v))
				require.NotEqual(t, http.StatusUnauthorized, r.StatusCode)
				require.Equal(t, !may, r.StatusCode == http.StatusForbidden, "%s: %s %s answered %d", role, v.Method, path, r.StatusCode)
			}
		}
	})
	require.Len(t, nodeVerbs(), 4)
}

// noBody is what no verb does anything for.
func noBody(v adminapi.VerbInfo) string {
	if v.Action == "" {
		return ""
	}
	return "[]"
}

func nodeVerbs() (paths []string) {
	for _, v := range adminapi.Verbs() {
		if v.Nodes {
			paths = append(paths, v.Path)
		}
	}
	return paths
}

func TestErrorsThatNobodyForesawAreOpaque(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.create("acme")
	for _, fail := range []func() error{
		func() error { return errors.New("password of shard s1 is hunter2") },
		func() error { panic("hunter2 in a panic") },
	} {
		f.Domain.Fail = fail
		f.unchanged(func() {
			r := f.ask(adminapi.RoleAdmin, "POST", "/v1/tenants/acme/suspend", "", header{"Idempotency-Key": "k1"})
			require.Equal(t, http.StatusInternalServerError, r.StatusCode)
			require.Equal(t, "internal", r.problem(t).Code)
			require.NotContains(t, string(r.body), "hunter2")
			require.Contains(t, f.Log.String(), "hunter2")
			require.Contains(t, f.Log.String(), r.problem(t).RequestID)
		})
	}
	f.Domain.Fail = nil // and the key is free again
	require.Equal(t, http.StatusOK, f.ask(adminapi.RoleAdmin, "POST", "/v1/tenants/acme/suspend", "", header{"Idempotency-Key": "k1"}).StatusCode)
}

func TestCatalogAway(t *testing.T) {
	t.Parallel()
	_, dsn := catalogtest.OpenDSN(t)
	proxy := catalogtest.NewProxy(t, dsn)
	store, err := catalog.Open(testContext(t), proxy.DSN)
	require.NoError(t, err)
	t.Cleanup(store.Close)
	f := newFleetOn(t, store)
	f.create("acme")
	proxy.Cut()
	began := time.Now()
	for _, path := range []string{"/v1/tenants/acme", "/v1/tenants", "/v1/placements/acme", "/readyz"} {
		r := f.ask(adminapi.RoleAdmin, "GET", path, "")
		require.Equal(t, http.StatusServiceUnavailable, r.StatusCode, "%s: %s", path, r.body)
		require.Equal(t, "catalog_unavailable", r.problem(t).Code)
		require.NotContains(t, string(r.body), "127.0.0.1")
	}
	require.Equal(t, http.StatusServiceUnavailable, f.ask(adminapi.RoleAdmin, "POST", "/v1/tenants/acme/suspend", "", header{"Idempotency-Key": "k"}).StatusCode)
	require.Equal(t, http.StatusOK, f.ask("", "GET", "/healthz", "").StatusCode)
	require.Less(t, time.Since(began), time.Minute)
	proxy.Restore()
	require.Eventually(t, func() bool { return f.ask("", "GET", "/readyz", "").StatusCode == http.StatusOK }, time.Minute, 50*time.Millisecond)
	require.Equal(t, http.StatusOK, f.ask(adminapi.RoleAdmin, "POST", "/v1/tenants/acme/suspend", "", header{"Idempotency-Key": "k"}).StatusCode)
}

func TestACallerWhoLeavesIsNoError(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.create("acme")
	reached, leave := make(chan struct{}), make(chan struct{})
	f.Domain.Fail = func() error { close(reached); <-leave; return context.Canceled }
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", f.URL+"/v1/tenants/acme/suspend", http.NoBody)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer admin-token")
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = http.DefaultClient.Do(req) //nolint:bodyclose // there is no answer
	}()
	<-reached
	cancel()
	<-gone
	close(leave)
	require.Eventually(t, func() bool { return len(f.audited()) == 2 }, time.Minute, 20*time.Millisecond)
	require.NotContains(t, f.Log.String(), "level=ERROR")
}
