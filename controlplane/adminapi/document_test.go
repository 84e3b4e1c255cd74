package adminapi_test

import (
	"net/http"
	"regexp"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/controlplane/adminapi/admintest"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/identity"
)

func TestRoutesAreTheDocumentsPaths(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	doc, _ := document()
	var written, served []string
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			written = append(written, method+" "+path)
		}
	}
	parameter := regexp.MustCompile(`:(\w+)`)
	for _, r := range f.API.Routes() {
		served = append(served, r.Method+" "+parameter.ReplaceAllString(r.Path, "{$1}"))
	}
	sort.Strings(written)
	sort.Strings(served)
	require.Equal(t, written, served)
}

func TestDocumentSaysWhoMayAndWhatIsKeyed(t *testing.T) {
	t.Parallel()
	doc, _ := document()
	parameter := regexp.MustCompile(`:(\w+)`)
	for _, v := range adminapi.Verbs() {
		op := doc.Paths.Find(parameter.ReplaceAllString(v.Path, "{$1}")).GetOperation(v.Method)
		who := string(v.Need)
		if v.Nodes {
			who = "node, " + who
		}
		require.Equal(t, who, op.Extensions["x-roles"], "%s %s", v.Method, v.Path)
		keyed := op.Parameters.GetByInAndName("header", "Idempotency-Key") != nil
		require.Equal(t, v.Action != "" && !v.Unkeyed, keyed, "%s %s", v.Method, v.Path)
		require.Equal(t, v.Action != "", op.Parameters.GetByInAndName("header", "X-Freehold-Reason") != nil, "%s %s", v.Method, v.Path)
	}
}

// Every verb is called until it has given each of its good answers, and the
// harness holds every one of them, and of the bad ones, against the document.
func TestEveryVerbAnswersAsDocumented(t *testing.T) {
	t.Parallel()
	f := newFleetWith(t, catalogtest.Open(t), admintest.Options{Issuers: []identity.Issuer{corp}})
	admin, node := adminapi.RoleAdmin, adminapi.RoleNode
	get := func(path string) reply {
		r := f.ask(admin, "GET", path, "")
		require.Equal(t, http.StatusOK, r.StatusCode, "%s: %s", path, r.body)
		return r
	}
	post := func(path, body string, status int) reply {
		r := f.ask(admin, "POST", path, body)
		require.Equal(t, status, r.StatusCode, "%s: %s", path, r.body)
		return r
	}
	get("/v1/whoami")
	post("/v1/shards", `{"id":"s3","region":"eu","class":"large","labels":{"rack":"7"},"postgres":{"host":"127.0.0.1","port":5432},
		"bouncer":{"host":"127.0.0.1","port":6432},"max_databases":10,"routes_file":"/etc/routes.ini",
		"admin":{"user":"a","password":"secret-a"},"bouncer_admin":{"user":"b","password":"secret-b"}}`, http.StatusCreated)
	get("/v1/shards?state=active")
	require.NotContains(t, string(get("/v1/shards/s3").body), "secret")
	post("/v1/shards/s3/cordon", "", http.StatusOK)
	post("/v1/shards/s3/uncordon", "{}", http.StatusOK)

	post("/v1/tenants", `{"id":"acme","display_name":"Acme","shard":"s1"}`, http.StatusOK)
	f.create("clumsy")
	get("/v1/tenants?shard=s1&state=active&q=ACM&purged=true")
	get("/v1/tenants/acme")
	post("/v1/tenants/acme/suspend", "", http.StatusOK)
	post("/v1/tenants/acme/resume", "", http.StatusOK)
	require.Equal(t, http.StatusOK, f.ask(admin, "DELETE", "/v1/tenants/acme", "").StatusCode)
	get("/v1/tenants/acme")
	post("/v1/tenants/acme/restore", "", http.StatusOK)
	access := post("/v1/tenants/acme/access", `{"as":"ro","ttl_seconds":60}`, http.StatusCreated)
	require.Contains(t, string(access.body), admintest.GrantedPassword)
	require.Equal(t, http.StatusOK, f.ask(node, "GET", "/v1/placements/acme", "").StatusCode)
	require.Equal(t, http.StatusOK, f.ask(node, "GET", "/v1/shards/s1/address", "").StatusCode)

	require.Contains(t, string(post("/v1/tenants/acme/move", `{"to":"s2","dry_run":true}`, http.StatusOK).body), `"feasible":true`)
	require.Contains(t, string(post("/v1/tenants/clumsy/move", `{"to":"s2","dry_run":true}`, http.StatusOK).body), `"refusal":"the move can't be made`)
	moving := into[struct{ ID string }](t, post("/v1/tenants/acme/move", `{"to":"s2","max_pause_ms":200}`, http.StatusAccepted))
	get("/v1/operations?tenant=acme&kind=tenant-move&state=pending,running&unfinished=true")
	close(f.Domain.Gate)
	stream := get("/v1/operations/" + moving.ID + "/watch") // ends with the operation
	require.Contains(t, string(stream.body), `"state":"done"`)
	require.Contains(t, string(get("/v1/operations/"+moving.ID).body), `"pause_ms":12.5`)
	require.Equal(t, "operation_ended", f.ask(admin, "POST", "/v1/operations/"+moving.ID+"/cancel", "").problem(t).Code)

	f.Domain.Gate = make(chan struct{})
	moving = into[struct{ ID string }](t, post("/v1/tenants/acme/move", `{"to":"s2"}`, http.StatusAccepted))
	require.Contains(t, []int{http.StatusOK, http.StatusAccepted}, f.ask(admin, "POST", "/v1/operations/"+moving.ID+"/cancel", "").StatusCode)
	get("/v1/audit?tenant=acme&actor=the-admin&action=tenant.move&from=2020-01-01T00:00:00Z&until=2120-01-01T00:00:00Z")
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/openapi.yaml", "/openapi.json", "/signin"} {
		require.Equal(t, http.StatusOK, f.ask("", "GET", path, "").StatusCode, path)
	}

	f.everyAccessVerb()
	figures := string(f.ask("", "GET", "/metrics", "").body)
	require.Contains(t, figures, `freehold_admin_request_seconds_count{method="POST",route="/v1/tenants/:tenant/move",status="202"} 2`)
	require.NotContains(t, figures, "acme")
	f.everyVerification()
	f.everyCutover()
	f.everyAuditVerb()
	f.everySoakVerb()
	f.everyCloneVerb()
	f.everyCopyVerb()
	f.everyUsageVerb()
	f.everyRebalanceVerb()
	f.everyRunVerb()
	f.everyRemoveVerb()
	f.everyIdentityVerb()
	f.auditHoldsNoSecret("secret-a", "secret-b") // of the shard
	f.everySecretVerb()
	f.everyDoctorVerb()

	doc, _ := document()
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			good := 0
			for status := range op.Responses.Map() {
				if strings.HasPrefix(status, "2") {
					code := map[string]int{"200": 200, "201": 201, "202": 202}[status]
					if f.seen[op.OperationID+" "+http.StatusText(code)] {
						good++
					}
				}
			}
			require.NotZero(t, good, "no good answer of %s %s was checked", method, path)
		}
	}
}
