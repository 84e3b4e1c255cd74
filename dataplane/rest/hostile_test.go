package rest_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/fault"
	"github.com/freehold-db/freehold/dataplane/rest"
	"github.com/freehold-db/freehold/internal/access"
)

var corpus = []string{
	"", "'", `"`, `\`, "''", `'; DROP TABLE tasks; --`, `' OR '1'='1`, `1); DELETE FROM tasks; --`, "$1", "$$;$$", "E'\\x'", "/*", "*/ --",
	"\x00", "a\x00b", "\xff\xfe", "\xc0\xaf", "\u202e", "💥", "{", "}", `{"`, `{{{{`, "(", ")))", "[1,", "null", "NaN", "-0", "1e999999", "99999999999999999999",
	"pg_sleep(10)", "(select 1)", "id::text", "*", "%", "_", "..", "not.", "eq.eq.", "->", "->>", "::", "...", "!", "a,b,c",
	strings.Repeat("x", 20_000), strings.Repeat("(", 5000), strings.Repeat("->a", 3000), strings.Repeat("\\", 4001), strings.Repeat("[", 3000),
}

// Nothing a client sends makes a 5xx, changes what it shouldn't, or leaves a
// trace in the session.
func TestHostileInput(t *testing.T) {
	a := functions(t, rest.Options{Aggregates: true, Plans: true, Rollback: true})
	before := a.value("SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM tasks t")
	send := func(method, path, body string, headers ...string) {
		t.Helper()
		r := &http.Request{Method: method, URL: &url.URL{Path: path}, Header: http.Header{}, Body: http.NoBody, Proto: "HTTP/1.1"}
		if at := strings.IndexByte(path, '?'); at >= 0 {
			r.URL = &url.URL{Path: path[:at], RawQuery: path[at+1:]}
		}
		if body != "" {
			r = httptest.NewRequest(method, "/", strings.NewReader(body))
			r.URL = &url.URL{Path: path}
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		a.engine.ServeHTTP(w, r.WithContext(t.Context()))
		require.Less(t, w.Code, 500, "%s %.100q %.100q: %s", method, path, body, w.Body)
		require.Equal(t, byte('I'), a.router.conn.TxStatus())
		if w.Code >= 400 && method != http.MethodHead && w.Body.String() != "404 page not found" {
			require.True(t, json.Valid(w.Body.Bytes()), "%q", w.Body)
			require.NotContains(t, w.Body.String(), a.router.database, "names of ours")
		}
	}
	for _, s := range corpus {
		e := url.QueryEscape(s)
		quoted := url.QueryEscape(`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`)
		for _, q := range []string{
			"id=eq." + e, "title=eq." + e, "title=like." + e, "title=match." + e, "title=in.(" + quoted + ")", "title=in.(" + e + ")", "title=eq(any)." + e,
			"title=fts." + e, "title=fts(" + e + ").x", "title=is." + e, "id=" + e, e + "=eq.1", quoted + "=eq.1", e, "select=" + e, "select=" + quoted + ":id",
			"select=id::" + e, "select=id->" + quoted, "title->>" + quoted + "=eq.1", "order=" + e, "order=id." + e, "or=(" + e + ")", "and=(title.eq." + quoted + ")",
			"select=id,projects(" + e + ")", "select=" + e + "(*)", "select=projects!" + e + "(*)", "select=..." + quoted + "(id)", "select=" + quoted + ":projects(" + quoted + ":id)", "select=..." + "projects(" + quoted + ":name)",
			"select=projects(id)&projects." + e + "=eq.1", "select=projects(id)&projects.name=eq." + e, "select=projects(id)&projects=" + e, "select=projects(id)&" + e + ".order=id", "order=" + e + "(id)", "select=id." + e + "()",
			"limit=" + e, "offset=" + e, "columns=" + e, "on_conflict=" + e, "done=cs." + e,
			"title=eq." + s, s, // not encoded at all
		} {
			send(http.MethodGet, "/rest/v1/tasks?"+q, "")
		}
		send(http.MethodGet, "/rest/v1/projects?tags=cs."+e+"&meta=cs."+e+"&period=ov."+e, "")
		send(http.MethodDelete, "/rest/v1/tasks?id=eq."+e, "")
		send(http.MethodGet, "/rest/v1/"+strings.ReplaceAll(s, "?", ""), "")
		value, _ := json.Marshal(s)
		for _, b := range []string{s, `{"id":` + s + `}`, `{"id":` + string(value) + `}`, `{` + string(value) + `:1}`, `[{"id":1},` + s + `]`, `{"v":` + string(value) + `}`} {
			send(http.MethodPost, "/rest/v1/nokey", b)
			send(http.MethodPatch, "/rest/v1/nokey", b)
			send(http.MethodPut, "/rest/v1/nokey", b)
		}
		for _, to := range [][2]string{{"text/csv", "pairs"}, {"application/x-www-form-urlencoded", "pairs"}, {"application/x-www-form-urlencoded", "rpc/greet"}, {"text/plain", "rpc/length_of"},
			{"application/octet-stream", "rpc/size_of"}, {"application/json", "rpc/whole"}, {"application/json", "rpc/greet"}, {"application/json", "rpc/plus_one"}} {
			for _, b := range []string{s, "a,b\n1," + s, `{"name":` + string(value) + `,"v":` + string(value) + `}`} {
				send(http.MethodPost, "/rest/v1/"+to[1], b, "Content-Type", to[0], "Prefer", "tx=rollback")
			}
		}
		for _, q := range []string{"add_them?a=1&b=" + e, "greet?name=" + e, "greet?" + e + "=x", "plus_one?v=1&v=" + e, "array_plus?arr=" + e, "films_after?y=1&title=eq." + e, "films_after?y=1&select=" + e, strings.ReplaceAll(e, "+", "%20")} {
			send(http.MethodGet, "/rest/v1/rpc/"+q, "")
		}
		for _, h := range []string{"Prefer", "Range", "Accept", "Accept-Profile", "X-Any", "Content-Type"} {
			send(http.MethodGet, "/rest/v1/tasks", "", h, s)
			send(http.MethodPost, "/rest/v1/rpc/greet", "{}", h, s)
			send(http.MethodGet, "/rest/v1/", "", h, s)
		}
		send(http.MethodGet, "/rest/v1/tasks", "", "Prefer", "timezone="+s)
		send(http.MethodGet, "/rest/v1/tasks", "", "Accept", "application/vnd.pgrst.plan+json; for=\""+s+"\"; options="+s)
	}
	require.Equal(t, before, a.value("SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM tasks t"))
}

// A client that leaves while it sends its body is nobody's failure.
func TestClientLeavesWithinItsBody(t *testing.T) {
	a := fixture(t, rest.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body := io.MultiReader(strings.NewReader(`[{"v":`), iotest.ErrReader(io.ErrUnexpectedEOF))
	for _, want := range []int{http.StatusBadRequest, fault.StatusClientClosedRequest} {
		w := httptest.NewRecorder()
		a.engine.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/rest/v1/nokey", body).WithContext(ctx))
		require.Equal(t, want, w.Code)
		cancel()
	}
}

func TestWithoutIdentityNothingIsServed(t *testing.T) {
	engine := gin.New()
	rest.New(nil, rest.Options{}).Register(engine)
	w := httptest.NewRecorder()
	engine.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/rest/v1/tasks", nil))
	require.Equal(t, http.StatusUnauthorized, w.Code)
}

// What is ours to get right is not told to clients.
func TestMissingRoleIsOpaque(t *testing.T) {
	a := fixture(t, rest.Options{})
	a.exec(`ALTER ROLE "` + a.router.database + `_ro" RENAME TO "` + a.router.database + `_gone"`)
	a.role = access.RoleViewer
	w := a.get("/tasks")
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.Contains(t, w.Body.String(), `"internal"`)
	require.NotContains(t, w.Body.String(), a.router.database)
}
