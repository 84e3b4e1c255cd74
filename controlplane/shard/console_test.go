package shard_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pgtest"
)

func TestConsolePausesAndResumes(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	db := newName(t)
	login := f.Database(t, "a", db)
	c, err := f.Console(ctx, "a")
	require.NoError(t, err)
	defer c.Close()

	require.NoError(t, c.Kill(ctx, db), "no client ever came for it")
	require.NoError(t, c.Resume(ctx, db))
	require.NoError(t, c.Pause(ctx, db), "the wildcard makes an entry")
	fresh, err := c.Databases(ctx)
	require.NoError(t, err)
	require.True(t, fresh[db].Paused)
	require.NoError(t, c.Resume(ctx, db))
	require.Error(t, c.Pause(ctx, "x; SHUTDOWN"))

	client, err := bounced(ctx, f, "a", db, login)
	require.NoError(t, err)
	defer client.Close(ctx) //nolint:errcheck // ends with the test
	_, err = client.Exec(ctx, "SELECT 1")
	require.NoError(t, err)
	n, err := c.Clients(ctx, db)
	require.NoError(t, err)
	require.Equal(t, 1, n)

	require.NoError(t, c.Pause(ctx, db))
	require.NoError(t, c.Pause(ctx, db), "twice")
	entries, err := c.Databases(ctx)
	require.NoError(t, err)
	require.True(t, entries[db].Paused)
	require.NoError(t, c.Resume(ctx, db))
	require.NoError(t, c.Resume(ctx, db), "twice")
	_, err = client.Exec(ctx, "SELECT 1")
	require.NoError(t, err)

	// A transaction that doesn't end: the pause is given up from another connection.
	_, err = client.Exec(ctx, "BEGIN")
	require.NoError(t, err)
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, c.Pause(short, db), context.DeadlineExceeded)
	again, err := f.Console(ctx, "a")
	require.NoError(t, err)
	defer again.Close()
	require.NoError(t, again.Resume(ctx, db))
	_, err = client.Exec(ctx, "COMMIT")
	require.NoError(t, err)
	_, err = client.Exec(ctx, "SELECT 1")
	require.NoError(t, err)

	require.NoError(t, again.Kill(ctx, db))
	_, err = client.Exec(ctx, "SELECT 1")
	require.Error(t, err)
	require.NoError(t, again.Resume(ctx, db))
	v, err := again.Version(ctx)
	require.NoError(t, err)
	require.Contains(t, v, "PgBouncer")
}

// The whole of what a move does to PgBouncer: a client attached at the old
// place goes on at the new one, and never notices.
func TestAClientFollowsItsRoute(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a", "b")
	db := newName(t)
	login := f.Database(t, "a", db)
	src, dst := admin(t, f, "a", "postgres"), admin(t, f, "b", "postgres")
	t.Cleanup(func() { f.Drop(t, "b", db) })

	client, err := bounced(ctx, f, "a", db, login)
	require.NoError(t, err)
	defer client.Close(ctx) //nolint:errcheck // ends with the test
	port := func() (port int) {
		require.NoError(t, client.QueryRow(ctx, "SELECT inet_server_port()").Scan(&port))
		return port
	}

	require.NoError(t, shard.CreateTarget(ctx, src, dst, db))
	require.NoError(t, shard.CreateTarget(ctx, src, dst, db), "a leftover is replaced")
	r, err := f.Routes(ctx, "a")
	require.NoError(t, err)
	defer r.Close()
	require.NoError(t, r.Set(ctx, db, "a"))
	require.Equal(t, int(f.Rows["a"].PostgresPort), port())

	require.NoError(t, r.Console().Pause(ctx, db))
	require.NoError(t, shard.Fence(ctx, src, db))
	require.NoError(t, shard.Unfence(ctx, dst, db))
	require.NoError(t, r.Set(ctx, db, "b"))
	entries, err := r.Console().Databases(ctx)
	require.NoError(t, err)
	require.True(t, entries[db].Paused, "a pause outlasts the change of route")
	require.NoError(t, r.Console().Resume(ctx, db))

	require.Equal(t, int(f.Rows["b"].PostgresPort), port())
	// Those who come anew to the old place follow too, and those who come to the new one are let in.
	for _, id := range []string{"a", "b"} {
		c, err := bounced(ctx, f, shardID(id), db, login)
		require.NoError(t, err, id)
		_, err = c.Exec(ctx, "SELECT 1")
		require.NoError(t, err, id)
		require.NoError(t, c.Close(ctx))
	}
	require.ErrorIs(t, shard.CreateTarget(ctx, src, dst, db), shard.ErrInUse, "an open database is no leftover")

	require.NoError(t, f.DropRoute(ctx, "a", db))
	require.NoError(t, f.DropRoute(ctx, "a", db), "twice")
	_, err = client.Exec(ctx, "SELECT 1")
	require.Error(t, err, "clients still attached are closed")
}

func TestRoutesAreChangedByManyAtOnce(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a", "b")
	names := make([]string, 8)
	var wg sync.WaitGroup
	for i := range names {
		names[i] = newName(t)
		wg.Go(func() {
			for _, to := range []string{"b", "a"} {
				if err := f.SetRoute(ctx, "a", names[i], shardID(to)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	c, err := f.Console(ctx, "a")
	require.NoError(t, err)
	defer c.Close()
	entries, err := c.Databases(ctx)
	require.NoError(t, err)
	text, err := os.ReadFile(f.Rows["a"].RoutesFile)
	require.NoError(t, err)
	for _, n := range names {
		require.Equal(t, f.Rows["a"].PostgresPort, entries[n].Port)
		require.Contains(t, string(text), fmt.Sprintf("%s = host='127.0.0.1' port=%d auth_user=freehold_bouncer\n", n, f.Rows["a"].PostgresPort))
		require.NoError(t, f.DropRoute(ctx, "a", n))
	}
	without := f.Rows["a"]
	without.RoutesFile = ""
	g := shardtest.Rows{"a": without}
	_, err = f.Among(g).Routes(ctx, "a")
	require.ErrorIs(t, err, shard.ErrNoRoutes)
	require.NoError(t, f.Among(g).DropRoute(ctx, "a", names[0]))
}

// A replica that was stopped in the middle of a change, with the lock, keeps the
// others waiting for a bounded time, and changes nothing when it goes on.
func TestAStoppedReplicaLosesTheRoutes(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a", "b")
	stopped, err := f.Routes(ctx, "a")
	require.NoError(t, err)
	defer stopped.Close()
	require.NoError(t, stopped.Enter(ctx))
	db := newName(t)
	require.NoError(t, f.SetRoute(ctx, "a", db, "b"))
	require.Error(t, stopped.Drop(ctx, db))
	text, err := os.ReadFile(f.Rows["a"].RoutesFile)
	require.NoError(t, err)
	require.Contains(t, string(text), db)
}

// A database that is opened again serves at once, though PgBouncer was refused
// there a moment ago and nobody told it to forget that.
func TestARefusalIsSoonForgotten(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	db := newName(t)
	login := f.Database(t, "a", db)
	server := admin(t, f, "a", "postgres")
	best := time.Hour // of three: a busy machine may lose one
	for range 3 {
		client, err := bounced(ctx, f, "a", db, login)
		require.NoError(t, err)
		require.NoError(t, shard.Fence(ctx, server, db))
		short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		_, err = client.Exec(short, "SELECT 1")
		cancel()
		require.Error(t, err, "waits in vain")
		require.NoError(t, shard.Unfence(ctx, server, db))
		began := time.Now()
		pgtest.Eventually(t, "a client is served", func() bool {
			c, err := bounced(ctx, f, "a", db, login)
			if err != nil {
				return false
			}
			_, err = c.Exec(ctx, "SELECT 1")
			return errors.Join(err, c.Close(ctx)) == nil
		})
		best = min(best, time.Since(began))
	}
	require.Less(t, best, 10*time.Second, "PgBouncer's default is to remember it for 15 s")
}
