package schema

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m.Run)) }

var public = Expose([]string{"public"})

func connect(t testing.TB) *pgconn.PgConn {
	t.Helper()
	c, err := pgconn.Connect(t.Context(), pgtest.Database(t))
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func look(t testing.TB, cache *Cache, database string, c *pgconn.PgConn) {
	t.Helper()
	_, err := cache.Refresh(t.Context(), database, public, c)
	require.NoError(t, err)
}

func exec(t testing.TB, c *pgconn.PgConn, sql string) {
	t.Helper()
	_, err := c.Exec(t.Context(), sql).ReadAll()
	require.NoError(t, err)
}

const tables = `
CREATE DOMAIN handle AS text NOT NULL;
CREATE TABLE b (x int, y int, z text UNIQUE, PRIMARY KEY (y, x));
CREATE TABLE a (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, d numeric(5,2) NOT NULL DEFAULT 1, h handle, j jsonb, bits bit(3),
  g int GENERATED ALWAYS AS (1) STORED, bx int, by int, CONSTRAINT to_b FOREIGN KEY (by, bx) REFERENCES b (y, x));
CREATE VIEW v AS SELECT id FROM a;
CREATE TABLE parts (k int) PARTITION BY LIST (k);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE SCHEMA hidden; CREATE TABLE hidden.h (id int);`

func TestLoad(t *testing.T) {
	c := connect(t)
	exec(t, c, tables)
	literal := arrayLiteral([]string{"public"})
	s, err := load(t.Context(), c, literal, 1<<20)
	require.NoError(t, err)
	f, err := digest(t.Context(), c, literal)
	require.NoError(t, err)
	require.Equal(t, f, s.Fingerprint, "the digest is of the document itself")

	require.Len(t, s.Relations("public"), 4, "no partitions, no hidden schemas")
	a := s.Relation(Name{"public", "a"})
	require.Equal(t, Table, a.Kind)
	require.Equal(t, []string{"id"}, a.PrimaryKey)
	require.Equal(t, []ForeignKey{{"to_b", []string{"by", "bx"}, Name{"public", "b"}, []string{"y", "x"}}}, a.ForeignKeys)
	require.Equal(t, &Column{Name: "id", Type: "bigint", Base: "int8", Identity: true}, a.Column("id"))
	require.Equal(t, &Column{Name: "d", Type: "numeric", Base: "numeric", HasDefault: true}, a.Column("d"))
	require.Equal(t, &Column{Name: "h", Type: "public.handle", Base: "text", Nullable: true, DomainNotNull: true}, a.Column("h"))
	require.Equal(t, &Column{Name: "g", Type: "integer", Base: "int4", Nullable: true, HasDefault: true, Generated: true}, a.Column("g"))
	require.Equal(t, `"bit"`, a.Column("bits").Type, "a type's own name means bit(1)")
	require.Nil(t, a.Column("nope"))
	b := s.Relation(Name{"public", "b"})
	require.Equal(t, []string{"y", "x"}, b.PrimaryKey)
	require.Equal(t, [][]string{{"z"}}, b.Unique)
	require.Equal(t, PartitionedTable, s.Relation(Name{"public", "parts"}).Kind)
	require.Equal(t, View, s.Relation(Name{"public", "v"}).Kind)
	require.Nil(t, s.Relation(Name{"hidden", "h"}))
}

// Two databases that came to the same schema by different ways share it.
func TestSameSchemaIsShared(t *testing.T) {
	one, other := connect(t), connect(t)
	exec(t, one, "CREATE TABLE t (id int PRIMARY KEY, name text); CREATE TABLE u (id int)")
	exec(t, other, "CREATE TABLE u (id int); CREATE TABLE t (gone int, name text); ALTER TABLE t DROP gone, ADD id int PRIMARY KEY")
	cache := NewCache(Options{Pause: 1})
	require.Nil(t, cache.Lookup("one", public).Schema)
	look(t, cache, "one", one)
	look(t, cache, "other", other)
	require.NotNil(t, cache.Lookup("one", public).Schema)
	require.Same(t, cache.Lookup("one", public).Schema, cache.Lookup("other", public).Schema)

	exec(t, other, "ALTER TABLE t ADD extra int")
	require.Same(t, cache.Lookup("one", public).Schema, cache.Lookup("other", public).Schema, "nothing said so yet")
	cache.Doubt("other", public)
	require.Nil(t, cache.Lookup("other", public).Schema)
	look(t, cache, "other", other)
	require.NotSame(t, cache.Lookup("one", public).Schema, cache.Lookup("other", public).Schema)
	require.NotNil(t, cache.Lookup("other", public).Schema.Relation(Name{"public", "t"}).Column("extra"))
}

// Of many that want to refresh, one reads; doubts in a row are kept apart.
func TestRefreshKeepsItsDistance(t *testing.T) {
	const pause = 200 * time.Millisecond
	cache := NewCache(Options{Pause: pause})
	conns := []*pgconn.PgConn{connect(t), connect(t), connect(t), connect(t)}
	refresh := func() {
		var wait sync.WaitGroup
		for _, c := range conns {
			wait.Go(func() {
				err := cache.Pace(t.Context(), "db", public)
				if _, refreshed := cache.Refresh(t.Context(), "db", public, c); err != nil || refreshed != nil {
					t.Error(err, refreshed)
				}
			})
		}
		wait.Wait()
	}
	refresh()
	first := cache.entry(key{"db", public.key}).seen.Load()
	refresh()
	require.Same(t, first, cache.entry(key{"db", public.key}).seen.Load(), "fresh: nothing is read")
	cache.Doubt("db", public)
	refresh()
	second := cache.entry(key{"db", public.key}).seen.Load()
	require.GreaterOrEqual(t, second.at-first.at, pause)

	cache.Doubt("db", public)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, cache.Pace(ctx, "db", public), context.Canceled, "no wait outlives its context")
}

func TestTTL(t *testing.T) {
	c := connect(t)
	cache := NewCache(Options{TTL: time.Nanosecond, Pause: 1})
	look(t, cache, "db", c)
	require.Nil(t, cache.Lookup("db", public).Schema)
}

func TestBounds(t *testing.T) {
	c := connect(t)
	cache := NewCache(Options{Databases: 2, Pause: 1})
	for _, db := range []string{"a", "b", "c"} {
		look(t, cache, db, c)
	}
	require.Nil(t, cache.Lookup("a", public).Schema)
	require.NotNil(t, cache.Lookup("c", public).Schema)
}

func TestNearest(t *testing.T) {
	names := []string{"projects", "tasks", "people", "id"}
	for want, expected := range map[string]string{"projekts": "projects", "PROJECTS": "projects", "project": "projects", "Task": "tasks", "peeple": "people", "poeple": "", "task_id": "", "": ""} {
		got, _ := nearest(want, names, likely)
		require.Equal(t, expected, got, want)
	}
	got, _ := nearest("task_id", names, akin)
	require.Equal(t, "tasks", got)
	_, score := nearest("Id", names, akin)
	require.Equal(t, 1.0, score)
	require.Equal(t, "(a, name)", SuggestArguments([]*Function{{Args: []Arg{{Name: "name"}, {Name: "a"}}}, {}}, []string{"names", "a"}))

	r := &Relation{Columns: []Column{{Name: "id"}, {Name: "name"}, {Name: "named"}, {Name: "state"}}}
	require.Equal(t, []string{"state"}, r.SuggestColumns("stat"))
	require.Equal(t, []string{"name", "named"}, r.SuggestColumns("namex"))
	require.Empty(t, r.SuggestColumns("xyz"))
	require.Empty(t, (&Relation{Columns: []Column{{Name: "aa"}, {Name: "ab"}, {Name: "ac"}}}).SuggestColumns("ax"), "too many are equally near")
}

func BenchmarkLookup(b *testing.B) {
	c := connect(b)
	cache := NewCache(Options{})
	look(b, cache, "db", c)
	b.ReportAllocs()
	for b.Loop() {
		if cache.Lookup("db", public).Schema == nil {
			b.Fatal("gone")
		}
	}
}

func BenchmarkDigest(b *testing.B) {
	c := connect(b)
	exec(b, c, `DO $$ BEGIN FOR i IN 1..20 LOOP EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, a text, b text, c int, d jsonb, e timestamptz, f numeric, g boolean, h uuid, k int REFERENCES t%s)', i, greatest(1, i-1)); END LOOP; END $$`)
	literal := arrayLiteral([]string{"public"})
	for b.Loop() {
		if _, err := digest(b.Context(), c, literal); err != nil {
			b.Fatal(err)
		}
	}
}

func TestCalmTables(t *testing.T) {
	c := connect(t)
	exec(t, c, `CREATE TABLE other (id int PRIMARY KEY); CREATE SEQUENCE "a ""b"" (c";
CREATE TABLE usual (id bigint DEFAULT nextval('"a ""b"" (c"') PRIMARY KEY, "odd(" text DEFAULT 'it''s set_(x)' CHECK ("odd(" <> 'current_schema' AND length("odd(") < 10), n numeric(5,2) DEFAULT 1.5, v varchar(9) DEFAULT coalesce('a', lower('B')), u uuid DEFAULT gen_random_uuid());
CREATE UNIQUE INDEX ON usual (lower(v)) WHERE id > 0;
CREATE TABLE asking (id int, who text DEFAULT current_setting('request.jwt.claims', true));
CREATE TABLE checking (id int CHECK (id::text <> current_setting('request.method')));
CREATE TABLE indexed (id int, t text); CREATE INDEX ON indexed ((t || '(')) WHERE quote_ident(t) <> '';
CREATE TABLE looking (id int, t text CHECK (t::regclass IS NOT NULL));
CREATE TABLE generated (id int, t text GENERATED ALWAYS AS (repeat('x', id)) STORED);
CREATE TABLE calm (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text NOT NULL DEFAULT current_user CHECK (length(note) < 100), at timestamptz DEFAULT now(), k int UNIQUE REFERENCES other (id));
CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TABLE restless (id int DEFAULT mine())`)
	document, err := value(t.Context(), c, documentSQL, public.literal)
	require.NoError(t, err)
	s, err := Parse(document)
	require.NoError(t, err)
	require.True(t, s.Relation(Name{"public", "calm"}).Calm)
	require.True(t, s.Relation(Name{"public", "other"}).Calm)
	require.False(t, s.Relation(Name{"public", "restless"}).Calm)
	for name, blind := range map[string]bool{
		"other": true, "calm": true, "usual": true, "indexed": false, "asking": false, "checking": false, "looking": false,
		"generated": false, // perhaps, but nobody said so of repeat
		"restless":  false,
	} {
		require.Equal(t, blind, s.Relation(Name{"public", name}).Blind, name)
	}
}
