package rest_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest"
	"github.com/freehold-db/freehold/internal/access"
)

func TestDocument(t *testing.T) {
	a := functions(t, rest.Options{})
	a.exec(`COMMENT ON SCHEMA public IS E'Cinema\nAll about films'; COMMENT ON TABLE films IS E'Films\nThey move'; COMMENT ON COLUMN films.year IS 'of release';
		COMMENT ON FUNCTION greet IS 'says hi'; CREATE TABLE secret (id varchar(5) PRIMARY KEY, m mood DEFAULT 'ok');
		REVOKE ALL ON secret FROM "` + a.router.database + `_ro"; REVOKE ALL ON FUNCTION hire FROM PUBLIC`)
	read := func(headers ...string) (d struct {
		Swagger, BasePath string
		Info              struct{ Title, Description string }
		Paths             map[string]map[string]struct {
			Summary    string
			Tags       []string
			Parameters []map[string]any
		}
		Definitions map[string]struct {
			Description string
			Required    []string
			Properties  map[string]map[string]any
		}
		Parameters map[string]map[string]any
	}) {
		w := a.get("/", headers...)
		require.Equal(t, 200, w.Code, w.Body)
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &d))
		return d
	}
	d := read()
	require.Equal(t, "2.0", d.Swagger)
	require.Equal(t, "/rest/v1", d.BasePath)
	require.Equal(t, "Cinema", d.Info.Title)
	require.Equal(t, "All about films", d.Info.Description)
	require.Equal(t, "Films", d.Paths["/films"]["get"].Summary)
	require.Equal(t, "Films\nThey move", d.Definitions["films"].Description)
	require.Equal(t, []string{"id"}, d.Definitions["films"].Required)
	require.Equal(t, map[string]any{"type": "integer", "format": "int32", "description": "of release"}, d.Definitions["films"].Properties["year"])
	require.Equal(t, "Note:\nThis is a Primary Key.<pk/>", d.Definitions["films"].Properties["id"]["description"])
	require.Equal(t, "Note:\nThis is a Foreign Key to `directors.id`.<fk table='directors' column='id'/>", d.Definitions["films"].Properties["director_id"]["description"])
	require.Equal(t, map[string]any{"type": "string", "format": "character varying", "maxLength": 5.0, "description": "Note:\nThis is a Primary Key.<pk/>"}, d.Definitions["secret"].Properties["id"])
	require.Equal(t, []any{"sad", "ok", "happy"}, d.Definitions["secret"].Properties["m"]["enum"])
	require.Contains(t, d.Parameters, "rowFilter.films.title")
	require.Equal(t, "of release", d.Parameters["rowFilter.films.year"]["description"])
	require.Equal(t, "says hi", d.Paths["/rpc/greet"]["get"].Summary)
	require.Len(t, d.Paths["/rpc/add_them"]["get"].Parameters, 2)
	require.NotContains(t, d.Paths, "/rpc/hire", "not to be executed")
	require.NotContains(t, d.Paths["/rpc/hire_two"], "get", "volatile")
	for _, path := range d.Paths {
		for _, verb := range path {
			for _, p := range verb.Parameters {
				if to, ok := p["$ref"].(string); ok {
					require.Contains(t, d.Parameters, to[len("#/parameters/"):])
				}
			}
		}
	}
	a.role = access.RoleViewer
	require.NotContains(t, read().Paths, "/secret")

	require.Equal(t, "application/openapi+json; charset=utf-8", a.get("/", "Accept: */*").Header().Get("Content-Type"))
	require.Equal(t, "application/openapi+json; charset=utf-8", a.get("/", "Accept: application/json").Header().Get("Content-Type"))
	require.Equal(t, 406, a.get("/", "Accept: text/csv").Code)
	require.Equal(t, "OPTIONS,GET,HEAD", a.do(http.MethodOptions, "/", "").Header().Get("Allow"))
	require.Empty(t, a.do(http.MethodHead, "/", "").Body.String())
}

// What a column's type, default and keys are to generators of clients.
func TestDocumentOfColumns(t *testing.T) {
	a := fixture(t, rest.Options{})
	a.exec(`CREATE DOMAIN word AS varchar(9) DEFAULT 'none';
		CREATE TABLE things (id bigint PRIMARY KEY, w word, c char(3)[], n numeric DEFAULT 1.5, b boolean DEFAULT true, d date DEFAULT '2000-01-01', m mood, at timestamptz DEFAULT now(), j json DEFAULT '{}',
			next bigint REFERENCES things, project int REFERENCES projects);
		CREATE VIEW shown AS SELECT id, project FROM things;
		CREATE FUNCTION pick(a int, b text[], c mood DEFAULT NULL, VARIADIC d int[] DEFAULT '{}') RETURNS int STABLE LANGUAGE sql AS 'SELECT 1'; COMMENT ON FUNCTION pick IS E'Picks\n\none';`)
	w := a.get("/")
	require.Equal(t, 200, w.Code, w.Body)
	var d struct {
		Definitions map[string]struct{ Properties map[string]json.RawMessage }
		Paths       map[string]map[string]struct {
			Summary, Description string
			Parameters           []json.RawMessage
		}
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &d))
	for column, want := range map[string]string{
		"id":      `{"type":"integer","format":"int64","description":"Note:\nThis is a Primary Key.<pk/>"}`,
		"w":       `{"type":"string","format":"character varying","maxLength":9,"default":"none"}`,
		"c":       `{"type":"array","format":"character[]","items":{"type":"string"}}`,
		"n":       `{"type":"number","format":"numeric","default":1.5}`,
		"b":       `{"type":"boolean","format":"boolean","default":true}`,
		"d":       `{"type":"string","format":"date","default":"2000-01-01"}`,
		"m":       `{"type":"string","format":"public.mood","enum":["sad","ok","happy"]}`,
		"at":      `{"type":"string","format":"timestamp with time zone","default":"now()"}`,
		"j":       `{"format":"json"}`,
		"next":    `{"type":"integer","format":"int64","description":"Note:\nThis is a Foreign Key to ` + "`things.id`" + `.<fk table='things' column='id'/>"}`,
		"project": `{"type":"integer","format":"int32","description":"Note:\nThis is a Foreign Key to ` + "`projects.id`" + `.<fk table='projects' column='id'/>"}`,
	} {
		require.JSONEq(t, want, string(d.Definitions["things"].Properties[column]), column)
	}
	require.Contains(t, string(d.Definitions["shown"].Properties["project"]), "Foreign Key to `projects.id`")
	require.Contains(t, string(d.Definitions["shown"].Properties["id"]), "Primary Key")

	pick := d.Paths["/rpc/pick"]["get"]
	require.Equal(t, "Picks", pick.Summary)
	require.Equal(t, "one", pick.Description)
	for i, want := range []string{
		`{"name":"a","in":"query","required":true,"type":"integer","format":"int32"}`,
		`{"name":"b","in":"query","required":true,"type":"string","format":"text[]"}`,
		`{"name":"c","in":"query","required":false,"type":"string","format":"mood"}`,
		`{"name":"d","in":"query","required":false,"type":"array","collectionFormat":"multi","items":{"type":"integer","format":"int32"}}`,
	} {
		require.JSONEq(t, want, string(pick.Parameters[i]))
	}
	require.Contains(t, d.Paths["/shown"], "post", "what can be written at all has all verbs")
	require.NotContains(t, a.do(http.MethodHead, "/", "").Header(), "Content-Length")
}

func TestDocumentModes(t *testing.T) {
	a := fixture(t, rest.Options{OpenAPI: rest.OpenAPIIgnore})
	a.exec(`CREATE TABLE secret (id int); REVOKE ALL ON secret FROM "` + a.router.database + `_rw"`)
	require.Contains(t, a.get("/").Body.String(), `"/secret"`)
	a.use(rest.Options{OpenAPI: rest.OpenAPIFollow})
	require.NotContains(t, a.get("/").Body.String(), `"/secret"`)
	a.use(rest.Options{OpenAPI: rest.OpenAPIDisabled})
	w := a.get("/")
	require.Equal(t, 404, w.Code)
	require.JSONEq(t, `{"code":"PGRST126","details":null,"hint":null,"message":"Root endpoint metadata is disabled"}`, w.Body.String())
	require.Equal(t, 200, a.get("/tasks").Code)
}
