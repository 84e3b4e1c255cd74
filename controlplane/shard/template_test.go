package shard_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/schemachange"
)

func TestTemplatesFollowTheMigrations(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, "", "templates")
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	tables := func() []string {
		conn := admin(t, f, "templates", shard.TemplateApp)
		var names []string
		require.NoError(t, conn.QueryRow(ctx, "SELECT coalesce(array_agg(tablename::text ORDER BY tablename), '{}') FROM pg_tables WHERE schemaname = 'public'").Scan(&names))
		require.NoError(t, conn.Close(ctx))
		return names
	}
	require.Empty(t, tables())

	write("00001_a.sql", "-- +goose Up\nCREATE TABLE a (id int PRIMARY KEY);\n")
	s, err := f.EnsureTemplates(ctx, "templates", dir)
	require.NoError(t, err)
	require.Equal(t, int64(1), s.Version)
	require.Equal(t, []string{"a"}, tables())

	// A migration that fails leaves the template as it was, and one as superuser fails.
	write("00002_b.sql", "-- +goose Up\nCREATE ROLE intruder SUPERUSER;\n")
	_, err = f.EnsureTemplates(ctx, "templates", dir)
	require.ErrorContains(t, err, "00002_b.sql")
	require.Equal(t, "42501", pg.Code(err))
	require.Equal(t, []string{"a"}, tables())

	write("00002_b.sql", "-- +goose Up\nCREATE TABLE b (id int PRIMARY KEY);\n")
	s, err = f.EnsureTemplates(ctx, "templates", dir)
	require.NoError(t, err)
	require.Equal(t, int64(2), s.Version)
	require.Equal(t, []string{"a", "b"}, tables())

	// What tenants have as version 2 stays version 2: a change is a new migration.
	write("00002_b.sql", "-- +goose Up\nCREATE TABLE b (id int PRIMARY KEY, more text);\n")
	_, err = f.EnsureTemplates(ctx, "templates", dir)
	require.ErrorIs(t, err, shard.ErrSchemaChanged)
	require.ErrorContains(t, err, "version 2")
	require.Equal(t, []string{"a", "b"}, tables())
	write("00002_b.sql", "-- +goose Up\nCREATE TABLE b (id int PRIMARY KEY);\n")
	write("00003_c.sql", "-- +goose Up\nALTER TABLE b ADD more text;\n")
	_, err = f.EnsureTemplates(ctx, "templates", dir)
	require.NoError(t, err)

	write("nonsense.sql", "-- +goose Up\nSELECT 1;\n")
	_, err = f.EnsureTemplates(ctx, "templates", dir)
	require.ErrorContains(t, err, "nonsense.sql")
}

// Creations and rebuilds by several replicas at once get in nobody's way.
func TestTemplatesAreRebuiltWhileCreationsRun(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, "", "templates")
	dirs := []string{t.TempDir(), t.TempDir()}
	for i, dir := range dirs {
		text := "-- +goose Up\nCREATE TABLE v" + string(rune('0'+i)) + " (id int PRIMARY KEY);\n"
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("0000%d_v.sql", i+1)), []byte(text), 0o600))
	}
	var wg sync.WaitGroup
	for replica := range 2 {
		wg.Go(func() {
			for i := range 3 {
				if _, err := f.EnsureTemplates(ctx, "templates", dirs[(i+replica)%2]); err != nil {
					t.Errorf("replica %d: %v", replica, err)
				}
			}
		})
		wg.Go(func() {
			for range 3 {
				f.Database(t, "templates", newName(t))
			}
		})
	}
	wg.Wait()
}

// A node that has read the schema of one database knows that of all others which
// the same template was copied for, and in which nothing was changed since.
func TestDatabasesOfATemplateHaveOneMark(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	noted := func(database, first string) (stamp int64, mark []byte) {
		conn := admin(t, f, "a", database)
		_, err := conn.Exec(ctx, first)
		require.NoError(t, err)
		require.NoError(t, conn.QueryRow(ctx, schemachange.StampAndMark).Scan(&stamp, &mark))
		return stamp, mark
	}
	one, other := newName(t), newName(t)
	f.Database(t, "a", one)
	f.Database(t, "a", other)
	stamp, mark := noted(one, "")
	otherStamp, otherMark := noted(other, "")
	require.NotEmpty(t, mark)
	require.Equal(t, mark, otherMark)
	require.Equal(t, stamp, otherStamp)
	_, otherMark = noted(other, "ALTER TABLE public.members ADD extra int")
	require.NotEqual(t, mark, otherMark)
}
