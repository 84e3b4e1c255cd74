package schema

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/schemachange"
)

// noted is a database like one made from a template: sql was noted there as changes with these stamps.
func noted(t testing.TB, sql string, stamps ...int) *pgconn.PgConn {
	t.Helper()
	c := connect(t)
	exec(t, c, "CREATE SCHEMA freehold;"+schemachange.SQL+";"+sql+"; TRUNCATE freehold.schema_change")
	for i, stamp := range stamps {
		exec(t, c, "INSERT INTO freehold.schema_change VALUES ('"+strconv.Itoa(i+1)+"', "+strconv.Itoa(stamp)+")")
	}
	return c
}

const (
	one = "CREATE TABLE t (id int PRIMARY KEY)"
	two = "CREATE TABLE t (id int PRIMARY KEY, name text)"
)

// extra tells whether what is known of a database has the column added to t, too.
func extra(t testing.TB, cache *Cache, database string) bool {
	t.Helper()
	known := cache.Lookup(database, public)
	require.NotNil(t, known.Schema)
	return known.Relation(Name{"public", "t"}).Column("extra") != nil
}

func TestDatabasesWithOneMarkShareASchema(t *testing.T) {
	first, second := noted(t, one, 3, 42), noted(t, one, 3, 42)
	cache := NewCache(Options{})
	look(t, cache, "first", first)
	look(t, cache, "second", second)
	require.Same(t, cache.Lookup("first", public).Schema, cache.Lookup("second", public).Schema)
	require.Equal(t, "41", string(cache.Lookup("second", public).Stamp))
	got := cache.Stats()
	require.Equal(t, []uint64{1, 1, 1}, []uint64{got.Digests, got.Documents, got.Shared}, "read once")

	_, err := cache.Refresh(t.Context(), "second", Expose([]string{"freehold"}), second)
	require.NoError(t, err)
	require.EqualValues(t, 2, cache.Stats().Documents, "what else is exposed was not read by that")

	exec(t, second, "ALTER TABLE t ADD extra int")
	cache.Doubt("second", public)
	look(t, cache, "second", second)
	look(t, cache, "third", first)
	require.True(t, extra(t, cache, "second"))
	require.False(t, extra(t, cache, "third"), "nobody else's schema is another one")
	require.EqualValues(t, 2, cache.Stats().Shared)
}

// Whoever may change his schema can pick changes whose stamps add up to nothing.
func TestNoMarkFollowsFromTheStamp(t *testing.T) {
	first, forged := noted(t, one, 42), noted(t, two, 42, 7, 7)
	cache := NewCache(Options{})
	look(t, cache, "forged", forged)
	look(t, cache, "first", first)
	require.Equal(t, cache.Lookup("forged", public).Stamp, cache.Lookup("first", public).Stamp)
	require.NotSame(t, cache.Lookup("forged", public).Schema, cache.Lookup("first", public).Schema)
	require.Zero(t, cache.Stats().Shared)
}

func TestNothingNotedIsNoMark(t *testing.T) {
	cache := NewCache(Options{})
	look(t, cache, "first", noted(t, one))
	look(t, cache, "second", noted(t, two))
	require.NotSame(t, cache.Lookup("first", public).Schema, cache.Lookup("second", public).Schema)
	require.NotNil(t, cache.Lookup("second", public).Stamp)
}

// A refusal under a schema that was found by the mark is believed only when the database's own says the same.
func TestDoubtOfASharedSchemaReadsTheDatabasesOwn(t *testing.T) {
	first, second := noted(t, one, 42), noted(t, one, 42)
	exec(t, second, "BEGIN; "+schemachange.Unnoted+"; ALTER TABLE t ADD extra int; COMMIT")
	cache := NewCache(Options{})
	look(t, cache, "first", first)
	look(t, cache, "second", second)
	require.False(t, extra(t, cache, "second"))
	cache.Doubt("second", public)
	look(t, cache, "second", second)
	require.True(t, extra(t, cache, "second"))
	require.False(t, extra(t, cache, "first"))
	look(t, cache, "third", noted(t, one, 42))
	require.False(t, extra(t, cache, "third"), "what was doubted stands for nobody else")
	digests := cache.Stats().Digests
	cache.Doubt("second", public)
	look(t, cache, "second", second)
	require.Equal(t, digests, cache.Stats().Digests, "its own by now: the stamp tells")
}

// A schema that was thrown out is read once more, not by each who went by its mark.
func TestWhatWasThrownOutIsReadOnceMore(t *testing.T) {
	cache := NewCache(Options{Bytes: 1})
	cache.reading.patience = time.Hour
	conns := make([]*pgconn.PgConn, 4)
	for i := range conns {
		conns[i] = noted(t, one, 42)
		look(t, cache, strconv.Itoa(i), conns[i])
	}
	look(t, cache, "other", noted(t, two, 43))
	require.Nil(t, cache.Lookup("1", public).Schema)
	digests := cache.Stats().Digests
	var all sync.WaitGroup
	for i, conn := range conns[1:] { // the first one's was its own
		all.Go(func() {
			if _, err := cache.Refresh(t.Context(), strconv.Itoa(i+1), public, conn); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.Equal(t, digests+1, cache.Stats().Digests)
}

// Once two databases with one mark are found to differ, nobody goes by it, not
// even who did before.
func TestADisputedMarkSaysNothing(t *testing.T) {
	first, second, third := noted(t, one, 42), noted(t, one, 42), noted(t, one, 42)
	exec(t, first, "BEGIN; "+schemachange.Unnoted+"; ALTER TABLE t ADD extra int; COMMIT")
	cache := NewCache(Options{})
	look(t, cache, "first", first)
	look(t, cache, "second", second)
	look(t, cache, "third", third)
	require.True(t, extra(t, cache, "third"))
	cache.Doubt("second", public)
	look(t, cache, "second", second)
	require.False(t, extra(t, cache, "second"))
	require.Nil(t, cache.Lookup("third", public).Schema)
	look(t, cache, "third", third)
	look(t, cache, "fourth", third)
	require.False(t, extra(t, cache, "third"))
	require.False(t, extra(t, cache, "fourth"))
	require.True(t, extra(t, cache, "first"))
}

// What was read while the schema changed is not taken for that of the mark before.
func TestChangeDuringARead(t *testing.T) {
	c := noted(t, one, 42)
	stamp, before, err := stampAndMark(t.Context(), c)
	require.NoError(t, err)
	exec(t, c, "ALTER TABLE t ADD extra int")
	cache := NewCache(Options{})
	_, schema, err := cache.lookBy(t.Context(), &seen{stamp: stamp}, markKey{before, public.key}, public, c)
	require.NoError(t, err)
	require.NotNil(t, schema.Relation(Name{"public", "t"}).Column("extra"))
	require.Zero(t, cache.marks.Len())
}

// A node that has just started and is asked for hundreds of tenants at once, on
// three versions of the schema, reads three schemas.
func TestManyTenantsAtOnceReadEachVersionOnce(t *testing.T) {
	const tenants, versions, each = 600, 3, 2
	cache := NewCache(Options{})
	cache.reading.patience, cache.loading.patience = time.Hour, time.Hour
	var conns [versions][]*pgconn.PgConn
	for v := range versions {
		for range each {
			conns[v] = append(conns[v], noted(t, one+"; CREATE TABLE v"+strconv.Itoa(v)+" (id int)", 100+v))
		}
	}
	var all sync.WaitGroup
	for v := range versions {
		for i, conn := range conns[v] {
			all.Go(func() {
				for n := range tenants / versions / each {
					known, err := cache.Refresh(t.Context(), "t"+strconv.Itoa(v)+"_"+strconv.Itoa(i)+"_"+strconv.Itoa(n), public, conn)
					if err != nil || known.Relation(Name{"public", "v" + strconv.Itoa(v)}) == nil {
						t.Errorf("version %d: %v", v, err)
					}
				}
			})
		}
	}
	all.Wait()
	got := cache.Stats()
	require.Equal(t, versions, got.Schemas)
	require.EqualValues(t, versions, got.Digests)
	require.EqualValues(t, versions, got.Documents)
	require.Equal(t, tenants/versions/each*each*versions, got.Databases)
	require.EqualValues(t, got.Databases-versions, got.Shared)
	require.Empty(t, cache.reading.busy)
	require.Empty(t, cache.loading.busy)
}
