package rest_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest"
)

func TestRead(t *testing.T) {
	a := fixture(t, rest.Options{})
	for _, c := range []struct{ path, want string }{
		// columns
		{"/projects?id=eq.1&select=id,name", `[{"id":1,"name":"Windows 7"}]`},
		{"/projects?id=eq.1&select=Title:name,n:id", `[{"Title":"Windows 7","n":1}]`},
		{"/projects?id=eq.1&select=id::text", `[{"id":"1"}]`},
		{"/projects?id=eq.1&select=sum:budget::int", `[{"sum":101}]`},
		{"/projects?id=eq.1&select=meta->os", `[{"os":"win"}]`},
		{"/projects?id=eq.1&select=meta->n,meta->>os", `[{"n":7,"os":"win"}]`},
		{"/projects?id=eq.1&select=meta->list->1->>k", `[{"k":"y"}]`},
		{"/projects?id=eq.1&select=meta->list->0", `[{"list":{"k":"x"}}]`},
		{"/projects?id=eq.1&select=meta->list->-1->>k", `[{"k":"y"}]`},
		{"/projects?id=eq.1&select=first:tags->>0", `[{"first":"a"}]`},
		{"/projects?id=eq.1&select=raw->a,n:meta->>n::int", `[{"a":2,"n":7}]`},
		{"/projects?id=eq.1&select=a%22b%3B--:id", ""},
		{"/projects?id=eq.1&select=%22a%5C%22b%3B--%22:id", `[{"a\"b;--":1}]`},
		{"/odd%20name?select=*", `[{"a \"b":1,"select":"x","ünï":"y"}]`},
		{`/odd%20name?%22a%20%5C%22b%22=eq.1&select=ünï`, `[{"ünï":"y"}]`},
		// names that the statement uses itself
		{"/projects?id=eq.1&select=s:id,t:name", `[{"s":1,"t":"Windows 7"}]`},
		{"/names?select=*&s=eq.1&order=t.desc", `[{"s":1,"t":2,"r":3,"w":4}]`},
		{"/names?select=s", `[{"s":1}]`},
		// operators
		{"/projects?id=neq.1&id=lt.4&select=id", `[{"id":2},{"id":3}]`},
		{"/projects?id=gte.2&id=lte.3&select=id", `[{"id":2},{"id":3}]`},
		{"/projects?id=gt.4&select=id", `[{"id":5}]`},
		{"/projects?name=like.Win*&select=id", `[{"id":1},{"id":2}]`},
		{"/projects?name=ilike.*WINDOWS*&select=id", `[{"id":1},{"id":2}]`},
		{"/projects?name=match.^W.*0$&select=id", `[{"id":2}]`},
		{"/projects?name=imatch.^ios&select=id", `[{"id":3}]`},
		{"/projects?id=in.(1,3,9)&select=id", `[{"id":1},{"id":3}]`},
		{"/projects?id=in.()&select=id", `[]`},
		{`/projects?name=in.("OS/2, Warp","say \"hi\"")&select=id`, `[{"id":4},{"id":5}]`},
		{"/projects?id=not.in.(1,2,3)&select=id", `[{"id":4},{"id":5}]`},
		{"/projects?budget=is.null&select=id", `[{"id":3},{"id":5}]`},
		{"/projects?budget=is.not_null&id=lt.2&select=id", `[{"id":1}]`},
		{"/projects?active=is.TRUE&select=id", `[{"id":1},{"id":4}]`},
		{"/projects?active=not.is.false&select=id", `[{"id":1},{"id":3},{"id":4}]`},
		{"/projects?active=is.unknown&select=id", `[{"id":3}]`},
		{"/projects?state=isdistinct.open&select=id", `[{"id":3},{"id":4},{"id":5}]`},
		{"/projects?tags=cs.{b}&select=id", `[{"id":1},{"id":2}]`},
		{"/projects?tags=cd.{a,b,z}&select=id", `[{"id":1},{"id":4}]`},
		{"/projects?tags=ov.{c,z}&select=id", `[{"id":2}]`},
		{`/projects?meta=cs.{"os":"ios"}&select=id`, `[{"id":3}]`},
		{"/projects?period=sl.[10,20)&select=id", `[{"id":1},{"id":2}]`},
		{"/projects?period=sr.[1,4)&select=id", `[{"id":2}]`},
		{"/projects?period=adj.[5,6)&select=id", `[{"id":1}]`},
		{"/projects?words=fts.windows&select=id", `[{"id":1},{"id":2}]`},
		{"/projects?words=fts(english).window&select=id", `[{"id":1},{"id":2}]`},
		{"/projects?name=plfts(simple).windows 7&select=id", `[{"id":1}]`},
		{"/projects?name=wfts.windows -10&select=id", `[{"id":1}]`},
		{"/projects?name=phfts.windows 10&select=id", `[{"id":2}]`},
		{"/projects?mood=eq.happy&select=id", `[{"id":1}]`},
		{"/projects?started=lt.2010-01-01&select=id", `[{"id":1},{"id":4}]`},
		{"/projects?id=eq(any).{1,4}&select=id", `[{"id":1},{"id":4}]`},
		{"/projects?name=like(all).{Win*,*7}&select=id", `[{"id":1}]`},
		{"/projects?name=ilike(any).{ios*,win*7}&select=id", `[{"id":1},{"id":3}]`},
		// JSON
		{"/projects?meta->>os=eq.win&select=id", `[{"id":1},{"id":2}]`},
		{"/projects?meta->n=gt.7&select=id", `[{"id":2},{"id":3}]`},
		{"/projects?raw->z=eq.1&select=id", `[{"id":1}]`},
		{"/projects?meta->>os=is.null&id=gt.3&select=id", `[{"id":4},{"id":5}]`},
		// logic
		{"/projects?or=(id.eq.1,id.eq.3)&select=id", `[{"id":1},{"id":3}]`},
		{"/projects?and=(id.gte.2,id.lte.3)&select=id", `[{"id":2},{"id":3}]`},
		{"/projects?not.or=(id.eq.1,id.gt.2)&select=id", `[{"id":2}]`},
		{"/projects?or=(and(id.gt.1,id.lt.3),not.and(id.lt.5,name.not.is.null))&select=id", `[{"id":2},{"id":5}]`},
		{`/projects?or=(name.eq."OS/2, Warp",id.in.(1,2),tags.cs.{"x,y"})&select=id`, `[{"id":1},{"id":2},{"id":4},{"id":5}]`},
		{"/projects?or=(meta->>os.eq.ios,id.eq.1)&select=id", `[{"id":1},{"id":3}]`},
		// order and pages
		{"/projects?order=id.desc&limit=2&select=id", `[{"id":5},{"id":4}]`},
		{"/projects?order=budget.desc.nullslast,id.desc&select=id", `[{"id":2},{"id":1},{"id":4},{"id":5},{"id":3}]`},
		{"/projects?order=budget.nullsfirst,id&limit=3&select=id", `[{"id":3},{"id":5},{"id":4}]`},
		{"/projects?order=meta->n.desc.nullslast&limit=1&select=id", `[{"id":3}]`},
		{"/projects?order=id&limit=2&offset=1&select=id", `[{"id":2},{"id":3}]`},
		{"/projects?limit=0", `[]`},
		// views
		{"/open_projects?order=id&select=name", `[{"name":"Windows 7"},{"name":"Windows 10"}]`},
		{"/projects?id=eq.9", `[]`},
		{"/projects?select=&id=eq.9", `[]`},
	} {
		w := a.get(escape(c.path))
		if c.want == "" {
			require.Equal(t, http.StatusBadRequest, w.Code, "%s: %s", c.path, w.Body)
			continue
		}
		require.Equal(t, http.StatusOK, w.Code, "%s: %s", c.path, w.Body)
		require.JSONEq(t, c.want, w.Body.String(), c.path)
		require.Equal(t, "application/json; charset=utf-8", w.Header().Get("Content-Type"))
	}
}

func TestReadAnswers(t *testing.T) {
	a := fixture(t, rest.Options{MaxRows: 4})
	for _, c := range []struct {
		path    string
		headers []string
		status  int
		want    map[string]string
	}{
		{"/projects?id=lt.3", nil, 200, map[string]string{"Content-Range": "0-1/*", "Content-Location": "/projects?id=lt.3"}},
		{"/projects?id=eq.9", nil, 200, map[string]string{"Content-Range": "*/*"}},
		{"/projects?id=eq.9", []string{"Prefer: count=exact"}, 200, map[string]string{"Content-Range": "*/0", "Preference-Applied": "count=exact"}},
		{"/projects?limit=2", []string{"Prefer: count=exact"}, 206, map[string]string{"Content-Range": "0-1/5"}},
		{"/projects?limit=2&offset=4", []string{"Prefer: count=exact"}, 206, map[string]string{"Content-Range": "4-4/5"}},
		{"/projects?offset=5", []string{"Prefer: count=exact"}, 206, map[string]string{"Content-Range": "*/5"}},
		{"/projects?offset=6", []string{"Prefer: count=exact"}, 416, nil},
		{"/projects", []string{"Prefer: count=exact"}, 206, map[string]string{"Content-Range": "0-3/5"}}, // MaxRows
		{"/projects", []string{"Range: 1-2"}, 200, map[string]string{"Content-Range": "1-2/*"}},
		{"/projects", []string{"Range: 3-"}, 200, map[string]string{"Content-Range": "3-4/*"}},
		{"/projects?limit=1&offset=1", []string{"Range: 1-4"}, 200, map[string]string{"Content-Range": "1-1/*"}},
		{"/projects", []string{"Range: 2-1"}, 416, nil},
		{"/projects?limit=-1", nil, 416, nil},
		{"/projects", []string{"Range: bytes=0-1"}, 200, map[string]string{"Content-Range": "0-3/*"}},
		{"/projects?id=eq.1", []string{"Accept: application/vnd.pgrst.object+json"}, 200, map[string]string{"Content-Type": "application/vnd.pgrst.object+json; charset=utf-8"}},
		{"/projects", []string{"Accept: application/vnd.pgrst.object+json"}, 406, nil},
		{"/projects", []string{"Accept: image/png"}, 406, nil},
		{"/projects", []string{"Accept: image/png;q=0.9, application/json;q=0.5"}, 200, nil},
		{"/projects?b=1", nil, 400, nil},
		{"/projects", []string{"Accept-Profile: secret"}, 406, nil},
		{"/projects", []string{"Prefer: handling=strict, foo"}, 400, nil},
		{"/projects", []string{"Prefer: handling=lenient, foo"}, 200, map[string]string{"Preference-Applied": "handling=lenient"}},
		{"/settings", []string{"Prefer: timezone=Jupiter/Red_Spot"}, 200, map[string]string{"Preference-Applied": ""}},
		{"/settings", []string{"Prefer: handling=strict, timezone=Jupiter/Red_Spot"}, 400, nil},
		{"/settings", []string{"Prefer: handling=strict, timezone=Local"}, 400, nil},
		{"/nope", []string{"Prefer: handling=strict, foo"}, 404, nil},
		{"/settings", []string{"Prefer: handling=strict, timezone=America/Los_Angeles"}, 200, map[string]string{"Preference-Applied": "handling=strict, timezone=America/Los_Angeles"}},
		{"/counted", nil, 405, nil},
	} {
		w := a.get(c.path, c.headers...)
		require.Equal(t, c.status, w.Code, "%s %v: %s", c.path, c.headers, w.Body)
		for name, value := range c.want {
			require.Equal(t, value, w.Header().Get(name), "%s %v", c.path, c.headers)
		}
	}
	w := a.get("/projects?id=eq.1&select=id,name", "Accept: application/vnd.pgrst.object+json")
	require.JSONEq(t, `{"id":1,"name":"Windows 7"}`, w.Body.String())
	w = a.get("/projects?id=eq.3&select=id,budget", "Accept: application/vnd.pgrst.object+json;nulls=stripped")
	require.JSONEq(t, `{"id":3}`, w.Body.String())
	w = a.get("/projects?id=eq.7", "Accept: application/vnd.pgrst.object+json")
	require.JSONEq(t, `{"code":"PGRST116","details":"The result contains 0 rows","hint":null,"message":"Cannot coerce the result to a single JSON object"}`, w.Body.String())

	head := a.do(http.MethodHead, "/projects", "", "Prefer: count=exact")
	require.Equal(t, 206, head.Code)
	require.Empty(t, head.Body.String())
	require.Equal(t, "0-3/5", head.Header().Get("Content-Range"))
}

func TestFaults(t *testing.T) {
	a := fixture(t, rest.Options{})
	for _, c := range []struct {
		path, want string
		status     int
	}{
		{"/projekts", `{"code":"PGRST205","details":null,"hint":"Perhaps you meant the table 'public.projects'","message":"Could not find the table 'public.projekts' in the schema cache"}`, 404},
		{"/nothing_like_it", `{"code":"PGRST205","details":null,"hint":null,"message":"Could not find the table 'public.nothing_like_it' in the schema cache"}`, 404},
		{"/projects?nme=eq.1", `{"code":"42703","details":null,"hint":"Perhaps you meant to reference the column \"projects.name\".","message":"column projects.nme does not exist"}`, 400},
		{"/projects?id=val", `{"code":"PGRST100","details":"unexpected \"v\" expecting \"not\" or operator (eq, gt, ...)","hint":null,"message":"\"failed to parse filter (val)\" (line 1, column 1)"}`, 400},
		{"/projects?id=eq.x", `{"code":"22P02","details":null,"hint":null,"message":"invalid input syntax for type integer: \"x\""}`, 400},
		{"/projects?tasks.id=eq.1", `{"code":"PGRST108","details":null,"hint":"Verify that 'tasks' is included in the 'select' query parameter.","message":"'tasks' is not an embedded resource in this request"}`, 400},
		{"/projects?select=id.sum()", `{"code":"PGRST123","details":null,"hint":null,"message":"Use of aggregate functions is not allowed"}`, 400},
		{"/projects?select=id::pg_authid", `{"code":"42704","details":null,"hint":null,"message":"type \"pg_authid\" does not exist"}`, 400},
	} {
		w := a.get(c.path)
		require.Equal(t, c.status, w.Code, "%s: %s", c.path, w.Body)
		require.JSONEq(t, c.want, w.Body.String(), c.path)
	}
}

func TestSessionIsTheRequests(t *testing.T) {
	a := fixture(t, rest.Options{})
	w := a.get("/settings", "X-Test: yes", "Authorization: Bearer secret", "Prefer: timezone=America/Los_Angeles", "Accept: application/vnd.pgrst.object+json")
	require.JSONEq(t, `{"who":"`+a.router.database+`_rw","sub":"alice","method":"GET","path":"/settings","header":"yes","token":null,"at":"2023-12-31T16:00:00-08:00"}`, w.Body.String())
	require.Equal(t, "timezone=America/Los_Angeles", w.Header().Get("Preference-Applied"))

	// Nothing of it is left for the next user of the connection.
	result := a.router.conn.ExecParams(t.Context(), `SELECT current_user = session_user, current_setting('request.jwt.claims', true),
		current_setting('transaction_read_only'), current_setting('search_path')`, nil, nil, nil, nil).Read()
	require.NoError(t, result.Err)
	require.Equal(t, "t", string(result.Rows[0][0]))
	require.Empty(t, string(result.Rows[0][1]))
	require.Equal(t, "off", string(result.Rows[0][2]))
	require.Contains(t, string(result.Rows[0][3]), "$user")
	require.Equal(t, byte('I'), a.router.conn.TxStatus())

	// One round trip per request once the schema is known.
	before := a.router.calls
	a.get("/projects")
	require.Equal(t, before+1, a.router.calls)
}

func TestSchemas(t *testing.T) {
	a := fixture(t, rest.Options{})
	a.exec(`CREATE SCHEMA "two ""x"; CREATE TABLE "two ""x".only (v int); CREATE TABLE "two ""x".tasks (other text);
		GRANT USAGE ON SCHEMA "two ""x" TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA "two ""x" TO PUBLIC`)
	require.Equal(t, http.StatusNotAcceptable, a.get("/tasks", `Accept-Profile: two "x`).Code, "not exposed")
	a.use(rest.Options{Schemas: []string{"public", `two "x`}})
	w := a.get("/tasks?select=id&id=eq.1")
	require.JSONEq(t, `[{"id":1}]`, w.Body.String())
	require.Equal(t, "public", w.Header().Get("Content-Profile"))
	w = a.do(http.MethodPost, "/tasks", `{"other":"x"}`, `Content-Profile: two "x`, full)
	require.JSONEq(t, `[{"other":"x"}]`, w.Body.String())
	require.Equal(t, `two "x`, w.Header().Get("Content-Profile"))
	w = a.get("/taks", `Accept-Profile: two "x`)
	require.Contains(t, w.Body.String(), `Perhaps you meant the table 'two \"x.tasks'`)
	require.Equal(t, http.StatusNotFound, a.get("/only").Code)
}
