package rest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest"
)

func TestPut(t *testing.T) {
	a := fixture(t, rest.Options{})
	for _, c := range []struct {
		path, body string
		headers    []string
		status     int
		want       string
	}{
		{"/pairs?a=eq.1&b=eq.x", `{"a":1,"b":"x","v":1}`, nil, 204, ``},
		{"/pairs?a=eq.1&b=eq.x", `[{"a":1,"b":"x","v":2},{"a":1,"b":"y","v":2}]`, nil, 204, ``},
		{"/pairs?a=eq.1&b=eq.x", `[{"a":1,"b":"x","v":3}]`, []string{full}, 200, `[{"a":1,"b":"x","v":3}]`},
		{"/pairs?a=eq.2&b=eq.x&select=v", `{"a":2,"b":"x"}`, []string{full, singular}, 201, `{"v":7}`},
		{"/pairs?a=eq.1&b=eq.x", `{"a":1,"b":"y","v":3}`, nil, 400, `{"code":"PGRST115","details":null,"hint":null,"message":"Payload values do not match URL in primary key column(s)"}`},
		{"/pairs?a=eq.1&b=eq.x", `{"a":1,"v":3}`, nil, 400, ``},
		{"/pairs?a=eq.1", `{"a":1,"b":"x"}`, nil, 405, `{"code":"PGRST105","details":null,"hint":null,"message":"Filters must include all and only primary key columns with 'eq' operators"}`},
		{"/pairs?a=eq.1&b=eq.x&v=eq.1", `{"a":1,"b":"x"}`, nil, 405, ``},
		{"/pairs?a=eq.1&b=not.eq.x", `{"a":1,"b":"x"}`, nil, 405, ``},
		{"/pairs?and=(a.eq.1,b.eq.x)", `{"a":1,"b":"x"}`, nil, 405, ``},
		{"/nokey", `{"v":1}`, nil, 405, ``},
		{"/pairs?a=eq.1&b=eq.x&limit=1", `{"a":1,"b":"x"}`, nil, 400, `{"code":"PGRST114","details":null,"hint":null,"message":"limit/offset querystring parameters are not allowed for PUT"}`},
	} {
		w := a.do(http.MethodPut, c.path, c.body, c.headers...)
		require.Equal(t, c.status, w.Code, "%s %s: %s", c.path, c.body, w.Body)
		if c.want != "" {
			require.JSONEq(t, c.want, w.Body.String(), "%s %s", c.path, c.body)
		}
	}
	require.Equal(t, "1x3 2x7", a.value("SELECT string_agg(a || b || v, ' ' ORDER BY a) FROM pairs"))
}

func TestCSV(t *testing.T) {
	a := films(t, rest.Options{})
	w := a.get("/films?select=id,title,rating,directors(last_name)&id=in.(1,4)&order=id", "Accept: text/csv")
	require.Equal(t, "text/csv; charset=utf-8", w.Header().Get("Content-Type"))
	require.Equal(t, "id,title,rating,directors\n1,2001,8.3,\"{\"\"last_name\"\": \"\"Kubrick\"\"}\"\n4,Orphan,,", w.Body.String())
	require.Equal(t, "\n", a.get("/films?id=eq.99", "Accept: text/csv").Body.String())
	w = a.do(http.MethodPost, "/addresses?select=id", `{"id":7}`, full, "Accept: text/csv")
	require.Equal(t, "id\n7", w.Body.String())
}

func TestOptions(t *testing.T) {
	a := functions(t, rest.Options{})
	a.exec("CREATE VIEW grouped AS SELECT year, count(*) FROM films GROUP BY year; CREATE FUNCTION nullary() RETURNS int STABLE LANGUAGE sql AS 'SELECT 1'; CREATE FUNCTION busy(n int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT n'")
	for path, want := range map[string]string{
		"/films": "OPTIONS,GET,HEAD,POST,PUT,PATCH,DELETE", "/grouped": "OPTIONS,GET,HEAD", "/nokey": "OPTIONS,GET,HEAD,POST,PATCH,DELETE",
		"/rpc/nullary": "OPTIONS,GET,HEAD,POST", "/rpc/busy": "OPTIONS,POST",
	} {
		w := a.do(http.MethodOptions, path, "")
		require.Equal(t, 200, w.Code, "%s: %s", path, w.Body)
		require.Equal(t, want, w.Header().Get("Allow"), path)
	}
	require.Equal(t, 404, a.do(http.MethodOptions, "/nothing_at_all", "").Code)
	require.Equal(t, 404, a.do(http.MethodOptions, "/rpc/nothing_at_all", "").Code)
	require.Equal(t, 404, a.do(http.MethodOptions, "/rpc/add_them", "").Code, "it can't be called without arguments")
}

func TestRollback(t *testing.T) {
	a := functions(t, rest.Options{Rollback: true})
	w := a.do(http.MethodPost, "/addresses?select=id", `{"id":7}`, full, "Prefer: tx=rollback")
	require.Equal(t, 201, w.Code, w.Body)
	require.JSONEq(t, `[{"id":7}]`, w.Body.String())
	require.Equal(t, "return=representation, tx=rollback", w.Header().Get("Preference-Applied"))
	w = a.do(http.MethodPost, "/rpc/hire?select=id", `{"name":"x"}`, "Prefer: tx=rollback")
	require.JSONEq(t, `{"id":5}`, w.Body.String())
	require.Equal(t, 409, a.do(http.MethodPost, "/tasks", `{"id":70,"project_id":999}`, "Prefer: tx=rollback").Code, "a deferred constraint still speaks")
	require.Equal(t, 409, a.do(http.MethodPost, "/addresses", `{"id":1}`, "Prefer: tx=rollback").Code)
	require.Equal(t, "2 4", a.value("SELECT (SELECT count(*) FROM addresses) || ' ' || (SELECT count(*) FROM employees)"))
	require.Equal(t, 201, a.do(http.MethodPost, "/addresses", `{"id":7}`, "Prefer: tx=commit").Code)

	a.use(rest.Options{})
	w = a.do(http.MethodPost, "/addresses", `{"id":8}`, "Prefer: tx=rollback")
	require.Empty(t, w.Header().Get("Preference-Applied"), "not allowed here")
	require.Equal(t, "4", a.value("SELECT count(*)::text FROM addresses"))
}

func TestCounts(t *testing.T) {
	a := fixture(t, rest.Options{MaxRows: 10})
	a.exec("CREATE TABLE many (id int PRIMARY KEY); INSERT INTO many SELECT generate_series(1, 1000); ANALYZE many")
	for _, c := range []struct{ path, prefer, want string }{
		{"/many", "count=planned", "0-9/1000"},
		{"/many?id=eq.1", "count=planned", "0-0/1"},
		{"/many", "count=estimated", "0-9/1000"},
		{"/many?id=lt.6", "count=estimated", "0-4/5"},
		{"/many?id=lt.12", "count=estimated", "0-9/11"},
		{"/many", "count=exact", "0-9/1000"},
	} {
		w := a.get(c.path, "Prefer: "+c.prefer)
		require.Less(t, w.Code, 300, w.Body)
		require.Equal(t, c.want, w.Header().Get("Content-Range"), "%s %s", c.path, c.prefer)
		require.Equal(t, c.prefer, w.Header().Get("Preference-Applied"))
	}
}

func TestExecutionPlans(t *testing.T) {
	a := films(t, rest.Options{Plans: true})
	w := a.get("/films?id=eq.1&select=directors(id)", "Accept: application/vnd.pgrst.plan+json; options=analyze|verbose")
	require.Equal(t, 200, w.Code, w.Body)
	require.Equal(t, `application/vnd.pgrst.plan+json; for="application/json"; options=analyze|verbose; charset=utf-8`, w.Header().Get("Content-Type"))
	require.Contains(t, w.Body.String(), `"Actual Rows"`)
	w = a.get("/films", `Accept: application/vnd.pgrst.plan+text; for="application/json"; options=;`) // as postgrest-js asks
	require.Equal(t, `application/vnd.pgrst.plan+text; for="application/json"; charset=utf-8`, w.Header().Get("Content-Type"))
	w = a.do(http.MethodPatch, "/films?id=eq.1", `{"year":1}`, "Accept: application/vnd.pgrst.plan")
	require.True(t, strings.HasPrefix(w.Body.String(), "Aggregate"), w.Body)
	require.Equal(t, "1968", a.value("SELECT year::text FROM films WHERE id = 1"), "a plan is not carried out")
	a.use(rest.Options{})
	require.Equal(t, 406, a.get("/films", "Accept: application/vnd.pgrst.plan").Code)
}
