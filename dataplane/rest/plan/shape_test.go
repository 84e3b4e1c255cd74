package plan_test

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/freehold-db/freehold/dataplane/rest/body"
	"github.com/freehold-db/freehold/dataplane/rest/plan"
	"github.com/freehold-db/freehold/dataplane/rest/query"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// hostile is text that means something to SQL, to the grammar, or to nobody.
var hostile = rapid.OneOf(
	rapid.SampledFrom([]string{`'`, `"`, `\`, `''`, `";--`, `' OR 1=1 --`, `$1`, `$$`, `E'\'`, `/*`, `*/`, `*`, `%`, `{}`, `{"`, `)`, `(`, `,`, `.`, `::text`, `null`, ``, ` `, "\n", "é", "\u2028", `id`, `t.*`, `DROP TABLE t`}),
	rapid.StringMatching(`[ -~]{0,12}`),
	rapid.String(),
)

// skeleton is a request with holes for what a client may write freely; the same
// holes can be filled in different ways.
type skeleton struct {
	query []string // %s is a hole
	body  string
	req   plan.Request
}

func drawSkeleton(t *rapid.T) skeleton {
	column := rapid.SampledFrom([]string{"id", "name", "data", "raw", "tags", "words"})
	path := func() string {
		return column.Draw(t, "column") + strings.Repeat(`->"%s"`, rapid.IntRange(0, 2).Draw(t, "keys"))
	}
	operation := func() string {
		op := rapid.SampledFrom([]string{"eq", "neq", "gt", "like", "ilike", "match", "cs", "ov", "adj", "isdistinct", "fts", "wfts", "like(any)", "eq(all)"}).Draw(t, "op")
		return rapid.SampledFrom([]string{"", "not."}).Draw(t, "not") + op
	}
	var s skeleton
	for range rapid.IntRange(0, 3).Draw(t, "filters") {
		s.query = append(s.query, path()+"="+operation()+".%s")
	}
	for range rapid.IntRange(0, 2).Draw(t, "lists") {
		s.query = append(s.query, path()+`=in.("%s","%s")`)
	}
	for range rapid.IntRange(0, 2).Draw(t, "groups") {
		s.query = append(s.query, "or=("+path()+"."+operation()+`."%s",not.and(`+path()+"."+operation()+`."%s",id.is.null))`)
	}
	if rapid.Bool().Draw(t, "select") {
		embed := rapid.SampledFrom([]string{"", ",u(*)", `,v:u!inner(id,t("%s":name,id.count()))`, `,...u("%s":id)`, `,u!t_fk(id,...t!inner(data->"%s","%s":raw))`, ",u()"}).Draw(t, "embed")
		s.query = append(s.query, `select=*,id::text,`+path()+`,"%s":`+path()+embed)
		if strings.Contains(embed, "u") && rapid.Bool().Draw(t, "filter embed") {
			name := "u"
			if strings.Contains(embed, "v:u") {
				name = "v"
			}
			s.query = append(s.query, "u.id="+operation()+".%s", "u.order=id.desc", name+"=not.is.null", "order="+name+"(id)")
		}
	}
	if rapid.Bool().Draw(t, "order") {
		s.query = append(s.query, "order="+path()+".desc.nullslast,id")
	}
	s.req = plan.Request{
		Relation: schema.Name{Schema: "public", Name: "t"},
		Action:   plan.Action(rapid.IntRange(0, 3).Draw(t, "action")), Page: plan.Page{Limit: 5, Offset: 5}, Aggregates: true,
		Return: plan.Return(rapid.IntRange(0, 2).Draw(t, "return")), Resolution: plan.Resolution(rapid.IntRange(0, 2).Draw(t, "resolution")),
		Answer: plan.Answer{Body: true, Singular: rapid.Bool().Draw(t, "singular"), Count: plan.Count(rapid.IntRange(0, 1).Draw(t, "total")), MaxAffected: 3},
	}
	s.body = `{"id":1,"name":"%s"}`
	return s
}

// fill draws a text for every hole and renders the request.
func (s skeleton) fill(t *rapid.T, sch *schema.Schema) plan.Statement {
	inQuotes := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	draw := func() string { return strings.ReplaceAll(hostile.Draw(t, "text"), "\x00", "") }
	var params []string
	for _, param := range s.query {
		name, value, _ := strings.Cut(param, "=")
		for _, part := range []*string{&name, &value} {
			for strings.Contains(*part, "%s") {
				hole := strings.Index(*part, "%s")
				text := draw()
				if hole > 0 && (*part)[hole-1] == '"' {
					text = inQuotes.Replace(text)
				}
				*part = (*part)[:hole] + strings.ReplaceAll(text, "%s", "") + (*part)[hole+2:]
			}
		}
		params = append(params, url.QueryEscape(name)+"="+url.QueryEscape(value))
	}
	q, err := query.Parse(strings.Join(params, "&"))
	if err != nil {
		t.Skip(err) // an empty quoted key, say
	}
	req := s.req
	req.Query = q
	if req.Action == plan.ActionInsert || req.Action == plan.ActionUpdate {
		if req.Body, err = body.Parse([]byte(fmt.Sprintf(s.body, strings.Map(plainRune, draw())))); err != nil {
			t.Fatal(err)
		}
	}
	p, err := plan.Build(sch, &req)
	if err != nil {
		t.Fatal(err)
	}
	return plan.Render(p)
}

// call fills a call of a function with hostile arguments, filters and embeds.
func call(t *rapid.T, sch *schema.Schema, way int, count plan.Count) plan.Statement {
	draw := func() string { return strings.Map(plainRune, strings.ReplaceAll(hostile.Draw(t, "text"), "\x00", "")) }
	q, err := query.ParseCall("name=eq." + url.QueryEscape(draw()) + "&order=id&select=id,u(id)&u.id=eq." + url.QueryEscape(draw()))
	if err != nil {
		t.Fatal(err)
	}
	args := &plan.CallArgs{}
	name := "f"
	switch way {
	case 0:
		args.Named = []query.Arg{{Name: "a", Value: draw()}, {Name: "rest", Value: draw()}, {Name: "rest", Value: draw()}}
	case 1:
		args.Body, err = body.Value([]byte(fmt.Sprintf(`{"a":"%s","rest":[]}`, draw())))
	case 2:
		args.Raw, args.RawType, name = []byte(draw()), "bytea", "whole"
	case 3:
		args.JSON = true
		args.Body, err = body.Value([]byte(fmt.Sprintf(`["%s"]`, draw())))
		name = "json whole"
	}
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Build(sch, &plan.Request{Action: plan.ActionCall, Relation: schema.Name{Schema: "public", Name: name}, Query: q, Args: args,
		Page: plan.Page{Limit: 5}, Answer: plan.Answer{Body: true, Count: count, MaxAffected: -1}})
	if err != nil {
		t.Fatal(err)
	}
	return plan.Render(p)
}

func TestNoArgumentChangesTheShape(t *testing.T) {
	sch := sample(t)
	rapid.Check(t, func(t *rapid.T) {
		way, count := rapid.IntRange(0, 3).Draw(t, "way"), plan.Count(rapid.IntRange(0, 1).Draw(t, "count"))
		one, other := call(t, sch, way, count), call(t, sch, way, count)
		if one.SQL != other.SQL {
			t.Fatalf("shapes differ:\n%s\n%s", one.SQL, other.SQL)
		}
		if n := len(regexp.MustCompile(`\$[0-9]+`).FindAllString(one.SQL, -1)); n != len(one.Params) && count == plan.NoCount {
			t.Fatalf("%d placeholders for %d parameters in %s", n, len(one.Params), one.SQL)
		}
	})
}

func plainRune(r rune) rune {
	if r < ' ' || r == '"' || r == '\\' || r == '\ufffd' {
		return -1
	}
	return r
}

var (
	alias      = regexp.MustCompile(`( AS |\b[es][0-9]+\.)"([^"]|"")*"`)
	token      = regexp.MustCompile(`"(?:[^"]|"")*"|'[^']*'|\$[0-9]+|[A-Za-z_][A-Za-z_0-9.]*|[0-9]+|\S`)
	names      = []string{`"public"`, `"t"`, `"id"`, `"name"`, `"data"`, `"raw"`, `"tags"`, `"words"`, `"u"`, `"q""; DROP"`, `"?"`}
	literals   = []string{`'[]'`, `'null'`, `'freehold:rows:'`, `'freehold.updated'`, `'freehold:bytes:'`, `'response.headers'`, `'response.status'`, `'0'`, `''`}
	vocabulary = strings.Fields(`SELECT FROM WHERE AND OR NOT IS NULL ANY ALL AS CAST ORDER BY DESC NULLS LAST LIMIT OFFSET COALESCE CASE WHEN THEN ELSE END WITH
		INSERT INTO UPDATE SET DELETE ON CONFLICT DO NOTHING EXCLUDED RETURNING LIKE ILIKE DISTINCT NULLIF TRUE TEXT INT4 INT8 JSONB REGCONFIG
		t w r s t. r. s. EXCLUDED. pg_catalog.count pg_catalog.json_agg pg_catalog.to_jsonb pg_catalog.text pg_catalog.to_tsvector pg_catalog.to_tsquery
		EXISTS JOIN LEFT INNER LATERAL pg_catalog.bool_or GROUP t1. t2. s1. s2. e1. e2. t1 t2 s1 s2 e1 e2 pg_catalog.row_to_json
		pg_catalog.websearch_to_tsquery pg_catalog.json_populate_record pg_catalog.current_setting pg_catalog.set_config`)
)

// Whatever a client writes, the statement has the same shape: its text differs
// in aliases only, and is made of our words, the schema's names and placeholders.
func TestNoInputChangesTheShape(t *testing.T) {
	sch := sample(t)
	rapid.Check(t, func(t *rapid.T) {
		s := drawSkeleton(t)
		one, other := s.fill(t, sch), s.fill(t, sch)
		a, b := alias.ReplaceAllString(one.SQL, `$1"?"`), alias.ReplaceAllString(other.SQL, `$1"?"`)
		if a != b {
			t.Fatalf("shapes differ:\n%s\n%s", a, b)
		}
		seen := map[string]bool{}
		for _, tok := range token.FindAllString(a, -1) {
			switch c := tok[0]; {
			case c == '"':
				if !slices.Contains(names, tok) {
					t.Fatalf("name %s in %s", tok, one.SQL)
				}
			case c == '\'':
				if !slices.Contains(literals, tok) {
					t.Fatalf("literal %s in %s", tok, one.SQL)
				}
			case c == '$':
				seen[tok] = true
			case c >= '0' && c <= '9':
				if n, err := strconv.Atoi(tok); err != nil || n > 9 {
					t.Fatalf("number %s in %s", tok, one.SQL)
				}
			case c == '_' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z':
				if !slices.ContainsFunc(vocabulary, func(w string) bool { return strings.EqualFold(w, tok) }) {
					t.Fatalf("word %s in %s", tok, one.SQL)
				}
			default:
				if !strings.ContainsAny(tok, "().,=<>~*@&|-:+") {
					t.Fatalf("sign %s in %s", tok, one.SQL)
				}
			}
		}
		if len(seen) != len(one.Params) {
			t.Fatalf("%d placeholders for %d parameters in %s", len(seen), len(one.Params), one.SQL)
		}
	})
}
