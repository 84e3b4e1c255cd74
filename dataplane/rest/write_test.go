package rest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest"
	"github.com/freehold-db/freehold/internal/access"
)

const (
	full     = "Prefer: return=representation"
	singular = "Accept: application/vnd.pgrst.object+json"
)

// write is a request that writes, and its answer.
type write struct {
	path, body string
	headers    []string
	status     int
	want       string // body, as JSON; "": none, if it was done
	header     map[string]string
}

func (a *api) check(t *testing.T, method string, c write) {
	t.Helper()
	w := a.do(method, escape(c.path), c.body, c.headers...)
	require.Equal(t, c.status, w.Code, "%s %s: %s", c.path, c.body, w.Body)
	if c.want != "" {
		require.JSONEq(t, c.want, w.Body.String(), "%s %s", c.path, c.body)
	} else if c.status < 300 {
		require.Empty(t, w.Body.String(), c.body)
	}
	for name, value := range c.header {
		require.Equal(t, value, w.Header().Get(name), "%s %s: %s", c.path, c.body, name)
	}
}

func TestInsert(t *testing.T) {
	a := fixture(t, rest.Options{})
	for _, c := range []write{
		{"/projects", `{"name":"a"}`, nil, 201, ``, map[string]string{"Content-Range": "*/*", "Content-Length": "0"}},
		{"/projects?select=id,name,state", `{"id":10,"name":"b"}`, []string{full}, 201, `[{"id":10,"name":"b","state":"open"}]`,
			map[string]string{"Preference-Applied": "return=representation"}},
		{"/projects?select=id", `[{"id":11,"name":"c"},{"id":12,"name":"d"}]`, []string{full, "Prefer: count=exact"}, 201, `[{"id":11},{"id":12}]`, map[string]string{"Content-Range": "*/2"}},
		{"/projects?select=id&order=id.desc", `[{"id":14,"name":"c"},{"id":15,"name":"d"}]`, []string{full}, 201, `[{"id":15},{"id":14}]`, nil},
		{"/projects?select=n:name", `{"id":13,"name":"one"}`, []string{full, singular}, 201, `{"n":"one"}`, map[string]string{"Content-Type": "application/vnd.pgrst.object+json; charset=utf-8"}},
		{"/projects", `[{"id":20,"name":"x"},{"id":21,"name":"y"}]`, []string{full, singular}, 406, `{"code":"PGRST116","details":"The result contains 2 rows","hint":null,"message":"Cannot coerce the result to a single JSON object"}`, nil},
		{"/projects?select=tags,meta,raw,mood,budget,period", `{"name":"t","tags":["p","q r"],"meta":{"k":[1,null]},"raw":[1],"mood":"ok","budget":1.5,"period":"[1,2)"}`, []string{full}, 201,
			`[{"tags":["p","q r"],"meta":{"k":[1,null]},"raw":[1],"mood":"ok","budget":1.50,"period":"[1,2)"}]`, nil},
		{"/tasks", `{"id":50,"title":"l"}`, []string{"Prefer: return=headers-only"}, 201, ``, map[string]string{"Location": "/tasks?id=eq.50", "Preference-Applied": "return=headers-only"}},
		{"/pairs", `{"a":1,"b":"x y&z"}`, []string{"Prefer: return=headers-only"}, 201, ``, map[string]string{"Location": "/pairs?a=eq.1&b=eq.x%20y%26z"}},
		{"/nokey", `{"v":1}`, []string{"Prefer: return=headers-only"}, 201, ``, map[string]string{"Location": ""}},
		{"/pairs?columns=a,b", `[{"a":2,"b":"p","v":9,"zzz":1}]`, []string{full}, 201, `[{"a":2,"b":"p","v":7}]`, nil},
		{"/pairs?columns=a,b,v", `[{"a":3,"b":"p","v":9},{"a":4,"b":"q"}]`, []string{full}, 201, `[{"a":3,"b":"p","v":9},{"a":4,"b":"q","v":null}]`, nil},
		{"/pairs?columns=a,b,v", `[{"a":5,"b":"p","v":9},{"a":6,"b":"q"}]`, []string{full, "Prefer: missing=default"}, 201, `[{"a":5,"b":"p","v":9},{"a":6,"b":"q","v":7}]`,
			map[string]string{"Preference-Applied": "missing=default, return=representation"}},
		{"/pairs?columns=a,b,v", `{"a":7,"b":"p"}`, []string{full, "Prefer: missing=default"}, 201, `[{"a":7,"b":"p","v":7}]`, nil},
		{"/projects?select=name,state", `{"name":null}`, []string{full}, 400, ``, nil},
		{"/nokey", `{}`, []string{full}, 201, `[{"v":null}]`, nil},
		{"/nokey", `[{},{}]`, []string{full}, 201, `[{"v":null},{"v":null}]`, nil},
		{"/nokey", `[]`, []string{full}, 201, `[]`, nil},
		{"/people", `{"id":2}`, []string{full}, 201, `[{"id":2,"nick":"@anon"}]`, nil},
		{"/people", `{"id":3,"nick":"x"}`, []string{full}, 400, ``, nil},
		{"/pairs", `[{"a":1},{"b":"x"}]`, nil, 400, `{"code":"PGRST102","details":null,"hint":null,"message":"All object keys must match"}`, nil},
		{"/pairs", ``, nil, 400, `{"code":"PGRST102","details":null,"hint":null,"message":"Empty or invalid json"}`, nil},
		{"/pairs", `}{`, nil, 400, `{"code":"PGRST102","details":null,"hint":null,"message":"Empty or invalid json"}`, nil},
		{"/pairs", `[{"a":1,"b":"x"},2]`, nil, 400, `{"code":"PGRST102","details":null,"hint":null,"message":"All object keys must match"}`, nil},
		{"/pairs?select=a", `{"a":8,"a":9,"b":"twice"}`, []string{full}, 201, `[{"a":9}]`, nil},
		{"/pairs", `3`, []string{full}, 201, `[]`, nil},
		{"/pairs?select=a", `{"a":10,"b":"x"}`, []string{full, "Content-Type: application/json; $ what=ever"}, 201, `[{"a":10}]`, nil},
		{"/pairs", `{"c":1}`, nil, 400, `{"code":"PGRST204","details":null,"hint":null,"message":"Could not find the 'c' column of 'pairs' in the schema cache"}`, nil},
		{"/pairs?columns=q%22%20--", `{"a":1}`, nil, 400, ``, nil},
		{"/pairs", `a,b`, []string{"Content-Type: image/png"}, 400, ``, nil},
		{"/pairs", "a,b,v\n20,x,NULL\n21,\"y,\"\"z\",5\n", []string{"Content-Type: text/csv", full}, 201, `[{"a":20,"b":"x","v":null},{"a":21,"b":"y,\"z","v":5}]`, nil},
		{"/pairs", "a,b\n22\n", []string{"Content-Type: text/csv"}, 400, `{"code":"PGRST102","details":null,"hint":null,"message":"All lines must have same number of fields"}`, nil},
		{"/pairs", "a=23&b=x+y", []string{"Content-Type: application/x-www-form-urlencoded", full}, 201, `[{"a":23,"b":"x y","v":7}]`, nil},
		{"/projects", `{"id":1,"name":"dup"}`, nil, 409, `{"code":"23505","details":"Key (id)=(1) already exists.","hint":null,"message":"duplicate key value violates unique constraint \"projects_pkey\""}`, nil},
		{"/tasks", `{"id":60,"project_id":999}`, []string{full}, 409, ``, nil}, // deferred: refused at commit
		{"/names", `{"s":5,"t":6,"r":7,"w":8}`, []string{full}, 201, `[{"s":5,"t":6,"r":7,"w":8}]`, nil},
		{"/names?select=s&order=w", `[{"s":6,"r":7}]`, []string{full}, 201, `[{"s":6}]`, nil},
		{"/teapots", `{"id":1}`, nil, 418, `{"code":"PT418","details":null,"hint":"short","message":"teapot"}`, nil},
	} {
		a.check(t, http.MethodPost, c)
	}
	require.Equal(t, "0", a.value("SELECT count(*)::text FROM projects WHERE id IN (20, 21)"), "a refused singular insert leaves nothing")
	require.Equal(t, "0", a.value("SELECT count(*)::text FROM tasks WHERE id = 60"))
}

func TestUpsert(t *testing.T) {
	a := fixture(t, rest.Options{})
	const merge, ignore = "Prefer: resolution=merge-duplicates", "Prefer: resolution=ignore-duplicates"
	w := a.do(http.MethodPost, "/pairs", `[{"a":1,"b":"x","v":1},{"a":2,"b":"x","v":2}]`, merge, full)
	require.Equal(t, 201, w.Code, w.Body)
	require.Equal(t, "resolution=merge-duplicates, return=representation", w.Header().Get("Preference-Applied"))
	w = a.do(http.MethodPost, "/pairs", `[{"a":1,"b":"x","v":10},{"a":3,"b":"x","v":3}]`, merge, full)
	require.Equal(t, 201, w.Code, w.Body)
	require.JSONEq(t, `[{"a":1,"b":"x","v":10},{"a":3,"b":"x","v":3}]`, w.Body.String())
	w = a.do(http.MethodPost, "/pairs", `{"a":1,"b":"x","v":11}`, merge)
	require.Equal(t, 200, w.Code, "nothing was inserted")
	w = a.do(http.MethodPost, "/pairs", `[{"a":1,"b":"x","v":12},{"a":4,"b":"x","v":4}]`, ignore, full)
	require.Equal(t, 201, w.Code, w.Body)
	require.JSONEq(t, `[{"a":4,"b":"x","v":4}]`, w.Body.String())
	require.Equal(t, "1:11 2:2 3:3 4:4", a.value("SELECT string_agg(a || ':' || v, ' ' ORDER BY a) FROM pairs"))

	w = a.do(http.MethodPost, "/tasks?on_conflict=title&select=id,title", `{"id":9,"title":"code"}`, merge, full)
	require.Equal(t, 200, w.Code, w.Body)
	require.JSONEq(t, `[{"id":9,"title":"code"}]`, w.Body.String())
	w = a.do(http.MethodPost, "/tasks?on_conflict=done", `{"id":9,"title":"code"}`, merge)
	require.Equal(t, 400, w.Code)
	require.Contains(t, w.Body.String(), "42P10")
	w = a.do(http.MethodPost, "/pairs?columns=a,b,v", `[{"a":1,"b":"x"},{"a":5,"b":"x","v":1}]`, merge+", missing=default", full)
	require.JSONEq(t, `[{"a":1,"b":"x","v":7},{"a":5,"b":"x","v":1}]`, w.Body.String())
}

func TestUpdate(t *testing.T) {
	a := fixture(t, rest.Options{})
	for _, c := range []write{
		{"/projects?id=eq.1", `{"name":"N"}`, nil, 204, ``, map[string]string{"Content-Range": "0-0/*"}},
		{"/projects?id=eq.1&select=name", `{"name":"M"}`, []string{full}, 200, `[{"name":"M"}]`, nil},
		{"/projects?id=in.(1,2)&select=id&order=id", `{"state":"x","budget":5}`, []string{full, "Prefer: count=exact"}, 200, `[{"id":1},{"id":2}]`, map[string]string{"Content-Range": "0-1/2"}},
		{"/projects?id=eq.99", `{"name":"N"}`, []string{full}, 200, `[]`, map[string]string{"Content-Range": "*/*"}},
		{"/projects?id=eq.2&select=state,name", `{"name":"Z"}`, []string{full, singular}, 200, `{"state":"x","name":"Z"}`, nil},
		{"/projects?id=lt.3", `{"name":"Q"}`, []string{full, singular}, 406, ``, nil},
		{"/projects?id=lt.4", `{"name":"Q"}`, []string{"Prefer: handling=strict, max-affected=2"}, 400, `{"code":"PGRST124","details":"The query affects 3 rows","hint":null,"message":"Query result exceeds max-affected preference constraint"}`, nil},
		{"/projects?id=lt.3", `{"active":null}`, []string{"Prefer: handling=strict, max-affected=2"}, 204, ``, map[string]string{"Preference-Applied": "handling=strict, max-affected=2"}},
		{"/projects?id=eq.1&select=id", `{}`, []string{full}, 200, `[]`, nil},
		{"/projects?id=eq.1", `[{"name":"only"}]`, nil, 204, ``, nil},
		{"/projects?id=eq.1&select=name", `[{"name":"a"},{"name":"b"}]`, []string{full}, 200, `[{"name":"a"}]`, nil},
		{"/projects?id=eq.1", `[{"name":"a"},{"id":1}]`, nil, 400, `{"code":"PGRST102","details":null,"hint":null,"message":"All object keys must match"}`, nil},
		{"/projects?id=eq.1&columns=state,name&select=state,name", `{"name":"C","id":77}`, []string{full, "Prefer: missing=default"}, 200, `[{"state":"open","name":"C"}]`, nil},
		{"/projects?id=eq.1&columns=state&select=state", `{"name":"C"}`, []string{full}, 200, `[{"state":null}]`, nil},
		{"/projects?id=eq.1", `{"nope":1}`, nil, 400, ``, nil},
		{"/projects?id=in.(4,5)&limit=1&order=id&select=id,budget", `{"budget":3}`, []string{full}, 200, `[{"id":4,"budget":3.00},{"id":5,"budget":3.00}]`, nil}, // a limit is of reads
		{"/projects?id=eq.4&limit=-1", `{"budget":3}`, nil, 416, ``, nil},
		{"/projects?id=eq.4", `"x"`, []string{full}, 200, `[]`, nil},
		{"/projects?meta->>os=eq.ios&select=id", `{"meta":{"os":"x"}}`, []string{full}, 200, `[{"id":3}]`, nil},
		{"/people?id=eq.1", `{"nick":"@a"}`, nil, 204, ``, nil},
		{"/names?s=eq.1&r=eq.3", `{"r":9,"t":null}`, []string{full}, 200, `[{"s":1,"t":null,"r":9,"w":4}]`, nil},
	} {
		a.check(t, http.MethodPatch, c)
	}
	require.Equal(t, "0", a.value("SELECT count(*)::text FROM projects WHERE name = 'Q'"), "a refused update leaves nothing")
}

func TestDelete(t *testing.T) {
	a := fixture(t, rest.Options{})
	w := a.do(http.MethodDelete, "/tasks?id=eq.1&select=id,title", "", full)
	require.Equal(t, 200, w.Code)
	require.JSONEq(t, `[{"id":1,"title":"design"}]`, w.Body.String())
	require.Equal(t, "*/*", w.Header().Get("Content-Range"))
	w = a.do(http.MethodDelete, "/tasks?id=eq.1", "", "Prefer: count=exact")
	require.Equal(t, 204, w.Code)
	require.Equal(t, "*/0", w.Header().Get("Content-Range"))
	w = a.do(http.MethodDelete, "/tasks", "", singular)
	require.Equal(t, 406, w.Code)
	require.Equal(t, "2", a.value("SELECT count(*)::text FROM tasks"))
	w = a.do(http.MethodDelete, "/tasks?id=eq.2&offset=1", "")
	require.Equal(t, 204, w.Code)
	require.Equal(t, "1", a.value("SELECT count(*)::text FROM tasks"), "an offset is of reads")
	a.exec("UPDATE tasks SET project_id = 1")
	w = a.do(http.MethodDelete, "/projects?id=eq.1", "")
	require.Equal(t, 409, w.Code, "referenced")
}

func TestRolesDecide(t *testing.T) {
	a := fixture(t, rest.Options{})
	a.role = access.RoleViewer
	require.Equal(t, 200, a.get("/projects?id=eq.1").Code)
	for method, body := range map[string]string{http.MethodPost: `{"v":1}`, http.MethodPatch: `{"v":1}`, http.MethodDelete: ""} {
		w := a.do(method, "/nokey", body)
		require.Equal(t, 403, w.Code)
		require.Contains(t, w.Body.String(), `"42501"`)
	}
	a.role = access.RoleEditor
	a.exec(`CREATE TABLE dropbox (v int); REVOKE ALL ON dropbox FROM "` + a.router.database + `_rw"; GRANT INSERT ON dropbox TO "` + a.router.database + `_rw"`)
	require.Equal(t, 201, a.do(http.MethodPost, "/dropbox", `{"v":1}`).Code, "writing needs no right to read")
	require.Equal(t, 403, a.do(http.MethodPost, "/dropbox", `{"v":1}`, full).Code)
}

func TestAnswerBound(t *testing.T) {
	a := fixture(t, rest.Options{MaxAnswer: 100})
	a.exec("INSERT INTO nokey SELECT i FROM generate_series(1, 100) i")
	w := a.get("/nokey")
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Contains(t, w.Body.String(), `"code":"answer_too_large"`)
	require.Contains(t, w.Body.String(), "up to 100.")
	require.Equal(t, 200, a.get("/nokey?limit=3").Code)
	require.Equal(t, 200, a.get("/nokey?limit=1", "Accept: application/vnd.pgrst.object+json").Code)
	require.Equal(t, 200, a.do(http.MethodHead, "/nokey", "").Code, "it has no body")

	// A few bytes may stand for many: nothing of such a write stays.
	many := `[{"v":2000000001},{"v":2000000002},{"v":2000000003},{"v":2000000004},{"v":2000000005},{"v":2000000006},{"v":2000000007}]`
	w = a.do(http.MethodPost, "/nokey", many, full)
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Contains(t, w.Body.String(), "answer_too_large")
	require.Equal(t, "0", a.value("SELECT count(*)::text FROM nokey WHERE v > 2000000000"))
	require.Equal(t, 201, a.do(http.MethodPost, "/nokey", many).Code)

	// The bound is exact.
	exact := a.get("/nokey?limit=5").Body.Len()
	a.use(rest.Options{MaxAnswer: int64(exact)})
	require.Equal(t, 200, a.get("/nokey?limit=5").Code)
	a.use(rest.Options{MaxAnswer: int64(exact) - 1})
	require.Equal(t, 400, a.get("/nokey?limit=5").Code)
}

func TestBodyBound(t *testing.T) {
	a := fixture(t, rest.Options{MaxBody: 100})
	w := a.do(http.MethodPost, "/nokey", `{"v":1`+strings.Repeat(" ", 200)+`}`)
	require.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
}
