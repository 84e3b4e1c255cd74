package rest_test

import (
	"net/http"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest"
	"github.com/freehold-db/freehold/internal/access"
)

// functions is the fixture with functions to call.
func functions(t testing.TB, opts rest.Options) *api {
	t.Helper()
	a := films(t, opts)
	sql, err := os.ReadFile("testdata/functions.sql")
	require.NoError(t, err)
	a.exec(string(sql))
	return a
}

func TestCallByGet(t *testing.T) {
	a := functions(t, rest.Options{})
	a.expect([]expect{
		{"/rpc/add_them?a=1&b=2", `3`},
		{"/rpc/greet", `"hi you"`},
		{"/rpc/greet?name=me", `"hi me"`},
		{"/rpc/plus_one?v=1&v=2&v=3", `[2,3,4]`},
		{"/rpc/array_plus?arr={1,2}", `[2,3]`},
		{"/rpc/films_after?y=1970&select=title,directors(last_name)&order=id&limit=1", `[{"title":"The Shining","directors":{"last_name":"Kubrick"}}]`},
		{"/rpc/films_after?y=1960&year=lt.1965&select=id", `[{"id":2}]`},
		{"/rpc/one_film?i=2&select=title,actors(id)", `{"title":"Cléo","actors":[{"id":2}]}`},
		{"/rpc/numbers", `[1,2,3,4,5]`},
		{"/rpc/numbers?limit=2&offset=1", `[2,3]`},
		{"/rpc/pair_of?n=2", `{"twice":4,"thrice":6}`},
		{"/rpc/pair_of?n=2&select=x:thrice", `{"x":6}`},
		{"/rpc/single_out?n=2", `{"twice":4}`},
		{"/rpc/in_out?n=2", `{"n":3}`},
		{"/rpc/tabular?top=3&n=gt.1&order=n.desc&select=sq uare", `[{"sq uare":9},{"sq uare":4}]`},
		{"/rpc/untyped", `[{"id":1,"name":"chief"},{"id":2,"name":"a"}]`},
		{"/rpc/over?a=1", `"a"`},
		{"/rpc/over?a=1&b=2", `"a, b"`},
	})
	w := a.get("/rpc/films_after?y=1&limit=1&order=id&select=id", "Prefer: count=exact")
	require.Equal(t, 206, w.Code)
	require.Equal(t, "0-0/4", w.Header().Get("Content-Range"))
	require.JSONEq(t, `[{"id":1}]`, w.Body.String())
	w = a.get("/rpc/films_after?y=1970&id=eq.3&select=id", singular)
	require.JSONEq(t, `{"id":3}`, w.Body.String())
	require.Equal(t, 405, a.get("/rpc/hire?name=x").Code, "GET never writes")
	require.Equal(t, 200, a.do(http.MethodHead, "/rpc/add_them?a=1&b=2", "").Code)
	a.role = access.RoleViewer
	require.Equal(t, 200, a.get("/rpc/numbers").Code)
}

func TestCallByPost(t *testing.T) {
	a := functions(t, rest.Options{Rollback: true})
	const text, binary, form = "Content-Type: text/plain", "Content-Type: application/octet-stream", "Content-Type: application/x-www-form-urlencoded"
	for _, c := range []struct {
		path, body string
		headers    []string
		status     int
		want       string
	}{
		{"/rpc/add_them", `{"a":1,"b":2}`, nil, 200, `3`},
		{"/rpc/add_them", `a=1&b=5`, []string{form}, 200, `6`},
		{"/rpc/greet", ``, nil, 200, `"hi you"`},
		{"/rpc/greet", `{}`, nil, 200, `"hi you"`},
		{"/rpc/greet", `{"name":null}`, nil, 200, `null`},
		{"/rpc/plus_one", `{"v":[1,2]}`, nil, 200, `[2,3]`},
		{"/rpc/plus_one", `v=1&v=4`, []string{form}, 200, `[2,5]`},
		{"/rpc/add_them?columns=a,b", `{"a":1,"b":2,"c":3}`, nil, 200, `3`},
		{"/rpc/films_after?select=id&id=eq.4", `{"y":1900}`, nil, 200, `[{"id":4}]`},
		{"/rpc/whole", `[1,{"a":2}]`, nil, 200, `{"got":[1,{"a":2}]}`},
		{"/rpc/whole", `{"a":2}`, nil, 200, `{"got":{"a":2}}`},
		{"/rpc/length_of", `four`, []string{text}, 200, `4`},
		{"/rpc/size_of", "\x00\xff\x01", []string{binary}, 200, `3`},
		{"/rpc/hire?select=id,boss_id(name)", `{"name":"new"}`, nil, 200, `{"id":5,"boss_id":{"name":"chief"}}`},
		{"/rpc/hire_two", ``, []string{singular}, 406, ``},
		{"/rpc/hire_two?select=id", ``, []string{"Prefer: count=exact"}, 200, `[{"id":6},{"id":7}]`},
		{"/rpc/nothing", ``, nil, 204, ``},
		{"/rpc/teapot", ``, nil, 418, `"short"`},
		{"/rpc/bad_headers", ``, nil, 500, `{"code":"PGRST111","details":null,"hint":null,"message":"response.headers guc must be a JSON array composed of objects with a single key and a string value"}`},
		{"/rpc/bad_status", ``, nil, 500, `{"code":"PGRST112","details":null,"hint":null,"message":"response.status guc must be a valid status code"}`},
		{"/rpc/add_them", `{"a":1,"c":2}`, nil, 404, `{"code":"PGRST202","details":"Searched for the function public.add_them with parameters a, c or with a single unnamed json/jsonb parameter, but no matches were found in the schema cache.","hint":"Perhaps you meant to call the function public.add_them(a, b)","message":"Could not find the function public.add_them(a, c) in the schema cache"}`},
		{"/rpc/ad_them", ``, nil, 404, `{"code":"PGRST202","details":"Searched for the function public.ad_them without parameters or with a single unnamed json/jsonb parameter, but no matches were found in the schema cache.","hint":"Perhaps you meant to call the function public.add_them","message":"Could not find the function public.ad_them without parameters in the schema cache"}`},
		{"/rpc/add_them", `[{"a":1,"b":2},{"a":4,"b":5}]`, nil, 200, `3`},
		{"/rpc/add_them", `{"a":1,"b":2}`, []string{"Prefer: handling=strict, max-affected=1"}, 400, `{"code":"PGRST128","details":null,"hint":null,"message":"Function must return SETOF or TABLE when max-affected preference is used with handling=strict"}`},
		{"/rpc/same", `{"a":1}`, nil, 300, `{"code":"PGRST203","details":null,"hint":"Try renaming the parameters or the function itself in the database so function overloading can be resolved","message":"Could not choose the best candidate function between: public.same(a => integer), public.same(a => text)"}`},
		{"/rpc/add_them", `{"a":`, nil, 400, ``},
		{"/rpc/add_them", `<x/>`, []string{"Content-Type: image/png"}, 400, ``},
		{"/rpc/length_of", `{}`, nil, 404, ``},
		{"/rpc/films_after?select=nope", `{"y":1}`, nil, 400, ``},
		{"/rpc/greet?name=1", ``, nil, 400, ``},
	} {
		w := a.do(http.MethodPost, escape(c.path), c.body, c.headers...)
		require.Equal(t, c.status, w.Code, "%s %s: %s", c.path, c.body, w.Body)
		if c.want != "" {
			require.JSONEq(t, c.want, w.Body.String(), "%s %s", c.path, c.body)
		}
	}
	require.Equal(t, "7", a.value("SELECT count(*)::text FROM employees"), "what was refused is undone")
	w := a.do(http.MethodPost, "/rpc/teapot", "")
	require.Equal(t, []string{"a=1", "b=2"}, w.Header().Values("Set-Cookie"))
	require.Equal(t, "green", w.Header().Get("X-Tea"))
	require.Equal(t, "7", w.Header().Get("Content-Length"))
	w = a.do(http.MethodPatch, "/rpc/greet", "{}")
	require.Equal(t, 405, w.Code)
	require.Contains(t, w.Body.String(), "PGRST101")
	a.role = access.RoleViewer
	require.Equal(t, 403, a.do(http.MethodPost, "/rpc/hire", `{"name":"x"}`).Code, "a viewer is a viewer")
}

func TestValuesAsTheyAre(t *testing.T) {
	a := functions(t, rest.Options{})
	w := a.get("/rpc/greet", "Accept: text/plain")
	require.Equal(t, "hi you", w.Body.String())
	require.Equal(t, "text/plain; charset=utf-8", w.Header().Get("Content-Type"))
	w = a.get("/rpc/blob", "Accept: application/octet-stream")
	require.Equal(t, "\x00\xff\x10", w.Body.String())
	require.Equal(t, "application/octet-stream", w.Header().Get("Content-Type"))
	w = a.get("/rpc/page", "Accept: text/html, */*")
	require.Equal(t, "<p>hi</p>", w.Body.String())
	require.Equal(t, "text/html", w.Header().Get("Content-Type"))
	require.Equal(t, `"hi you"`, a.get("/rpc/greet", "Accept: text/html, */*;q=0.1").Body.String())
	require.Equal(t, 406, a.get("/rpc/greet", "Accept: image/png").Code)
	require.Equal(t, 406, a.get("/films", "Accept: image/png").Code)
}

// A function's rows are called once although they are counted and read, and are
// still rows of their relation.
func TestCallCounted(t *testing.T) {
	a := functions(t, rest.Options{})
	a.exec(`CREATE FUNCTION some_staff(lowest int) RETURNS SETOF employees LANGUAGE sql STABLE AS $$ SELECT * FROM employees WHERE id >= lowest $$;
		CREATE FUNCTION badge(employees) RETURNS text LANGUAGE sql STABLE AS $$ SELECT '#' || $1.id $$;
		CREATE VIEW marked AS SELECT set_config('response.headers', '[{"X-View": "yes"}]', true) AS done`)
	w := a.get("/rpc/some_staff?lowest=2&select=badge,boss(name),boss_id(badge)&order=badge.desc&limit=1&badge=neq.x", "Prefer: count=exact")
	require.Equal(t, 206, w.Code, w.Body)
	require.JSONEq(t, `[{"badge":"#4","boss":{"name":"a"},"boss_id":{"badge":"#2"}}]`, w.Body.String())
	require.Equal(t, "0-0/3", w.Header().Get("Content-Range"))
	w = a.do(http.MethodPost, "/rpc/hire_two?select=badge", "", "Prefer: count=exact", "Accept: text/csv")
	require.Equal(t, "badge\n#5\n#6", w.Body.String())
	require.Equal(t, "6", a.value("SELECT count(*)::text FROM employees"))
	require.Equal(t, "yes", a.get("/marked").Header().Get("X-View"))
}

// What a function that writes would answer is bounded before it is committed.
func TestCallBounded(t *testing.T) {
	a := functions(t, rest.Options{MaxAnswer: 24})
	for _, accept := range []string{"Accept: application/json", "Accept: text/csv"} {
		w := a.do(http.MethodPost, "/rpc/hire_two", "", accept)
		require.Equal(t, 400, w.Code, w.Body)
		require.Contains(t, w.Body.String(), "answer_too_large")
	}
	w := a.do(http.MethodPost, "/rpc/hire_two", "", "Prefer: handling=strict, max-affected=1")
	require.Contains(t, w.Body.String(), "PGRST124")
	require.Equal(t, "4", a.value("SELECT count(*)::text FROM employees"))
	require.Equal(t, 200, a.do(http.MethodPost, "/rpc/hire_two?select=id", "").Code)
}
