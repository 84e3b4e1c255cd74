package rest_test

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest"
)

// handlers is the fixture with handlers of media types.
func handlers(t testing.TB, opts rest.Options) *api {
	t.Helper()
	a := fixture(t, opts)
	sql, err := os.ReadFile("testdata/media.sql")
	require.NoError(t, err)
	a.exec(strings.ReplaceAll(string(sql), `"DATABASE`, `"`+a.router.database))
	return a
}

func TestMediaTypes(t *testing.T) {
	a := handlers(t, rest.Options{})
	const json, refused = "application/json; charset=utf-8", "None of these media types are available: "
	for _, c := range []struct {
		path, accept string
		status       int
		contentType  string
		body         string
	}{
		// Functions whose type names a media type.
		{"/rpc/page", "text/html", 200, "text/html", "<h1>hello</h1>"},
		{"/rpc/page?title=x", "image/png, text/html;q=0.1", 200, "text/html", "<h1>x</h1>"},
		{"/rpc/page", "*/*", 200, json, `"<h1>hello</h1>"`},
		{"/rpc/page", "", 200, json, `"<h1>hello</h1>"`},
		{"/rpc/page", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", 200, "text/html", "<h1>hello</h1>"},
		{"/rpc/page?title=", "text/html", 200, "text/html", ""},
		{"/rpc/wire?id=1", "application/vnd.wire", 200, "application/vnd.wire", "\x00\xffline-1"},
		{"/rpc/wire?id=9", "application/vnd.wire", 200, "application/vnd.wire", ""},
		{"/rpc/pages", "text/html", 406, json, refused + "text/html"},
		{"/rpc/page", "image/png", 406, json, refused + "image/png"},
		{"/rpc/page", "undefined", 406, json, refused + "undefined"},
		{"/rpc/plain", "text/plain", 200, "text/plain; charset=utf-8", "plain"},
		{"/rpc/plain", "text/xml", 406, json, refused + "text/xml"},
		{"/rpc/plains", "text/plain", 406, json, refused + "text/plain"},

		// Aggregates over the rows of one table, and of functions that return them.
		{"/lines?order=id", "application/vnd.wire", 200, "application/vnd.wire", "\x00line-1\x00line-2"},
		{"/lines?id=eq.2", "application/vnd.wire", 200, "application/vnd.wire", "\x00line-2"},
		{"/rpc/get_lines", "application/vnd.wire", 200, "application/vnd.wire", "\x00line-1\x00line-2"},
		{"/lines?select=*", "application/vnd.wire", 200, "application/vnd.wire", "\x00line-1\x00line-2"},
		{"/lines?select=id", "application/vnd.wire", 406, json, refused + "application/vnd.wire"},
		{"/lines?select=id,name", "application/vnd.wire", 406, json, refused + "application/vnd.wire"},
		{"/lines?select=*,points(*)", "application/vnd.wire", 406, json, refused + "application/vnd.wire"},
		{"/points", "application/vnd.wire", 406, json, refused + "application/vnd.wire"},
		{"/lines", "text/csv", 200, "text/csv; charset=utf-8", "\uFEFFid;name\n1;line-1\n2;line-2\n"},
		{"/lines?select=id", "text/csv", 200, "text/csv; charset=utf-8", "id\n1\n2"},
		{"/points", "text/csv", 200, "text/csv; charset=utf-8", "id,line_id\n1,1\n2,"},

		// Of any rows, and the more specific one.
		{"/lines?select=id,name", "pg/rows", 200, "pg/rows", "(1,line-1)\n(2,line-2)\n"},
		{"/lines?select=name,id", "pg/rows", 200, "pg/rows", "(line-1,1)\n(line-2,2)\n"},
		{"/lines?select=name,points(id)&id=eq.1", "pg/rows", 200, "pg/rows", "(line-1,\"[{\"\"id\"\": 1}]\")\n"},
		{"/rpc/plain", "pg/rows", 200, "pg/rows", "plain\n"},
		{"/points", "pg/rows", 200, "pg/rows", "points"},
		{"/points?select=id", "pg/rows", 200, "pg/rows", "(1)\n(2)\n"},
		{"/points?id=eq.1", "Application/VND.pairs+json", 200, "application/vnd.Pairs+json", `{"id":1,"line_id":1}`},

		// What answers everything.
		{"/rpc/whatever", "", 200, "application/octet-stream", "whatever"},
		{"/rpc/whatever", "image/boingo", 200, "application/octet-stream", "whatever"},
		{"/rpc/whatever", "application/json", 200, "application/octet-stream", "whatever"},
		{"/rpc/whatever", "app/chico", 200, "app/chico", "whatever"},
		{"/rpc/whatever", "text/csv", 415, json, "Unsupported Media Type"},
		{"/lines.xml?id=eq.1", "", 200, "text/xml", `<line id="1"/>`},
		{"/lines.xml?id=eq.1", "app/octets", 200, "application/octet-stream", `<line id="1"/>`},
		{"/lines.xml", "unknown/media", 415, json, "Unsupported Media Type"},

		// The dialect's own can't be overridden, and the more specific of equals comes first.
		{"/points?id=eq.1", "application/vnd.pgrst.object", 200, "application/vnd.pgrst.object+json; charset=utf-8", `{"id":1,"line_id":1}`},
		{"/points?id=eq.2", "application/json, application/vnd.pgrst.object+json;nulls=stripped", 200, "application/vnd.pgrst.object+json;nulls=stripped; charset=utf-8", `{"id":2}`},
		{"/points?id=eq.2", "application/vnd.pgrst.array+json;nulls=stripped", 200, "application/vnd.pgrst.array+json;nulls=stripped; charset=utf-8", `[{"id":2}]`},
		{"/points?id=eq.2", "application/vnd.pgrst.array", 200, json, `[{"id":2,"line_id":null}]`},
		{"/points", "application/vnd.pgrst.object", 406, json, "Cannot coerce the result to a single JSON object"},
		{"/points?id=eq.1", "*/*, text/csv", 200, "text/csv; charset=utf-8", "id,line_id\n1,1"},
		{"/points", "application/vnd.pgrst.plan", 406, json, refused + "application/vnd.pgrst.plan"},
		{"/points?id=eq.9", "text/csv", 200, "text/csv; charset=utf-8", "\n"},
	} {
		var headers []string
		if c.accept != "" {
			headers = append(headers, "Accept: "+c.accept)
		}
		w := a.get(c.path, headers...)
		require.Equal(t, c.status, w.Code, "%s %s: %s", c.path, c.accept, w.Body)
		require.Equal(t, c.contentType, w.Header().Get("Content-Type"), "%s %s", c.path, c.accept)
		if c.status == 200 {
			require.Equal(t, c.body, w.Body.String(), "%s %s", c.path, c.accept)
		} else {
			require.Contains(t, w.Body.String(), `"message":"`+c.body, "%s %s", c.path, c.accept)
		}
	}
	require.Equal(t, `attachment; filename="lines.csv"`, a.get("/lines", "Accept: text/csv").Header().Get("Content-Disposition"))
	w := a.do(http.MethodHead, "/lines", "", "Accept: application/vnd.wire")
	require.Equal(t, "application/vnd.wire", w.Header().Get("Content-Type"))

	// What was written is represented in the same ways, or not at all.
	w = a.do(http.MethodPost, "/lines", `{"id":3,"name":"c"}`, full, "Accept: application/vnd.wire")
	require.Equal(t, 201, w.Code, w.Body)
	require.Equal(t, "\x00c", w.Body.String())
	require.Equal(t, "application/vnd.wire", w.Header().Get("Content-Type"))
	w = a.do(http.MethodPatch, "/lines?id=eq.3", `{"name":"d"}`, full, "Accept: text/csv")
	require.Equal(t, "\uFEFFid;name\n3;d\n", w.Body.String())
	w = a.do(http.MethodDelete, "/lines?id=eq.3", "", full, "Accept: pg/rows")
	require.Equal(t, "(3,d)\n", w.Body.String())
	require.Equal(t, 406, a.do(http.MethodPost, "/lines", `{"id":4}`, "Accept: no/such").Code)
	require.Equal(t, "0", a.value("SELECT count(*)::text FROM lines WHERE id > 2"))
}

func TestPlansOfMediaTypes(t *testing.T) {
	a := handlers(t, rest.Options{Plans: true})
	for accept, want := range map[string][2]string{
		`application/vnd.pgrst.plan`: {`application/vnd.pgrst.plan+text; for="application/json"; charset=utf-8`, "Aggregate"},
		`application/vnd.pgrst.plan+json; for="application/vnd.pgrst.object"; options=wal|verbose|analyze`: {
			`application/vnd.pgrst.plan+json; for="application/vnd.pgrst.object+json"; options=analyze|verbose|wal; charset=utf-8`, `"WAL Records"`},
		`application/vnd.pgrst.plan+text; for="application/vnd.wire"; options=verbose`: {
			`application/vnd.pgrst.plan+text; for="application/vnd.wire"; options=verbose; charset=utf-8`, "wire_agg("},
		`application/vnd.pgrst.plan+json; options=settings`: {
			`application/vnd.pgrst.plan+json; for="application/json"; options=settings; charset=utf-8`, `"search_path": "\"public\""`},
	} {
		w := a.get("/lines", "Accept: "+accept)
		require.Equal(t, 200, w.Code, w.Body)
		require.Equal(t, want[0], w.Header().Get("Content-Type"))
		require.Contains(t, w.Body.String(), want[1], accept)
	}
	require.Equal(t, 406, a.get("/lines", `Accept: application/vnd.pgrst.plan; for="no/such"`).Code)
}

func TestGeoJSON(t *testing.T) {
	a := handlers(t, rest.Options{})
	const geo = "Accept: application/geo+json"
	const shop = `{"type":"Feature","geometry":{"type":"Point","coordinates":[-71.5,42]},"properties":{"id":1,"address":"1369 Cambridge St"}}`
	collection := func(features string) string { return `{"type":"FeatureCollection","features":[` + features + `]}` }
	w := a.get("/shops", geo)
	require.Equal(t, 200, w.Code, w.Body)
	require.Equal(t, "application/geo+json; charset=utf-8", w.Header().Get("Content-Type"))
	require.JSONEq(t, collection(shop), w.Body.String())
	require.JSONEq(t, collection(""), a.get("/shops?id=gt.3", geo).Body.String())
	require.JSONEq(t, collection(strings.Replace(shop, `,"address":"1369 Cambridge St"`, "", 1)), a.get("/shops?select=id,geom", geo).Body.String())
	w = a.do(http.MethodPatch, "/shops?id=eq.1", `{"address":"x"}`, full, geo)
	require.JSONEq(t, collection(strings.Replace(shop, "1369 Cambridge St", "x", 1)), w.Body.String())
	w = a.get("/points", geo)
	require.Equal(t, 400, w.Code)
	require.Contains(t, w.Body.String(), `"message":"geometry column is missing"`)
	a.exec("DROP FUNCTION st_asgeojson")
	require.Equal(t, 406, a.get("/shops", geo).Code, "without PostGIS")
}

// With the real PostGIS, where it is installed.
func TestPostGIS(t *testing.T) {
	a := fixture(t, rest.Options{ExtraSearchPath: []string{"extensions"}})
	if a.value("SELECT count(*)::text FROM pg_available_extensions WHERE name = 'postgis'") == "0" {
		t.Skip("PostGIS is not installed")
	}
	a.exec(`CREATE SCHEMA extensions; CREATE EXTENSION postgis SCHEMA extensions; GRANT USAGE ON SCHEMA extensions TO PUBLIC;
		CREATE TABLE shops (id int PRIMARY KEY, address text, geom extensions.geometry(POINT, 4326));
		INSERT INTO shops VALUES (1, '1369 Cambridge St', 'SRID=4326;POINT(-71.10044 42.373695)'::extensions.geometry);
		GRANT SELECT, INSERT ON shops TO "` + a.router.database + `_rw"`)
	w := a.get("/shops", "Accept: application/geo+json")
	require.Equal(t, 200, w.Code, w.Body)
	require.JSONEq(t, `{"type":"FeatureCollection","features":[
		{"type":"Feature","geometry":{"type":"Point","coordinates":[-71.10044,42.373695]},"properties":{"id":1,"address":"1369 Cambridge St"}}]}`, w.Body.String())
	w = a.do(http.MethodPost, "/shops?select=id,geom", `{"id":4,"geom":"SRID=4326;POINT(-71.5 42)"}`, full, "Accept: application/geo+json")
	require.Equal(t, 201, w.Code, w.Body)
	require.JSONEq(t, `{"type":"FeatureCollection","features":[{"type":"Feature","geometry":{"type":"Point","coordinates":[-71.5,42]},"properties":{"id":4}}]}`, w.Body.String())
	require.Contains(t, a.get("/shops?id=eq.1&select=geom").Body.String(), `"type":"Point"`, "as plain JSON, too")
}
