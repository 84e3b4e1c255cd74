package shard_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
)

func TestNextAdmin(t *testing.T) {
	for user, next := range map[string]string{"boss": "boss_b", "boss_b": "boss_a", "boss_a": "boss_b"} {
		require.Equal(t, next, shard.NextAdmin(user))
	}
}

// A subscription that logs in to a shard by its old admin login does so by the
// new one, and what is written arrives by it.
func TestRelink(t *testing.T) { // not in parallel: it hands the new login to the subscriptions of other tests as well
	ctx, f, db := bounded(t), shardtest.New(t, sample, "a", "b"), newName(t)
	f.Database(t, "a", db)
	src, dst := admin(t, f, "a", "postgres"), admin(t, f, "b", "postgres")
	require.NoError(t, shard.CreateTarget(ctx, src, dst, db))
	t.Cleanup(func() { f.Drop(t, "b", db) })
	home, old := admin(t, f, "a", db), admin(t, f, "b", db)
	exec := func(conn *pgx.Conn, sql string) {
		t.Helper()
		_, err := conn.Exec(ctx, sql)
		require.NoError(t, err)
	}
	for _, conn := range []*pgx.Conn{home, old} {
		exec(conn, "CREATE TABLE public.linked (id int PRIMARY KEY)")
	}
	link := "link_" + db
	exec(home, "CREATE PUBLICATION "+link+" FOR TABLE public.linked")
	exec(home, "SELECT pg_create_logical_replication_slot('"+link+"', 'pgoutput')")
	conninfo, err := f.AdminConninfo(ctx, "b", "a", db)
	require.NoError(t, err)
	lit, err := pg.Literal(conninfo)
	require.NoError(t, err)
	exec(old, "CREATE SUBSCRIPTION "+link+" CONNECTION "+lit+" PUBLICATION "+link+" WITH (create_slot = false, copy_data = false, slot_name = "+link+")")

	path := secret.ShardAdmin("a")
	was, version, err := f.Secrets.Get(ctx, path)
	require.NoError(t, err)
	next := secret.Login{User: shard.NextAdmin(was.User), Password: pg.NewPassword(), Generation: 2}
	release, err := shard.LockAdmin(ctx, src)
	require.NoError(t, err)
	defer release()
	require.NoError(t, shard.OpenAdmin(ctx, src, was.User, next))
	require.NoError(t, shard.OpenAdmin(ctx, src, was.User, next), "once more")
	_, err = f.Secrets.Put(ctx, path, next, version)
	require.NoError(t, err)
	for range 2 { // the second finds nothing left, perhaps somebody else's
		_, err = f.Relink(ctx, "b", "a", was.User)
		require.NoError(t, err)
	}
	var by string
	require.NoError(t, dst.QueryRow(ctx, "SELECT substring(subconninfo FROM 'user=''([^'']*)''') FROM pg_subscription WHERE subname = $1", link).Scan(&by))
	require.Equal(t, next.User, by)
	exec(home, "INSERT INTO public.linked VALUES (1)")
	pgtest.Eventually(t, "the row arrives", func() (there bool) {
		require.NoError(t, old.QueryRow(ctx, "SELECT EXISTS (SELECT FROM public.linked)").Scan(&there))
		return there
	})
	pgtest.Eventually(t, "the slot is in use by the new login", func() (there bool) {
		require.NoError(t, src.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_replication_slots s JOIN pg_stat_activity a ON a.pid = s.active_pid
			WHERE s.slot_name = $1 AND a.usename = $2)`, link, next.User).Scan(&there))
		return there
	})
	conn, err := f.AdminAs(ctx, "a", next)
	require.NoError(t, err)
	var as string
	require.NoError(t, conn.QueryRow(ctx, "SELECT current_user").Scan(&as))
	require.Equal(t, was.User, as, "what it makes has the owner of all that was made before")
	closed, err := shard.CloseAdmin(ctx, conn, was.User)
	require.NoError(t, err)
	require.False(t, closed, "the bootstrap superuser is the deployment's")
	require.NoError(t, conn.Close(ctx))
	require.NoError(t, shard.DropDatabaseAndRoles(ctx, dst, db), "the subscription goes while its slot is there")
}
