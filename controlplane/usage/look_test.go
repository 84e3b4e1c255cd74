package usage

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgserver"
	"github.com/freehold-db/freehold/shardmap"
)

// counting counts the statements sent on its sessions, and says where they went.
type counting struct {
	*shardtest.Fleet
	statements int
	databases  map[string]bool
}

// TraceQueryStart implements pgx.QueryTracer.
func (c *counting) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.statements++
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (c *counting) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// Session implements Shards.
func (c *counting) Session(ctx context.Context, on shardmap.ShardID, database, application string) (*pgx.Conn, error) {
	conn, err := c.Fleet.Session(ctx, on, database, application)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx) //nolint:errcheck // another is made like it
	cfg := conn.Config()
	cfg.Tracer = c
	c.databases[cfg.Database] = true
	return pgx.ConnectConfig(ctx, cfg)
}

// A look is the same few statements however many databases the shard has, and
// there is no connection to any of them.
func TestALookIsAFewStatements(t *testing.T) {
	t.Parallel()
	fleet := &counting{Fleet: shardtest.New(t, "", "s1"), databases: map[string]bool{}}
	w := New(nil, fleet, nil, Options{}).newWatch("s1")
	defer w.disconnect()
	look := func() int {
		before := fleet.statements
		require.NoError(t, w.look(t.Context()))
		return fleet.statements - before
	}
	look() // connects
	require.LessOrEqual(t, look(), 4)
	had := len(w.state.databases)
	for i := range 12 {
		fleet.Database(t, "s1", fmt.Sprintf("t_%016x", 0xfee70+i))
	}
	require.LessOrEqual(t, look(), 4)
	require.GreaterOrEqual(t, len(w.state.databases), had+12)
	require.Equal(t, map[string]bool{"postgres": true}, fleet.databases)
}

// alone is a server of the test's own, which is no shard but looks like one from here.
type alone struct{ *pgserver.Postgres }

// Session implements Shards.
func (a alone) Session(ctx context.Context, _ shardmap.ShardID, database, _ string) (*pgx.Conn, error) {
	return pgx.Connect(ctx, a.DSN(database))
}

// Where pg_stat_statements is at hand, a database's log is what its statements
// wrote, not what rows they wrote.
func TestStatementsTellWhoseTheLogIs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server, err := pgserver.New(pgserver.Config{Dir: t.TempDir(), Password: pg.NewPassword(), FastUnsafe: true, DieWithParent: true,
		Settings: map[string]string{"shared_preload_libraries": "pg_stat_statements", "max_connections": "20"}})
	require.NoError(t, err)
	require.NoError(t, server.Init(ctx))
	require.NoError(t, server.Start(ctx))
	t.Cleanup(func() { require.NoError(t, server.Stop(context.Background())) })
	exec := func(database, sql string) {
		conn, err := pgx.Connect(ctx, server.DSN(database))
		require.NoError(t, err)
		defer conn.Close(ctx) //nolint:errcheck // nothing is lost with it
		_, err = conn.Exec(ctx, sql)
		require.NoError(t, err)
		_, err = conn.Exec(ctx, "SELECT pg_stat_force_next_flush()") // else the server may know of it a moment later
		require.NoError(t, err)
	}
	for _, name := range []string{"fat", "thin"} {
		exec("postgres", "CREATE DATABASE "+name)
		exec(name, "CREATE TABLE t (v text); ALTER TABLE t ALTER v SET STORAGE EXTERNAL")
	}
	w := New(nil, alone{server}, nil, Options{}).newWatch("s1")
	defer w.disconnect()
	work := func() {
		exec("fat", "INSERT INTO t SELECT repeat('x', 10000) FROM generate_series(1, 100)")
		exec("thin", "INSERT INTO t SELECT '' FROM generate_series(1, 2000)")
	}
	look := func() (fat, thin float64) {
		work()
		require.NoError(t, w.look(ctx))
		return w.state.databases["fat"].now.WAL, w.state.databases["thin"].now.WAL
	}
	look()
	fat, thin := look()
	require.Greater(t, thin, fat, "without it, as rows are written")

	exec("postgres", "CREATE SCHEMA \"Odd name\"; CREATE EXTENSION pg_stat_statements SCHEMA \"Odd name\"")
	w = New(nil, alone{server}, nil, Options{}).newWatch("s1")
	defer w.disconnect()
	look()
	require.Equal(t, "Odd name", w.statements)
	look() // from here on it is known that nothing was dropped
	w.state.databases["fat"].average, w.state.databases["thin"].average = average{}, average{}
	fat, thin = look()
	require.Greater(t, fat, 2*thin)
	require.NotNil(t, w.state.last.logged)

	exec("postgres", "DROP EXTENSION pg_stat_statements")
	look()
	require.Nil(t, w.state.last.logged)
	require.Empty(t, w.statements)
	look()
}

// hung is a shard that takes a connection and never answers.
type hung struct{}

// Session implements Shards.
func (hung) Session(ctx context.Context, _ shardmap.ShardID, _, _ string) (*pgx.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestALookAtAShardThatHangsEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		require.ErrorIs(t, New(nil, hung{}, nil, Options{}).newWatch("s1").look(t.Context()), context.DeadlineExceeded)
		require.Equal(t, defaultLook, time.Since(begun))
	})
}

// What a look costs at a server of 100 databases, and what reading one size does.
func BenchmarkLook100(b *testing.B) {
	ctx := b.Context()
	server, err := pgserver.New(pgserver.Config{Dir: b.TempDir(), Password: pg.NewPassword(), FastUnsafe: true, DieWithParent: true})
	require.NoError(b, err)
	require.NoError(b, server.Init(ctx))
	require.NoError(b, server.Start(ctx))
	b.Cleanup(func() { require.NoError(b, server.Stop(context.Background())) })
	conn, err := pgx.Connect(ctx, server.DSN("postgres"))
	require.NoError(b, err)
	defer conn.Close(context.Background()) //nolint:errcheck // nothing is lost with it
	for i := range 100 {
		_, err := conn.Exec(ctx, fmt.Sprintf("CREATE DATABASE d%d STRATEGY file_copy", i))
		require.NoError(b, err)
	}
	w := New(nil, alone{server}, nil, Options{}).newWatch("s1")
	defer w.disconnect()
	b.Run("look", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, w.look(ctx))
		}
	})
	b.Run("databases", func(b *testing.B) {
		for b.Loop() {
			_, err := conn.Exec(ctx, databasesSQL)
			require.NoError(b, err)
		}
	})
	b.Run("sizes", func(b *testing.B) {
		for b.Loop() {
			sizes, err := readSizes(ctx, conn, w.oids())
			require.NoError(b, err)
			require.GreaterOrEqual(b, len(sizes), 100)
		}
	})
}

func (w *watch) oids() (oids []uint32) {
	for _, d := range w.state.databases {
		oids = append(oids, d.oid)
	}
	return oids
}
