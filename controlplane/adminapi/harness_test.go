package adminapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/controlplane/adminapi/admintest"
	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/problem"
)

func TestMain(m *testing.M) {
	openapi3filter.RegisterBodyDecoder("text/event-stream", openapi3filter.FileBodyDecoder)
	openapi3filter.RegisterBodyDecoder("application/x-ndjson", openapi3filter.FileBodyDecoder)
	pgtest.Main(m)
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// document is the API's document, with every object of an answer closed, so
// that a field nobody wrote down fails a test.
var document = sync.OnceValues(func() (*openapi3.T, routers.Router) {
	doc, err := openapi3.NewLoader().LoadFromData(adminapi.Document)
	if err != nil {
		panic(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		panic(err)
	}
	closed := false
	for _, s := range doc.Components.Schemas {
		closeObject(s.Value, &closed)
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		panic(err)
	}
	return doc, router
})

func closeObject(s *openapi3.Schema, closed *bool) {
	if s.Type.Is("object") && s.AdditionalProperties.Has == nil && s.AdditionalProperties.Schema == nil {
		s.AdditionalProperties.Has = closed
	}
	for _, p := range s.Properties {
		if p.Ref == "" {
			closeObject(p.Value, closed)
		}
	}
	if s.Items != nil && s.Items.Ref == "" {
		closeObject(s.Items.Value, closed)
	}
}

// fleet is an API whose every answer is held against the document.
type fleet struct {
	*admintest.Fleet
	t testing.TB

	mu   sync.Mutex
	seen map[string]bool // "operationId status" of every answer that was checked
	// secrets are those that answers gave out.
	secrets map[string]bool
}

func newFleet(t testing.TB) *fleet { return newFleetOn(t, catalogtest.Open(t)) }

func newFleetOn(t testing.TB, store *catalog.Store) *fleet {
	return newFleetWith(t, store, admintest.Options{})
}

func newFleetWith(t testing.TB, store *catalog.Store, opt admintest.Options) *fleet {
	f := &fleet{Fleet: admintest.StartWith(t, store, opt), t: t, seen: map[string]bool{}, secrets: map[string]bool{}}
	f.API.StrangerBurst(1 << 20) // tests send many
	return f
}

// reply is an answer, read to its end.
type reply struct {
	*http.Response
	body []byte
}

func (r reply) problem(t testing.TB) problem.Problem {
	require.Equal(t, problem.ContentType, r.Header.Get("Content-Type"), "body: %s", r.body)
	var p problem.Problem
	require.NoError(t, json.Unmarshal(r.body, &p))
	return p
}

func into[T any](t testing.TB, r reply) T {
	t.Helper()
	var v T
	require.Less(t, r.StatusCode, 300, "%s", r.body)
	require.NoError(t, json.Unmarshal(r.body, &v))
	return v
}

type header map[string]string

// ask sends a request and holds the answer against the document.
func (f *fleet) ask(role adminapi.Role, method, path, body string, headers ...header) reply {
	f.t.Helper()
	token := ""
	if role != "" {
		token = admintest.Token(role)
	}
	return f.askAs(token, method, path, body, headers...)
}

// askAs is ask with any credential.
func (f *fleet) askAs(token, method, path, body string, headers ...header) reply {
	f.t.Helper()
	req, err := http.NewRequestWithContext(testContext(f.t), method, f.URL+path, strings.NewReader(body))
	require.NoError(f.t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		for k, v := range h {
			req.Header.Set(k, v)
		}
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(f.t, err)
	defer resp.Body.Close() //nolint:errcheck // read to its end
	text, err := io.ReadAll(resp.Body)
	require.NoError(f.t, err)
	r := reply{resp, text}
	f.check(req, r)
	return r
}

func (f *fleet) check(req *http.Request, r reply) {
	f.t.Helper()
	require.NotEmpty(f.t, r.Header.Get("X-Request-ID"))
	if r.StatusCode >= 400 {
		p := r.problem(f.t)
		require.NotEmpty(f.t, p.Code)
		require.NotEmpty(f.t, p.Hint, p.Code)
		require.NotEmpty(f.t, p.Detail, p.Code)
		require.Equal(f.t, r.StatusCode, p.Status)
		require.Equal(f.t, "urn:freehold:problem:"+p.Code, p.Type)
		require.Equal(f.t, r.Header.Get("X-Request-ID"), p.RequestID)
		if p.Code == "no_such_route" || p.Code == "method_not_allowed" {
			return
		}
	}
	_, router := document()
	bare := req.Clone(req.Context())
	bare.URL.Scheme, bare.URL.Host, bare.Host = "", "", ""
	route, params, err := router.FindRoute(bare)
	require.NoError(f.t, err, "%s %s is not in the document", req.Method, req.URL.Path)
	err = openapi3filter.ValidateResponse(req.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route},
		Status:                 r.StatusCode, Header: r.Header, Body: io.NopCloser(bytes.NewReader(r.body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	})
	require.NoError(f.t, err, "%s %s answered %d: %.800s", req.Method, req.URL.Path, r.StatusCode, r.body)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, found := range secretText.FindAllSubmatch(r.body, -1) {
		f.secrets[string(found[1])] = true
	}
	f.seen[route.Operation.OperationID+" "+http.StatusText(r.StatusCode)] = true
}

// create makes a tenant on s1.
func (f *fleet) create(id string) {
	f.t.Helper()
	r := f.ask(adminapi.RoleAdmin, "POST", "/v1/tenants", `{"id":"`+id+`","display_name":"Tenant `+id+`","shard":"s1"}`)
	require.Equal(f.t, http.StatusOK, r.StatusCode, "%s", r.body)
}

// state is all that a mutation could change.
func (f *fleet) state() map[string]int64 {
	f.t.Helper()
	counts := map[string]int64{}
	rows, err := f.Store.Pool().Query(testContext(f.t), `select 'tenants', count(*) from tenants union all select 'epochs', coalesce(sum(epoch), 0) from placements
		union all select 'shards', count(*) from shards union all select 'versions', coalesce(sum(version), 0) from shards
		union all select 'databases', count(*) from databases union all select 'operations', count(*) from operations
		union all select 'access', coalesce(sum(version), 0) from (select version from fleet_access union all select version from tenant_access) v
		union all select 'cancels', count(*) from operations where cancel_requested union all select 'outbox', count(*) from outbox
		union all select 'policy', version from placement_policy union all select 'needs', count(*) from tenant_needs`)
	require.NoError(f.t, err)
	defer rows.Close()
	for rows.Next() {
		var name string
		var n int64
		require.NoError(f.t, rows.Scan(&name, &n))
		counts[name] = n
	}
	require.NoError(f.t, rows.Err())
	return counts
}

// unchanged runs fn and fails if it changed anything.
func (f *fleet) unchanged(fn func()) {
	f.t.Helper()
	before := f.state()
	fn()
	require.True(f.t, maps.Equal(before, f.state()), "before %v, after %v", before, f.state())
}

// audited returns the audit records, oldest first, as "action object outcome".
func (f *fleet) audited() []string {
	f.t.Helper()
	entries, _, err := admintest.Outbox{Store: f.Store}.List(testContext(f.t), audit.Filter{}, catalog.Page{Limit: 1000})
	require.NoError(f.t, err)
	var list []string
	for _, e := range entries {
		if e.Record.Action == operation.ActionEnd {
			continue // the engine's, once its worker gets to it
		}
		list = append([]string{e.Record.Action + " " + e.Record.Object + " " + e.Record.Outcome}, list...)
	}
	return list
}
