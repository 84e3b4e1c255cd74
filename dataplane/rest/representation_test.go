package rest_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest"
)

// represented is a color that is a number inside and a text like "#0000ff" outside.
const represented = `
CREATE DOMAIN color AS int CHECK (value >= 0);
CREATE FUNCTION color_json(color) RETURNS json STRICT IMMUTABLE LANGUAGE sql AS $$ SELECT to_json('#' || lpad(to_hex($1), 6, '0')) $$;
CREATE FUNCTION color_of(text) RETURNS color STRICT IMMUTABLE LANGUAGE sql AS $$ SELECT ('x' || lpad(ltrim($1, '#'), 8, '0'))::bit(32)::int::color $$;
CREATE FUNCTION color_of(json) RETURNS color STRICT IMMUTABLE LANGUAGE sql AS $$ SELECT color_of($1 #>> '{}') $$;
CREATE CAST (color AS json) WITH FUNCTION color_json(color) AS IMPLICIT;
CREATE CAST (text AS color) WITH FUNCTION color_of(text) AS IMPLICIT;
CREATE CAST (json AS color) WITH FUNCTION color_of(json) AS IMPLICIT;
CREATE DOMAIN phrase AS tsvector; CREATE DOMAIN short_phrase AS phrase;
CREATE TABLE paints (name text PRIMARY KEY, hue color, at int DEFAULT 7, words short_phrase);
CREATE TABLE walls (id int PRIMARY KEY, paint text REFERENCES paints);
INSERT INTO paints VALUES ('sea', 255, 1, 'deep blue'), ('night', 0, 2, NULL), ('none', NULL, 3, NULL); INSERT INTO walls VALUES (1, 'sea');`

func TestRepresentations(t *testing.T) {
	a := fixture(t, rest.Options{Aggregates: true})
	a.exec(represented)
	for path, want := range map[string]string{
		"/paints?select=name,hue&order=at":                            `[{"name":"sea","hue":"#0000ff"},{"name":"night","hue":"#000000"},{"name":"none","hue":null}]`,
		"/paints?name=eq.sea":                                         `[{"name":"sea","hue":"#0000ff","at":1,"words":"'blue' 'deep'"}]`,
		"/paints?select=h:hue,t:hue::text&at=eq.1":                    `[{"h":"#0000ff","t":"\"#0000ff\""}]`,
		"/paints?select=name&hue=eq.0000ff":                           `[{"name":"sea"}]`,
		"/paints?select=name&hue=in.(0000ff,000000)&order=hue.desc":   `[{"name":"sea"},{"name":"night"}]`,
		"/paints?select=name&or=(hue.gt.0000fe,hue.is.null)&order=at": `[{"name":"sea"},{"name":"none"}]`,
		"/walls?select=id,paints(*)":                                  `[{"id":1,"paints":{"name":"sea","hue":"#0000ff","at":1,"words":"'blue' 'deep'"}}]`,
		"/walls?select=id,...paints(*)":                               `[{"id":1,"name":"sea","hue":"#0000ff","at":1,"words":"'blue' 'deep'"}]`,
		"/paints?select=hue.max()":                                    `[{"max":255}]`,
		"/paints?select=name&words=fts.blue":                          `[{"name":"sea"}]`,
	} {
		w := a.get(path)
		require.Equal(t, 200, w.Code, "%s: %s", path, w.Body)
		require.JSONEq(t, want, w.Body.String(), path)
	}
	require.Equal(t, "name,hue,at,words\nsea,\"\"\"#0000ff\"\"\",1,\"'blue' 'deep'\"", a.get("/paints?name=eq.sea", "Accept: text/csv").Body.String(), "in the table's order")

	for _, c := range []struct{ method, path, body, prefer, want string }{
		{http.MethodPost, "/paints", `{"name":"lime","hue":"#00ff00"}`, "return=representation", `[{"name":"lime","hue":"#00ff00","at":7,"words":null}]`},
		{http.MethodPost, "/paints?select=hue", `[{"name":"a","hue":"#000001"},{"name":"b","hue":null}]`, "return=representation", `[{"hue":"#000001"},{"hue":null}]`},
		{http.MethodPost, "/paints?columns=name,hue,at&select=hue,at", `[{"name":"c","hue":"#000002"},{"name":"d","at":1}]`, "return=representation, missing=default", `[{"hue":"#000002","at":7},{"hue":null,"at":1}]`},
		{http.MethodPost, "/paints?select=hue", `{"name":"lime","hue":"#00fe00"}`, "return=representation, resolution=merge-duplicates", `[{"hue":"#00fe00"}]`},
		{http.MethodPatch, "/paints?hue=eq.00fe00&select=name,hue", `{"hue":"#00fd00"}`, "return=representation", `[{"name":"lime","hue":"#00fd00"}]`},
	} {
		w := a.do(c.method, c.path, c.body, "Prefer: "+c.prefer)
		require.Less(t, w.Code, 300, "%s %s: %s", c.method, c.path, w.Body)
		require.JSONEq(t, c.want, w.Body.String(), c.path)
	}
	require.Equal(t, "64768", a.value("SELECT hue::text FROM paints WHERE name = 'lime'"))
}
