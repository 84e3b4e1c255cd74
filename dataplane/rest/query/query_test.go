package query_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	. "github.com/freehold-db/freehold/dataplane/rest/query"
)

func col(name string, path ...Step) Field { return Field{Name: name, Path: path} }
func key(k string) Step                   { return Step{Key: k} }
func text(k string) Step                  { return Step{Text: true, Key: k} }
func index(i int32) Step                  { return Step{IsIndex: true, Index: i} }

func TestSelect(t *testing.T) {
	for raw, want := range map[string][]Item{
		"":                             {},
		"*":                            {Star{}},
		"id, name":                     {&Column{Field: col("id")}, &Column{Field: col("name")}},
		"alias:id::text":               {&Column{Alias: "alias", Field: col("id"), Cast: "text"}},
		"id::timestamp with time zone": {&Column{Field: col("id"), Cast: "timestamp with time zone"}},
		"a->b->>c":                     {&Column{Field: col("a", key("b"), text("c"))}},
		"a->0->>-1":                    {&Column{Field: col("a", index(0), Step{Text: true, IsIndex: true, Index: -1})}},
		"a->1b":                        {&Column{Field: col("a", key("1b"))}},
		"a->some-key->x":               {&Column{Field: col("a", key("some-key"), key("x"))}},
		`a->"k.,()"`:                   {&Column{Field: col("a", key("k.,()"))}},
		"some-col->x":                  {&Column{Field: col("some-col", key("x"))}},
		"first name":                   {&Column{Field: col("first name")}},
		`"a,b(c)"`:                     {&Column{Field: col("a,b(c)")}},
		`"a\"b\\"`:                     {&Column{Field: col(`a"b\`)}},
		"ünï:größe":                    {&Column{Alias: "ünï", Field: col("größe")}},
		"count()":                      {&Column{Aggregate: Count}},
		"n:count()::text":              {&Column{Alias: "n", Aggregate: Count, AggregateCast: "text"}},
		"count":                        {&Column{Field: col("count")}},
		"a->x::int.sum()::text":        {&Column{Field: col("a", key("x")), Cast: "int", Aggregate: Sum, AggregateCast: "text"}},
		"clients(id,name)":             {&Embed{Relation: "clients", Select: []Item{&Column{Field: col("id")}, &Column{Field: col("name")}}}},
		"*,c:clients!fk!inner(*,nested!left())": {Star{}, &Embed{Alias: "c", Relation: "clients", Hint: "fk", Join: JoinInner,
			Select: []Item{Star{}, &Embed{Relation: "nested", Join: JoinLeft, Select: []Item{}}}}},
		"...clients!inner!fk(a:name)": {&Embed{Relation: "clients", Spread: true, Hint: "fk", Join: JoinInner, Select: []Item{&Column{Alias: "a", Field: col("name")}}}},
	} {
		q, err := Parse("select=" + escape(raw))
		require.NoError(t, err, raw)
		if diff := cmp.Diff(want, q.Select); diff != "" {
			t.Errorf("%s:\n%s", raw, diff)
		}
	}
}

func TestFilters(t *testing.T) {
	filter := func(f Filter) []Condition { return []Condition{&f} }
	id := col("id")
	for raw, want := range map[string][]Condition{
		"id=eq.1":               filter(Filter{Field: id, Op: Eq, Value: "1"}),
		"id=eq.":                filter(Filter{Field: id, Op: Eq}),
		"id=eq.a.b,c(d)":        filter(Filter{Field: id, Op: Eq, Value: "a.b,c(d)"}),
		`id=eq."quoted"`:        filter(Filter{Field: id, Op: Eq, Value: `"quoted"`}),
		"id=not.eq.1":           filter(Filter{Field: id, Not: true, Op: Eq, Value: "1"}),
		"id=eq(any).{1,2}":      filter(Filter{Field: id, Op: Eq, Quant: Any, Value: "{1,2}"}),
		"id=not.like(all).{a*}": filter(Filter{Field: id, Not: true, Op: Like, Quant: All, Value: "{a*}"}),
		"id=in.(1, 2,\"a,b\")":  filter(Filter{Field: id, Op: In, Values: []string{"1", " 2", "a,b"}}),
		`id=in.("a"b,c)`:        filter(Filter{Field: id, Op: In, Values: []string{`"a"b`, "c"}}),
		"id=in.()":              filter(Filter{Field: id, Op: In, Values: []string{}}),
		"id=in.(,)":             filter(Filter{Field: id, Op: In, Values: []string{"", ""}}),
		"id=is.Not_Null":        filter(Filter{Field: id, Op: Is, Is: NotNull}),
		"id=fts(english).x":     filter(Filter{Field: id, Op: FTS, Config: "english", Value: "x"}),
		"id=wfts.x":             filter(Filter{Field: id, Op: WebFTS, Value: "x"}),
		"a->>b=eq.1":            filter(Filter{Field: col("a", text("b")), Op: Eq, Value: "1"}),
		`"a.b"=eq.1`:            filter(Filter{Field: col("a.b"), Op: Eq, Value: "1"}),
		"id":                    nil,
		"or=(id.eq.1,id.eq.\"a,b\")": {&Group{Or: true, Terms: []Condition{
			&Filter{Field: id, Op: Eq, Value: "1"}, &Filter{Field: id, Op: Eq, Value: "a,b"}}}},
		"not.and=( id.cs.{1,2} , not.or(id.is.null,a->x.gt.1))": {&Group{Not: true, Terms: []Condition{
			&Filter{Field: id, Op: Contains, Value: "{1,2}"},
			&Group{Not: true, Or: true, Terms: []Condition{&Filter{Field: id, Op: Is}, &Filter{Field: col("a", key("x")), Op: Gt, Value: "1"}}}}}},
		"or=(or.eq.1,id.in.(1,2))": {&Group{Or: true, Terms: []Condition{
			&Filter{Field: col("or"), Op: Eq, Value: "1"}, &Filter{Field: id, Op: In, Values: []string{"1", "2"}}}}},
	} {
		q, err := Parse(escape(raw))
		require.NoError(t, err, raw)
		if diff := cmp.Diff(want, q.Root.Where); diff != "" {
			t.Errorf("%s:\n%s", raw, diff)
		}
	}
}

func TestScopes(t *testing.T) {
	q, err := Parse("a.b.id=eq.1&a.order=x.desc.nullslast,y&a.b.limit=2&limit=1&offset=3&a.not.or=(x.eq.1)&columns=p,%22q r%22&on_conflict=k&order=c(d).asc,e->f.nullsfirst&order=ignored")
	require.NoError(t, err)
	one, two, three := int64(1), int64(2), int64(3)
	want := &Query{
		Columns: []string{"p", "q r"}, OnConflict: []string{"k"},
		Root: Scope{Limit: &one, Offset: &three, Order: []Order{
			{Relation: "c", Field: col("d")}, {Field: col("e", key("f")), Nulls: NullsFirst}}},
		Embedded: []Scope{
			{Path: []string{"a", "b"}, Limit: &two, Where: []Condition{&Filter{Field: col("id"), Op: Eq, Value: "1"}}},
			{Path: []string{"a"}, Order: []Order{{Field: col("x"), Desc: true, Nulls: NullsLast}, {Field: col("y")}},
				Where: []Condition{&Group{Not: true, Or: true, Terms: []Condition{&Filter{Field: col("x"), Op: Eq, Value: "1"}}}}},
		},
	}
	if diff := cmp.Diff(want, q); diff != "" {
		t.Error(diff)
	}
}

func TestCallArguments(t *testing.T) {
	q, err := ParseCall("a=1&a=2&b=eq.3&select=x&c.d=is.null&e=no.filter&f=&g")
	require.NoError(t, err)
	require.Equal(t, []Arg{{"a", "1"}, {"a", "2"}, {"e", "no.filter"}, {"f", ""}}, q.Args)
	require.Len(t, q.Root.Where, 1)
	require.Len(t, q.Embedded, 1)
	for _, raw := range []string{"e=not.a.filter", "e=in.1", "e=is.it"} {
		_, err = ParseCall(raw)
		require.Error(t, err, "what begins as a filter must be one")
	}
}

// What PostgREST lets pass is no error here either.
func TestLenient(t *testing.T) {
	for raw, same := range map[string]string{
		"id=in.(1,2)x":            "id=in.(1,2)",
		"id=is.nullable":          "id=is.null",
		"and=(a.eq.1,b.eq.2))":    "and=(a.eq.1,b.eq.2)",
		"select=a(b)c,d":          "select=a(b)",
		"select=a)b":              "select=a",
		"select=!a":               "select=",
		"columns=a,b)c":           "columns=a,b",
		"a->b.c=eq.1":             "a->b=eq.1",
		"a=like.%x%&b=eq.%4":      "a=like.%25x%25&b=eq.%254",
		"limit=x&limit=3&limit=y": "limit=3",
		"offset=%201&order=a":     "offset=1&order=a",
	} {
		q, err := Parse(raw)
		require.NoError(t, err, raw)
		want, err := Parse(same)
		require.NoError(t, err, same)
		require.Equal(t, want, q, raw)
	}
}

func TestRefused(t *testing.T) {
	for raw, want := range map[string]string{
		"id=noop.0":                       `"failed to parse filter (noop.0)" (line 1, column 1)` + "\n" + `unexpected "o" expecting "not" or operator (eq, gt, ...)`,
		"id=not.noop.0":                   `"failed to parse filter (not.noop.0)" (line 1, column 5)` + "\n" + `unexpected "n" expecting operator (eq, gt, ...)`,
		"id=eq":                           `"failed to parse filter (eq)" (line 1, column 3)` + "\n" + `unexpected end of input expecting operator (eq, gt, ...)`,
		"id=eq().1":                       `"failed to parse filter (eq().1)" (line 1, column 4)` + "\n" + `unexpected ")" expecting operator (eq, gt, ...)`,
		"id=is().null":                    `"failed to parse filter (is().null)" (line 1, column 3)` + "\n" + `unexpected "(" expecting operator (eq, gt, ...)`,
		"id=is.nil":                       `"failed to parse filter (is.nil)" (line 1, column 5)` + "\n" + `unexpected "i" expecting isVal: (null, not_null, true, false, unknown)`,
		"id=in.1,2":                       `"failed to parse filter (in.1,2)" (line 1, column 4)` + "\n" + `unexpected "1" expecting "("`,
		"select=id,":                      `"failed to parse select parameter (id,)" (line 1, column 4)` + "\n" + `unexpected end of input expecting "...", field name (* or [a..z0..9_$]), "*" or "count()"`,
		"select=id,clients(name[])":       `"failed to parse select parameter (id,clients(name[]))" (line 1, column 16)` + "\n" + `unexpected '[' expecting letter, digit, "-", "->>", "->", "::", ".", ")", "," or end of input`,
		"select=a(b":                      `"failed to parse select parameter (a(b)" (line 1, column 4)` + "\n" + `unexpected end of input expecting letter, digit, "-", "->>", "->", "::", ".", ")" or ","`,
		"select=id::":                     `"failed to parse select parameter (id::)" (line 1, column 5)` + "\n" + `unexpected end of input expecting letter or digit`,
		"select=id.med()":                 `"failed to parse select parameter (id.med())" (line 1, column 4)` + "\n" + `unexpected "m" expecting "sum", "avg", "count", "max" or "min"`,
		"order=id.up":                     `"failed to parse order (id.up)" (line 1, column 4)` + "\n" + `unexpected "u" expecting "asc", "desc", "nullsfirst" or "nullslast"`,
		"order=id.asc.desc":               `"failed to parse order (id.asc.desc)" (line 1, column 8)` + "\n" + `unexpected "d" expecting "nullsfirst" or "nullslast"`,
		"order=id.nullslast.asc":          `"failed to parse order (id.nullslast.asc)" (line 1, column 13)` + "\n" + `unexpected '.' expecting "," or end of input`,
		"or=()":                           `"failed to parse logic tree (())" (line 1, column 4)` + "\n" + `unexpected ")" expecting field name (* or [a..z0..9_$]), negation operator (not) or logic operator (and, or)`,
		"or=(id.eq.1":                     `"failed to parse logic tree ((id.eq.1)" (line 1, column 11)` + "\n" + `unexpected end of input expecting "," or ")"`,
		"or=)(":                           `"failed to parse logic tree ()()" (line 1, column 3)` + "\n" + `unexpected ")" expecting "("`,
		"a->99999999999=eq.1":             `"failed to parse tree path (a->99999999999)" (line 1, column 4)` + "\n" + `unexpected "9" expecting an index of 32 bits`,
		"\"=eq.1":                         `"failed to parse tree path (")" (line 1, column 2)` + "\n" + `unexpected end of input expecting "\\" or "\""`,
		"=eq.1":                           `"failed to parse tree path ()" (line 1, column 1)` + "\n" + `unexpected end of input expecting field name (* or [a..z0..9_$])`,
		"select=data->>--34":              `"failed to parse select parameter (data->>--34)" (line 1, column 9)` + "\n" + `unexpected "-" expecting digit`,
		"and=(ord(id.eq.1),id.eq.2)":      `"failed to parse logic tree ((ord(id.eq.1),id.eq.2))" (line 1, column 7)` + "\n" + `unexpected "d" expecting "("`,
		"not.or=(a.eq.1,not.xor(b.eq.2))": `"failed to parse logic tree ((a.eq.1,not.xor(b.eq.2)))" (line 1, column 19)` + "\n" + `unexpected "x" expecting logic operator (and, or)`,
		"order=clients(name,id)":          `"failed to parse order (clients(name,id))" (line 1, column 8)` + "\n" + `unexpected '(' expecting letter, digit, "-", "->>", "->", delimiter (.), "," or end of input`,
		"order=id.asc.nullslasttt":        `"failed to parse order (id.asc.nullslasttt)" (line 1, column 17)` + "\n" + `unexpected 't' expecting "," or end of input`,
		"id=fts().x":                      `"failed to parse filter (fts().x)" (line 1, column 5)` + "\n" + `unexpected ")" expecting operator (eq, gt, ...)`,
		"columns=a,,b":                    `"failed to parse columns parameter (a,,b)" (line 1, column 3)` + "\n" + `unexpected "," expecting field name (* or [a..z0..9_$])`,
		"on_conflict=!":                   `"failed to parse on_conflict parameter (!)" (line 1, column 1)` + "\n" + `unexpected "!" expecting field name (* or [a..z0..9_$])`,
		"select=a!b!c!d(e)":               `"failed to parse select parameter (a!b!c!d(e))" (line 1, column 2)` + "\n" + `unexpected '!' expecting letter, digit, "-", "->>", "->", "::", ".", ")", "," or end of input`,
	} {
		_, err := Parse(escape(raw))
		var e *SyntaxError
		require.ErrorAs(t, err, &e, raw)
		require.Equal(t, want, e.Error()+"\n"+e.Details(), raw)
	}
	for _, raw := range []string{
		"%00=eq.1", "id=eq.%00", "id=eq.%ff", "id=eq.\xff", "%80=eq.1",
		"or=" + strings.Repeat("(and", 100_000),
		"select=" + strings.Repeat("a(", 100_000),
		strings.Repeat("a=eq.1&", 2000),
	} {
		_, err := Parse(raw)
		var e *SyntaxError
		require.ErrorAs(t, err, &e)
		require.Less(t, len(e.Error()), 1000)
	}
}

func escape(s string) string {
	return strings.NewReplacer("%", "%25", "+", "%2B").Replace(s)
}

// No text makes the parser panic or fail with anything but a SyntaxError.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "select=*", "select=a:b->c->>0::text,...d!e!inner(*,f(count()))", "id=not.in.(1,\"a\\\"b\")", "a.b->>c=fts(english).x",
		"or=(a.eq.1,not.and(b.is.null,c.cs.{1}))", "order=a->b.desc.nullslast,c(d)", "limit=1&a.offset=2", "columns=a,\"b\"&on_conflict=c",
		"a=eq.%F0%9F%98%80", "%22=eq.", "select=a.sum()", "\xff=\xfe", "a.not.or=(", "select=\"\\",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := Parse(raw)
		if called, callErr := ParseCall(raw); err == nil && (callErr != nil || len(called.Args) > 0) {
			t.Fatalf("%q: %v, arguments %v", raw, callErr, called)
		}
		var e *SyntaxError
		switch {
		case err == nil && q == nil, err != nil && !errors.As(err, &e):
			t.Fatalf("%q: %v", raw, err)
		case err != nil && (e.Column < 1 || e.Details() == "" || len(e.Error()) > 1000):
			t.Fatalf("%q: %v", raw, err)
		}
	})
}
