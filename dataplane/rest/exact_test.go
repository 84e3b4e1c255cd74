package rest_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest"
)

// What an answer is beyond its rows: to the byte, as clients compare it.
func TestExactAnswers(t *testing.T) {
	a := fixture(t, rest.Options{Aggregates: true})
	a.exec(orders)
	a.exec("CREATE TYPE size AS ENUM ('s', 'm'); CREATE TABLE shirts (id int, size text); INSERT INTO shirts VALUES (1, 's')")
	a.exec(`GRANT ALL ON ALL TABLES IN SCHEMA public TO "` + a.router.database + `_rw"`)
	for _, c := range []struct {
		path   string
		status int
		body   string
	}{
		// Embedded resources are jsonb, so with a space after each colon.
		{"/orders?select=id,billing(id,city),deliveries(address_id)", 200, `[{"id":1,"billing":{"id": 1, "city": "Oslo"},"deliveries":[{"address_id": 2}]}]`},
		{"/orders?select=id,...deliveries(address_id)", 200, `[{"id":1,"address_id":[2]}]`},
		// Empty ones are not there, however deep.
		{"/orders?select=id,deliveries(addresses(orders!billing()))", 200, `[{"id":1}]`},
		{"/orders?select=deliveries()", 200, `[{}]`},
		// To Postgres a.count is count(a).
		{"/addresses?select=count", 200, `[{"count":2}]`},
		{"/addresses?select=city,orders:orders!billing(count)&order=id", 200, `[{"city":"Oslo","orders":[{"count": 1}]}, ` + "\n" + ` {"city":"Rome","orders":[{"count": 0}]}]`},
		// A related column under its name in the answer.
		{"/orders?select=...billing(town:city)&order=billing(town)", 200, `[{"town":"Oslo"}]`},
		{"/orders?select=b:billing(id)&order=billing(id)", 400, `{"code":"PGRST108","details":null,"hint":"Verify that 'billing' is included in the 'select' query parameter.","message":"'billing' is not an embedded resource in this request"}`},
		{"/addresses?select=...deliveries(order_id.sum())", 400, `{"code":"PGRST127","details":"Aggregates are not implemented for one-to-many or many-to-many spreads.","hint":null,"message":"Feature not implemented"}`},
		// Types of the tenant's, and those that are none.
		{"/shirts?select=size::size", 200, `[{"size":"s"}]`},
		{"/shirts?select=id::no_such", 400, `{"code":"42704","details":null,"hint":null,"message":"type \"no_such\" does not exist"}`},
		{"/shirts?select=id::regrole", 400, `{"code":"42704","details":null,"hint":null,"message":"type \"regrole\" does not exist"}`},
		// A missing column is the last thing to be said.
		{"/orders?select=nope,nobody(id)", 400, `{"code":"PGRST200","details":"Searched for a foreign key relationship between 'orders' and 'nobody' in the schema 'public', but no matches were found.","hint":null,"message":"Could not find a relationship between 'orders' and 'nobody' in the schema cache"}`},
		{"/orders?select=id,billing(nope)", 400, `{"code":"42703","details":null,"hint":null,"message":"column addresses_1.nope does not exist"}`},
		{"/orders?select=id,nobody(id)&billing.id=eq.1", 400, `{"code":"PGRST108","details":null,"hint":"Verify that 'billing' is included in the 'select' query parameter.","message":"'billing' is not an embedded resource in this request"}`},
		{"/projects?select=meta->>os->x", 404, `{"code":"42883","details":null,"hint":"No operator matches the given name and argument types. You might need to add explicit type casts.","message":"operator does not exist: text -> unknown"}`},
	} {
		w := a.get(c.path)
		require.Equal(t, c.status, w.Code, "%s: %s", c.path, w.Body)
		require.Equal(t, c.body, w.Body.String(), c.path)
	}
}

// Rows that come one by one make the same answer as those that Postgres gathers,
// which it does where they are counted.
func TestGatheredAnswers(t *testing.T) {
	a := fixture(t, rest.Options{Aggregates: true})
	a.exec(orders)
	a.exec(`CREATE TABLE odd (id int PRIMARY KEY, "na""me" text, t timestamptz, j jsonb, n numeric, a int[]);
		INSERT INTO odd VALUES (1, E'a\n"b"\\', '2024-02-29 12:00+00', '{"x": [1, null]}', 'NaN', '{1,2}'), (2, NULL, 'infinity', 'null', 1.50, NULL), (3, '', NULL, NULL, NULL, '{}')`)
	a.exec(`GRANT ALL ON ALL TABLES IN SCHEMA public TO "` + a.router.database + `_rw"`)
	for _, path := range []string{
		"/odd?order=id", "/odd?id=eq.2", "/odd?id=eq.9", "/odd?order=id.desc&limit=2", "/odd?limit=0", "/odd?select=n,x:na%22me&order=id", "/odd?select=count()",
		"/odd?select=&order=id", "/orders?select=id,billing(id,city),deliveries(address_id)", "/addresses?select=city,orders:orders!billing(count)&order=id",
	} {
		for _, accept := range []string{"application/json", "application/vnd.pgrst.object+json"} {
			one, all := a.get(path, "Accept: "+accept), a.get(path, "Accept: "+accept, "Prefer: count=exact")
			require.Equal(t, all.Code >= 400, one.Code >= 400, path)
			require.Equal(t, all.Body.String(), one.Body.String(), path)
			require.Equal(t, all.Header().Get("Content-Type"), one.Header().Get("Content-Type"), path)
			before, _, _ := strings.Cut(all.Header().Get("Content-Range"), "/")
			if all.Code == http.StatusOK {
				require.Equal(t, before+"/*", one.Header().Get("Content-Range"), path)
			}
		}
	}
}

// A page beyond the last row has the headers of a page.
func TestOutOfRange(t *testing.T) {
	a := fixture(t, rest.Options{})
	w := a.get("/projects?offset=9&active=is.null&active=is.unknown", "Prefer: count=exact")
	require.Equal(t, http.StatusRequestedRangeNotSatisfiable, w.Code)
	require.Equal(t, `{"code":"PGRST103","details":"An offset of 9 was requested, but there are only 1 rows.","hint":null,"message":"Requested range not satisfiable"}`, w.Body.String())
	for name, value := range map[string]string{
		"Content-Range": "*/1", "Content-Location": "/projects?active=is.null,is.unknown&offset=9", "Preference-Applied": "count=exact",
		"Content-Type": "application/json; charset=utf-8", "Proxy-Status": "",
	} {
		require.Equal(t, value, w.Header().Get(name), name)
	}
	require.Equal(t, "PostgREST; error=PGRST205", a.get("/nope").Header().Get("Proxy-Status"))
}

// What a refusal of a representation names, and the last choice.
func TestNamesOfMediaTypes(t *testing.T) {
	a := fixture(t, rest.Options{})
	none := func(names string) string {
		return `{"code":"PGRST107","details":null,"hint":null,"message":"None of these media types are available: ` + names + `"}`
	}
	for accept, want := range map[string]string{
		"text/plain; charset=utf-8, Image/PNG": none("text/plain, Image/PNG"), // the more parameters, the sooner
		"application/*":                        none("application/*"),
		"application/vnd.pgrst.plan":           none(`application/vnd.pgrst.plan+text; for=\"application/json\"`),
		"image/png, text/csv;q=0":              "\n", // no rows
		"":                                     none(""),
		"image/png,":                           none("image/png, "),
	} {
		require.Equal(t, want, a.get("/projects?id=eq.0", "Accept: "+accept).Body.String(), accept)
	}
	require.Equal(t, none("image/png"), a.get("/projects", "Accept: image/png", "Accept: text/csv").Body.String(), "the first header counts")
	require.Equal(t, none("text/html, application/*"), a.get("/", "Accept: text/html, application/*").Body.String())
	for contentType, named := range map[string]string{"Multipart/form-data; boundary=x": "Multipart/form-data; boundary=x", "text/plain; charset=utf-8": "text/plain", "application/vnd.pgrst.object": "application/vnd.pgrst.object+json"} {
		require.Equal(t, `{"code":"PGRST102","details":null,"hint":null,"message":"Content-Type not acceptable: `+named+`"}`,
			a.do(http.MethodPost, "/projects", "x", "Content-Type: "+contentType).Body.String())
	}
}

// A semicolon separates parameters, and what names a resource has its name as it is.
func TestLocations(t *testing.T) {
	a := fixture(t, rest.Options{})
	a.exec(`CREATE TABLE "Tag der Ä" (w int, v int, PRIMARY KEY (w, v)); GRANT ALL ON "Tag der Ä" TO "` + a.router.database + `_rw"`)
	w := a.do(http.MethodPost, "/Tag%20der%20%C3%84", `[{"v":1,"w":2}]`, "Prefer: return=headers-only")
	require.Equal(t, "/Tag der Ä?w=eq.2&v=eq.1", w.Header().Get("Location"), w.Body)
	w = a.get("/Tag%20der%20%C3%84?v=eq.1;w=in.(2,3);select=w&")
	require.Equal(t, `[{"w":2}]`, w.Body.String())
	require.Equal(t, "/Tag der Ä?select=w&v=eq.1&w=in.%282%2C3%29", w.Header().Get("Content-Location"))
	require.Equal(t, "/projects?name=eq.%C3%83%C2%A4", a.get("/projects?name=eq.%C3%A4").Header().Get("Content-Location"))
}

// Paths and verbs that there are none of.
func TestNoSuchPath(t *testing.T) {
	a := fixture(t, rest.Options{})
	for _, c := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/projects/1", 404, `{"code":"PGRST125","details":null,"hint":null,"message":"Invalid path specified in request URL"}`},
		{"POST", "/rpc/f/g", 404, `{"code":"PGRST125","details":null,"hint":null,"message":"Invalid path specified in request URL"}`},
		{"GET", "/rpc", 404, `{"code":"PGRST205","details":null,"hint":null,"message":"Could not find the table 'public.rpc' in the schema cache"}`},
		{"GET", "/projects/", 404, `{"code":"PGRST125","details":null,"hint":null,"message":"Invalid path specified in request URL"}`},
		{"TRACE", "/projects", 405, `{"code":"PGRST117","details":null,"hint":null,"message":"Unsupported HTTP method: TRACE"}`},
		{"POST", "/", 405, `{"code":"PGRST117","details":null,"hint":null,"message":"Unsupported HTTP method: POST"}`},
		{"PUT", "/rpc/f", 405, `{"code":"PGRST101","details":null,"hint":null,"message":"Cannot use the PUT method on RPC"}`},
	} {
		w := a.do(c.method, c.path, "")
		require.Equal(t, c.status, w.Code, c)
		require.Equal(t, c.body, w.Body.String(), c)
	}
}

// Rows without an order come as they are met, and inner or not, limited or
// not, a related resource narrows its parents alike with an order and without.
func TestMetAndOrdered(t *testing.T) {
	a := films(t, rest.Options{})
	for _, query := range []string{
		"select=title,directors!inner(last_name)&directors.last_name=eq.Kubrick",
		"select=title,directors!inner()&directors.last_name=eq.Kubrick",
		"select=title,...directors!inner(last_name)&directors.last_name=eq.Kubrick",
		"select=title,directors()&directors=is.null",
		"select=title,directors(last_name)&directors=not.is.null",
		"select=title,actors!inner(last_name)&actors.last_name=like.*a*",
		"select=title,actors()&actors=is.null",
		"select=title,actors(last_name)&or=(actors.is.null,year.lt.1970)",
		"select=title,...actors!inner(last_name)&actors.last_name=like.*a*",
	} {
		met := a.get("/films?"+query, "Prefer: count=exact")
		require.Equal(t, 200, met.Code, "%s: %s", query, met.Body)
		ordered := a.get("/films?order=id&"+query, "Prefer: count=exact")
		var one, other []any
		require.NoError(t, json.Unmarshal(met.Body.Bytes(), &one))
		require.NoError(t, json.Unmarshal(ordered.Body.Bytes(), &other))
		require.ElementsMatch(t, one, other, query)
		require.Equal(t, met.Header().Get("Content-Range"), ordered.Header().Get("Content-Range"), query)
	}
}

// A handler's jsonb is sent as Postgres' protocol has it.
func TestHandlerOfJSONB(t *testing.T) {
	a := fixture(t, rest.Options{})
	a.exec(`CREATE DOMAIN "application/vnd.names+json" AS jsonb;
		CREATE FUNCTION add_name("application/vnd.names+json", tasks) RETURNS "application/vnd.names+json" IMMUTABLE LANGUAGE sql AS $$ SELECT ($1 || to_jsonb($2.title))::"application/vnd.names+json" $$;
		CREATE AGGREGATE names(tasks) (sfunc = add_name, stype = "application/vnd.names+json", initcond = '[]')`)
	w := a.get("/tasks?id=lt.3", "Accept: application/vnd.names+json")
	require.Equal(t, 200, w.Code, w.Body)
	require.Equal(t, "\x01"+`["design", "code"]`, w.Body.String())
	require.Equal(t, "application/vnd.names+json", w.Header().Get("Content-Type"))
}
