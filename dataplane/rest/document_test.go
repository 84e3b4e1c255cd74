package rest_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest"
	"github.com/freehold-db/freehold/router"
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
	require.Equal(t, map[string]any{"type": "integer", "format": "integer", "description": "of release"}, d.Definitions["films"].Properties["year"])
	require.Equal(t, "Note:\nThis is a Primary Key.<pk/>", d.Definitions["films"].Properties["id"]["description"])
	require.Equal(t, "Note:\nThis is a Foreign Key to `directors.id`.<fk table='directors' column='id'/>", d.Definitions["films"].Properties["director_id"]["description"])
	require.Equal(t, map[string]any{"type": "string", "format": "character varying", "maxLength": 5.0, "description": "Note:\nThis is a Primary Key.<pk/>"}, d.Definitions["secret"].Properties["id"])
	require.Equal(t, []any{"sad", "ok", "happy"}, d.Definitions["secret"].Properties["m"]["enum"])
	require.Contains(t, d.Parameters, "rowFilter.films.title")
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
	a.access = router.ReadOnly
	require.NotContains(t, read().Paths, "/secret")

	require.Equal(t, "application/openapi+json; charset=utf-8", a.get("/", "Accept: */*").Header().Get("Content-Type"))
	require.Equal(t, "application/openapi+json; charset=utf-8", a.get("/", "Accept: application/json").Header().Get("Content-Type"))
	require.Equal(t, 406, a.get("/", "Accept: text/csv").Code)
	require.Equal(t, "OPTIONS,GET,HEAD", a.do(http.MethodOptions, "/", "").Header().Get("Allow"))
	require.Empty(t, a.do(http.MethodHead, "/", "").Body.String())
}
