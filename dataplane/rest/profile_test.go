package rest_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest"
)

func TestProfiles(t *testing.T) {
	a := fixture(t, rest.Options{Schemas: []string{"v1", "v2", `odd "name`, "freehold", "pg_catalog", "information_schema"}, ExtraSearchPath: []string{"tools"}})
	rw := `"` + a.router.database + `_rw"`
	a.exec(`CREATE SCHEMA v1; CREATE SCHEMA v2; CREATE SCHEMA "odd ""name"; CREATE SCHEMA own; CREATE SCHEMA tools;
		CREATE TABLE v1.parents (id int PRIMARY KEY); CREATE TABLE v1.children (id int PRIMARY KEY, parent int REFERENCES v1.parents);
		CREATE TABLE v2.parents (id int PRIMARY KEY, v text); CREATE TABLE "odd ""name".names (id int); CREATE TABLE own.things (id int);
		INSERT INTO v1.parents VALUES (1); INSERT INTO v2.parents VALUES (2);
		CREATE FUNCTION tools.twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n';
		CREATE FUNCTION v2.path(n int) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN current_setting('search_path') || ' ' || twice(n); END $$;
		GRANT USAGE ON SCHEMA v1, v2, "odd ""name", own, tools TO ` + rw + `; GRANT ALL ON ALL TABLES IN SCHEMA v1, v2, "odd ""name", own TO ` + rw)
	for _, c := range []struct{ path, profile, want, answered string }{
		{"/parents", "", `[{"id":1}]`, "v1"},
		{"/parents", "v2", `[{"id":2,"v":null}]`, "v2"},
		{"/parents?select=id,children(id)", "v1", `[{"id":1,"children":[]}]`, "v1"},
		{"/names", `odd "name`, `[]`, `odd "name`},
		{"/rpc/path?n=2", "v2", `"\"v2\", \"tools\" 4"`, "v2"},
	} {
		var headers []string
		if c.profile != "" {
			headers = []string{"Accept-Profile: " + c.profile, "Content-Profile: v1"}
		}
		w := a.get(c.path, headers...)
		require.Equal(t, 200, w.Code, w.Body)
		require.JSONEq(t, c.want, w.Body.String(), c.path)
		require.Equal(t, c.answered, w.Header().Get("Content-Profile"))
	}
	for _, hidden := range []string{"public", "freehold", "pg_catalog", "information_schema", "tools", "own", "V1"} {
		w := a.get("/parents", "Accept-Profile: "+hidden)
		require.Equal(t, 406, w.Code, hidden)
		require.JSONEq(t, `{"code":"PGRST106","details":null,"hint":"Only the following schemas are exposed: v1, v2, odd \"name","message":"Invalid schema: `+hidden+`"}`, w.Body.String())
	}
	w := a.do(http.MethodPost, "/parents", `{"id":3}`, full, "Content-Profile: v2", "Accept-Profile: v1")
	require.JSONEq(t, `[{"id":3,"v":null}]`, w.Body.String())
	require.Equal(t, "v2", w.Header().Get("Content-Profile"))
	require.Equal(t, 406, a.do(http.MethodDelete, "/parents?id=eq.3", "", "Content-Profile: own").Code)
	require.Equal(t, 406, a.do(http.MethodPost, "/rpc/path", `{"n":1}`, "Content-Profile: tools").Code)
	require.Contains(t, a.get("/", "Accept-Profile: v2").Body.String(), `"/rpc/path"`)
	require.NotContains(t, a.get("/").Body.String(), `"/rpc/path"`)

	// A tenant's own list takes the place of the fleet's, and shares nothing with it.
	a.schemas = []string{"own", "freehold", "v2"}
	w = a.get("/things")
	require.Equal(t, 200, w.Code, w.Body)
	require.Equal(t, "own", w.Header().Get("Content-Profile"))
	require.Equal(t, 406, a.get("/parents", "Accept-Profile: v1").Code)
	require.Equal(t, 406, a.get("/barrier", "Accept-Profile: freehold").Code)
	a.schemas = []string{"own"}
	require.Empty(t, a.get("/things").Header().Get("Content-Profile"), "there is nothing to choose")
	a.schemas = []string{"freehold"}
	require.JSONEq(t, `[{"id":1}]`, a.get("/parents").Body.String(), "a list of nothing that can be exposed is none")
}
