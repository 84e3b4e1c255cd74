package plan_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest/body"
	"github.com/freehold-db/freehold/dataplane/rest/plan"
	"github.com/freehold-db/freehold/dataplane/rest/query"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

const guardedAndPlain = `{"Relations": [
	{"Schema": "public", "Name": "plain", "Kind": "r", "Plain": true,
	 "Columns": [{"Name": "id", "Type": "integer", "Base": "int4"}, {"Name": "g", "Type": "integer", "Base": "int4"}, {"Name": "words", "Type": "text", "Base": "text"}],
	 "Keys": [{"Name": "pk", "Kind": "p", "Columns": ["id"]},
	          {"Name": "fk", "Kind": "f", "Columns": ["g"], "ToSchema": "public", "ToName": "guarded", "ToColumns": ["id"]}]},
	{"Schema": "public", "Name": "calm", "Kind": "r", "Plain": true, "Calm": true, "Columns": [{"Name": "id", "Type": "integer", "Base": "int4"}]},
	{"Schema": "public", "Name": "blind", "Kind": "r", "Plain": true, "Calm": true, "Blind": true, "Columns": [{"Name": "id", "Type": "integer", "Base": "int4"}],
	 "Keys": [{"Name": "pk", "Kind": "p", "Columns": ["id"]}]},
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

// An insert of which nothing is asked back is no more than that; where something
// is, it is asked for in one row; and only where a table reads no settings there are none.
func TestPlainInsert(t *testing.T) {
	s, err := schema.Parse([]byte(guardedAndPlain))
	require.NoError(t, err)
	b, err := body.Parse([]byte(`{"id":1}`))
	require.NoError(t, err)
	q, err := query.Parse("")
	require.NoError(t, err)
	insert := func(table string, adjust func(*plan.Request)) *plan.Plan {
		req := &plan.Request{Action: plan.ActionInsert, Relation: schema.Name{Schema: "public", Name: table}, Query: q, Body: b, Answer: plan.Answer{Body: true, MaxAffected: -1}}
		adjust(req)
		p, err := plan.Build(s, req)
		require.NoError(t, err)
		return p
	}
	minimal := func(*plan.Request) {}
	for table, want := range map[string]struct{ plain, tagged bool }{"blind": {true, true}, "calm": {false, true}, "plain": {false, false}, "guarded": {false, false}} {
		p := insert(table, minimal)
		require.Equal(t, want.plain, p.Plain(), table)
		require.Equal(t, want.tagged, p.Tagged(), table)
	}
	require.Equal(t, `INSERT INTO "public"."blind" AS t ("id") SELECT r."id" FROM pg_catalog.json_populate_record(NULL::"public"."blind", $1) r`, plan.Render(insert("blind", minimal)).SQL)
	p := insert("blind", func(r *plan.Request) { r.Return = plan.ReturnRows })
	require.False(t, p.Tagged())
	require.True(t, p.Plain())
	require.NotContains(t, plan.Render(p).SQL, "current_setting")
	require.False(t, insert("blind", func(r *plan.Request) { r.Return = plan.ReturnHeaders }).Tagged())
	require.False(t, insert("blind", func(r *plan.Request) { r.Accept = []plan.Media{{Type: plan.MediaObject}} }).Tagged())
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
	require.Equal(t, `SELECT pg_catalog.row_to_json(s.*) FROM "public"."plain" s WHERE (s."id" = $1) AND (s."words" = $2)`, stmt.SQL)
	require.Equal(t, [][]byte{[]byte("1"), []byte("x")}, stmt.Params)
	for _, raw := range []string{"id=eq.1&select=id", "id=eq.1&select=*,guarded(id)"} {
		require.Contains(t, plan.Render(planned(t, s, "plain", raw)).SQL, " FROM (SELECT ", raw)
	}
}

// Rows that nothing sorts need no subquery to cut the page out; sorted ones
// would all become JSON without it.
func TestStraight(t *testing.T) {
	s, err := schema.Parse([]byte(guardedAndPlain))
	require.NoError(t, err)
	for raw, want := range map[string]string{
		"":                          ` LIMIT $1`,
		"words=eq.x":                ` WHERE (s."words" = $1) LIMIT $2`,
		"or=(id.eq.1,id.eq.2)":      ` WHERE ((s."id" = $1) OR (s."id" = $2)) LIMIT $3`,
		"order=id.desc":             ` ORDER BY s."id" DESC LIMIT $1`,
		"id=gt.1&order=id":          ` WHERE (s."id" > $1) ORDER BY s."id" LIMIT $2`,
		"id=gte.1&id=lt.9&order=id": ` WHERE (s."id" >= $1) AND (s."id" < $2) ORDER BY s."id" LIMIT $3`,
	} {
		require.Equal(t, `SELECT pg_catalog.row_to_json(s.*) FROM "public"."plain" s`+want, plan.Render(planned(t, s, "plain", raw)).SQL, raw)
	}
	for _, raw := range []string{"order=words", "order=id,words", "order=id.nullsfirst", "words=eq.x&order=id", "id=not.gt.1&order=id",
		"id=in.(1,2)&order=id", "or=(id.gt.1,id.lt.0)&order=id", "select=id&order=id", "select=*,guarded(id)&order=id"} {
		require.Contains(t, plan.Render(planned(t, s, "plain", raw)).SQL, " FROM (SELECT ", raw)
	}
	for _, raw := range []string{"", "order=id"} {
		p := planned(t, s, "plain", raw)
		p.Read.Page.Offset = 1
		require.Contains(t, plan.Render(p).SQL, " FROM (SELECT ", raw)
		p = planned(t, s, "plain", raw)
		p.Answer.Count = plan.ExactCount
		require.Contains(t, plan.Render(p).SQL, " FROM (SELECT ", raw)
	}
}
