package plan_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest/plan"
	"github.com/freehold-db/freehold/dataplane/rest/query"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

const guardedAndPlain = `{"Relations": [
	{"Schema": "public", "Name": "plain", "Kind": "r", "Plain": true,
	 "Columns": [{"Name": "id", "Type": "integer", "Base": "int4"}, {"Name": "g", "Type": "integer", "Base": "int4"}, {"Name": "words", "Type": "text", "Base": "text"}],
	 "Keys": [{"Name": "pk", "Kind": "p", "Columns": ["id"]},
	          {"Name": "fk", "Kind": "f", "Columns": ["g"], "ToSchema": "public", "ToName": "guarded", "ToColumns": ["id"]}]},
	{"Schema": "public", "Name": "guarded", "Kind": "r", "Columns": [{"Name": "id", "Type": "integer", "Base": "int4"}],
	 "Keys": [{"Name": "pk", "Kind": "p", "Columns": ["id"]}]}],
	"Functions": [{"Schema": "public", "Name": "computed", "Volatility": "s", "Type": "text", "Base": "text",
	 "Args": [{"Mode": "i", "Type": "plain", "Base": "plain", "TableSchema": "public", "Table": "plain"}]}]}`

// What could run SQL of the tenant's, whose policies and functions read the
// request's settings, is never plain.
func TestPlain(t *testing.T) {
	s, err := schema.Parse([]byte(guardedAndPlain))
	require.NoError(t, err)
	for raw, want := range map[string]bool{
		"": true, "id=eq.1": true, "select=id::text,words&words=in.(a,b)&or=(id.gt.1,id.is.null)&order=words.desc&limit=3": true,
		"select=*,guarded(*)": false, "guarded=not.is.null&select=guarded()": false, "select=computed": false, "computed=eq.x": false,
		"or=(id.eq.1,computed.eq.x)": false, "order=computed": false, "words=fts.cat": false, "words=like.*a*": false,
	} {
		p := planned(t, s, "plain", raw)
		require.Equal(t, want, p.Plain(), raw)
	}
	require.False(t, planned(t, s, "guarded", "").Plain())
}

func planned(t *testing.T, s *schema.Schema, table, raw string) *plan.Plan {
	t.Helper()
	q, err := query.Parse(raw)
	require.NoError(t, err)
	p, err := plan.Build(s, &plan.Request{Relation: schema.Name{Schema: "public", Name: table}, Query: q,
		Page: plan.Page{Limit: 1000}, Answer: plan.Answer{Body: true, MaxAffected: -1}})
	require.NoError(t, err, raw)
	return p
}

func TestDirect(t *testing.T) {
	s, err := schema.Parse([]byte(guardedAndPlain))
	require.NoError(t, err)
	stmt := plan.Render(planned(t, s, "plain", "id=eq.1&words=eq.x"))
	require.Equal(t, `SELECT pg_catalog.count(*), coalesce(pg_catalog.json_agg(s.*), '[]') FROM "public"."plain" s WHERE (s."id" = $1) AND (s."words" = $2)`, stmt.SQL)
	require.Equal(t, [][]byte{[]byte("1"), []byte("x")}, stmt.Params)
	for _, raw := range []string{"", "id=gt.1", "id=not.eq.1", "words=eq.x", "or=(id.eq.1,id.eq.2)", "id=eq.1&select=id", "id=eq.1&select=*,guarded(id)", "id=eq(any).{1,2}"} {
		require.Contains(t, plan.Render(planned(t, s, "plain", raw)).SQL, " FROM (SELECT ", raw)
	}
}
