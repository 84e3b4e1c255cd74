package schema

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

const related = `
CREATE TABLE a (id int PRIMARY KEY, twin int UNIQUE REFERENCES a);
CREATE TABLE b (x int, y int, PRIMARY KEY (x, y));
CREATE TABLE ab (a int REFERENCES a, bx int, by int, note text, PRIMARY KEY (a, bx, by), CONSTRAINT to_b FOREIGN KEY (bx, by) REFERENCES b);
CREATE TABLE loose (a int REFERENCES a, bx int, by int, FOREIGN KEY (bx, by) REFERENCES b);
CREATE SCHEMA hidden; CREATE TABLE hidden.h (id int PRIMARY KEY, a int CONSTRAINT h_to_a REFERENCES a, unseen int CONSTRAINT h_unseen REFERENCES a);
CREATE VIEW h AS SELECT id AS "the {id} \ of (h)", a AS aa, (SELECT count(*) FROM b) AS n FROM hidden.h;
CREATE VIEW over AS SELECT aa AS aaa, upper(n::text) AS n FROM h JOIN b ON true WHERE aa IN (SELECT id FROM a);
CREATE VIEW joined AS SELECT ab.a, ab.bx, ab.by, a.twin FROM ab LEFT JOIN a ON a.id = ab.a UNION ALL SELECT 1, 1, 1, 1;
CREATE VIEW left_joined AS WITH c AS (SELECT * FROM ab) SELECT c.a, c.bx, c.by, max(c.note) FROM c GROUP BY 1, 2, 3 HAVING count(*) > (SELECT 0);
CREATE TABLE parts (k int PRIMARY KEY, a int REFERENCES a) PARTITION BY LIST (k); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE to_parts (k int REFERENCES parts);
CREATE VIEW shown AS SELECT id FROM a;
CREATE FUNCTION shout(a) RETURNS text LANGUAGE sql AS $$ SELECT $1.id || '!' $$;
CREATE FUNCTION others(a) RETURNS SETOF b LANGUAGE sql AS $$ SELECT * FROM b $$;
CREATE FUNCTION one(a) RETURNS SETOF b ROWS 1 LANGUAGE sql AS $$ SELECT * FROM b $$;
CREATE FUNCTION f(p int, VARIADIC q text[] DEFAULT '{}', OUT r int, OUT s text) LANGUAGE sql STABLE AS $$ SELECT 1, 'x' $$;`

func TestRelationships(t *testing.T) {
	c := connect(t)
	exec(t, c, related)
	s, err := load(t.Context(), c, arrayLiteral([]string{"public"}), 1<<20)
	require.NoError(t, err)
	rel := func(name string) *Relation { return s.Relation(Name{"public", name}) }
	one := func(from, target, hint string) *Relationship {
		t.Helper()
		found := s.Related(rel(from), target, hint)
		require.Len(t, found, 1, "%s %s!%s", from, target, hint)
		return found[0]
	}
	require.Equal(t, ManyToOne, one("loose", "a", "").Cardinality)
	require.Equal(t, OneToMany, one("a", "loose", "").Cardinality)
	require.Equal(t, []Pair{{"x", "bx"}, {"y", "by"}}, one("b", "ab", "").Pairs)
	require.Equal(t, ManyToMany, one("a", "b", "ab").Cardinality)
	require.Equal(t, Junction{Relation: rel("ab"), FromConstraint: "ab_a_fkey", ToConstraint: "to_b", FromPairs: []Pair{{"id", "a"}}, ToPairs: []Pair{{"bx", "x"}, {"by", "y"}}},
		*one("a", "b", "ab").Junction)
	require.Empty(t, s.Related(rel("a"), "b", "loose"), "no junction: the key doesn't hold the foreign keys")
	require.Equal(t, OneToOne, one("a", "a", "").Cardinality)
	require.False(t, one("a", "a", "").Holds)
	require.Equal(t, rel("a"), one("a", "twin", "").To, "a column leads to the table, though a view shows it")
	require.Equal(t, rel("a"), one("loose", "a", "").To)
	require.Equal(t, rel("a"), one("ab", "ab_a_fkey", "").To)
	require.True(t, one("a", "twin", "").Holds)
	require.Equal(t, []Pair{{"k", "k"}}, one("to_parts", "parts", "").Pairs, "a key to a partitioned table is one key")

	// Views.
	require.Equal(t, []Pair{{"aa", "id"}}, one("h", "a", "").Pairs)
	require.Equal(t, []Pair{{"aaa", "id"}}, one("over", "a", "").Pairs)
	require.Equal(t, "h_to_a", one("a", "over", "").Constraint)
	require.Empty(t, s.Related(rel("h"), "h_unseen", ""))
	require.Equal(t, []string{`the {id} \ of (h)`}, rel("h").PrimaryKey)
	require.Empty(t, rel("over").PrimaryKey)
	require.Empty(t, s.Related(rel("joined"), "a", ""), "a union's columns are of no table")
	require.Equal(t, "to_b", one("left_joined", "b", "").Constraint)
	require.Nil(t, s.Relation(Name{"hidden", "h"}))

	// Functions.
	require.Equal(t, "shout", rel("a").Readable("shout").Function.Name.Name)
	require.Nil(t, rel("a").Column("shout"))
	require.False(t, one("a", "others", "").ToOne())
	require.True(t, one("a", "one", "").ToOne())
	f := s.Functions(Name{"public", "f"})[0]
	require.Equal(t, []Arg{{Name: "p", Type: "integer", Base: "int4"}, {Name: "q", Type: "text[]", Base: "_text", Optional: true, Variadic: true}}, f.Args)
	require.Len(t, f.Rows.Columns, 2)
	require.False(t, f.Volatile)
}

// A schema of many views of one table stays within its bound, tables first.
func TestRelationshipsAreBounded(t *testing.T) {
	s := &Schema{relations: map[Name]*Relation{}, relationships: map[*Relation][]*Relationship{}}
	table := &Relation{Name: Name{"public", "a"}, PrimaryKey: []string{"id"}, ForeignKeys: []ForeignKey{{"self", []string{"up"}, Name{"public", "a"}, []string{"id"}}}}
	s.relations[table.Name] = table
	for i := range 1000 {
		v := &Relation{Name: Name{"public", fmt.Sprint("v", i)}, origins: []origin{{"id", "public", "a", "id"}, {"up", "public", "a", "up"}}}
		s.relations[v.Name] = v
	}
	s.relate()
	n := 0
	for _, all := range s.relationships {
		n += len(all)
	}
	require.LessOrEqual(t, n, maxRelationships)
	require.Len(t, s.Related(table, "up", "")[:1], 1)
}
