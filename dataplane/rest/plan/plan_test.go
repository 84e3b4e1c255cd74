package plan_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest/body"
	"github.com/freehold-db/freehold/dataplane/rest/plan"
	"github.com/freehold-db/freehold/dataplane/rest/query"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

const document = `{"Relations":[
 {"Schema":"public","Name":"t","Kind":"r",
  "Columns":[
   {"Name":"id","Type":"int4","Base":"int4"},{"Name":"name","Type":"text","Base":"text"},{"Name":"data","Type":"jsonb","Base":"jsonb"},
   {"Name":"raw","Type":"json","Base":"json"},{"Name":"tags","Type":"text[]","Base":"_text"},{"Name":"words","Type":"tsvector","Base":"tsvector"}],
  "Keys":[{"Name":"t_pkey","Kind":"p","Columns":["id"]},{"Name":"t_fk","Kind":"f","Columns":["id"],"ToSchema":"public","ToName":"u","ToColumns":["id"]}]},
 {"Schema":"public","Name":"u","Kind":"r",
  "Columns":[{"Name":"id","Type":"int4","Base":"int4"},{"Name":"q\"; DROP","Type":"handle","Base":"text","DomainNotNull":true}],
  "Keys":[{"Name":"u_pkey","Kind":"p","Columns":["id","q\"; DROP"]}]}],
 "Functions":[
  {"Schema":"public","Name":"f","Volatility":"s","SetOf":true,"Type":"t","Base":"t","Composite":true,"RelationSchema":"public","Relation":"t",
   "Args":[{"Name":"a","Mode":"i","Type":"text","Base":"text"},{"Name":"rest","Mode":"v","Type":"text[]","Base":"_text"}]},
  {"Schema":"public","Name":"whole","Volatility":"v","SetOf":true,"Type":"t","Base":"t","Composite":true,"RelationSchema":"public","Relation":"t",
   "Args":[{"Name":"","Mode":"i","Type":"bytea","Base":"bytea"}]},
  {"Schema":"public","Name":"json whole","Volatility":"v","SetOf":true,"Type":"t","Base":"t","Composite":true,"RelationSchema":"public","Relation":"t",
   "Args":[{"Name":"","Mode":"i","Type":"json","Base":"json"}]}]}`

func sample(t testing.TB) *schema.Schema {
	s, err := schema.Parse([]byte(document))
	require.NoError(t, err)
	return s
}

func parse(t testing.TB, raw string) *query.Query {
	t.Helper()
	q, err := query.Parse(raw)
	require.NoError(t, err, raw)
	return q
}

// request is a read of t as the handler would ask for it.
func request(t testing.TB, raw string) *plan.Request {
	return &plan.Request{
		Relation: schema.Name{Schema: "public", Name: "t"}, Query: parse(t, raw),
		Page: plan.Page{Limit: -1}, Answer: plan.Answer{Body: true, MaxAffected: -1},
	}
}

func render(t testing.TB, req *plan.Request) plan.Statement {
	t.Helper()
	p, err := plan.Build(sample(t), req)
	require.NoError(t, err)
	return plan.Render(p)
}

func params(values ...string) [][]byte {
	var out [][]byte
	for _, v := range values {
		out = append(out, []byte(v))
	}
	return out
}

func TestRenderRead(t *testing.T) {
	const head = `SELECT pg_catalog.row_to_json(s.*) FROM `
	for raw, want := range map[string]struct {
		sql    string
		params [][]byte
	}{
		"": {`"public"."t" s`, nil},
		"select=id,n:name&id=eq.1&order=name.desc": {
			`(SELECT t."id", t."name" AS "n" FROM "public"."t" t WHERE (t."id" = $1) ORDER BY t."name" DESC) s`, params("1")},
		"select=data->a->>0::int&raw->b=gt.1": {
			`(SELECT CAST((t."data"->$1->>$2::int4) AS pg_catalog.int4) AS "a" FROM "public"."t" t WHERE ((pg_catalog.to_jsonb(t."raw")->$3) > $4)) s`, params("a", "0", "b", "1")},
		"or=(id.in.(1,2),not.and(name.like.a*,name.not.is.null))": {
			`"public"."t" s WHERE ((s."id" = ANY ($1)) OR NOT ((s."name" LIKE $2) AND NOT (s."name" IS NULL)))`, params(`{"1","2"}`, "a%")},
		"name=fts(english).x&words=plfts.y": {
			`"public"."t" s WHERE (pg_catalog.to_tsvector($1::pg_catalog.regconfig, s."name") @@ pg_catalog.to_tsquery($2::pg_catalog.regconfig, $3)) AND (s."words" @@ pg_catalog.plainto_tsquery($4))`,
			params("english", "english", "x", "y")},
		`name=in.("a\"b\\","")`: {`"public"."t" s WHERE (s."name" = ANY ($1))`, params(`{"a\"b\\",""}`)},
	} {
		s := render(t, request(t, strings.NewReplacer(`"`, "%22", `\`, "%5C").Replace(raw)))
		require.Equal(t, head+want.sql, s.SQL, raw)
		require.Equal(t, want.params, s.Params, raw)
	}
}

func TestRenderWrite(t *testing.T) {
	b := func(text string) *body.Body {
		parsed, err := body.Parse([]byte(text))
		require.NoError(t, err)
		return parsed
	}
	req := request(t, "select=id")
	req.Action, req.Body, req.Return = plan.ActionInsert, b(`[{"id":1,"name":"x"}]`), plan.ReturnRows
	require.Equal(t, `WITH w AS (INSERT INTO "public"."t" AS t ("id", "name") SELECT r."id", r."name" FROM pg_catalog.json_populate_recordset(NULL::"public"."t", $1) r RETURNING t."id") `+
		`SELECT pg_catalog.count(*), coalesce(pg_catalog.json_agg(s.*), '[]'), NULL, NULL, NULL, pg_catalog.current_setting('response.headers', true), pg_catalog.current_setting('response.status', true) FROM (SELECT t."id" FROM w t) s`, render(t, req).SQL)

	req = request(t, "columns=id,name")
	req.Action, req.Body, req.MissingDefaults = plan.ActionInsert, b(`[{"id":1},{"name":"x"},{}]`), true
	s := render(t, req)
	require.Contains(t, s.SQL, `("id", "name") VALUES ((pg_catalog.json_populate_record(NULL::"public"."t", $1))."id", DEFAULT), (DEFAULT, (pg_catalog.json_populate_record(NULL::"public"."t", $2))."name"), (DEFAULT, DEFAULT) RETURNING 1)`)
	require.Equal(t, params(`{"id":1}`, `{"name":"x"}`), s.Params)

	req = request(t, "")
	req.Relation.Name, req.Action, req.Body, req.Resolution = "u", plan.ActionInsert, b(`{"q\"; DROP":"v"}`), plan.MergeDuplicates
	s = render(t, req)
	require.Contains(t, s.SQL, `INSERT INTO "public"."u" AS t ("q""; DROP") SELECT r."q""; DROP" FROM pg_catalog.json_to_record($1) AS r("q""; DROP" handle) ON CONFLICT ("id", "q""; DROP") DO UPDATE SET "q""; DROP" = EXCLUDED."q""; DROP" WHERE`)

	req = request(t, "id=eq.1")
	req.Action, req.Answer.Singular = plan.ActionDelete, true
	require.Equal(t, `WITH w AS (DELETE FROM "public"."t" t WHERE (t."id" = $1) RETURNING 1) `+
		`SELECT CASE WHEN pg_catalog.count(*) = 1 THEN 1 ELSE ('freehold:rows:' || pg_catalog.count(*))::int8 END, NULL, NULL, NULL, NULL, pg_catalog.current_setting('response.headers', true), pg_catalog.current_setting('response.status', true) FROM (SELECT  FROM w t) s`, render(t, req).SQL)
}

func TestBuildRefuses(t *testing.T) {
	for raw, code := range map[string]string{
		"select=nope": "42703", "nope=eq.1": "42703", "order=nope": "42703", "or=(id.eq.1,nope.is.null)": "42703",
		"select=id::regrole": "42704", "select=id::_ACLitem": "42704", "select=id::text;drop": "PGRST100", "select=count()": "PGRST123",
		"select=nope(*)": "PGRST200", "select=u(nope)": "42703", "select=u(id)&u.nope=eq.1": "42703", "select=u(id)&u=eq.1": "42703",
		"u.id=eq.1": "PGRST108", "order=u(id)": "PGRST108",
	} {
		q, err := query.Parse(raw)
		if code == "PGRST100" {
			require.Error(t, err, raw)
			continue
		}
		require.NoError(t, err, raw)
		req := request(t, "")
		req.Query = q
		_, err = plan.Build(sample(t), req)
		require.ErrorContains(t, err, code+": ", raw)
	}
}

var benchQueries = map[string]string{
	"key":  "id=eq.42",
	"page": "select=id,name,data->>kind&name=ilike.*abc*&or=(id.gt.10,data->n.lt.5)&order=name.desc,id&limit=20&offset=40",
}

func BenchmarkParse(b *testing.B) {
	for name, raw := range benchQueries {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := query.Parse(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPlan is all from a parsed request to its SQL.
func BenchmarkPlan(b *testing.B) {
	s := sample(b)
	for name, raw := range benchQueries {
		q, err := query.Parse(raw)
		require.NoError(b, err)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p, err := plan.Build(s, &plan.Request{Relation: schema.Name{Schema: "public", Name: "t"}, Query: q, Page: plan.Page{Limit: 20}, Answer: plan.Answer{Body: true}})
				if err != nil {
					b.Fatal(err)
				}
				plan.Render(p)
			}
		})
	}
}
