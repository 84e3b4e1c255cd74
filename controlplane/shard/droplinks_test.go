package shard_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

// Databases tied by a slot in use and a subscription, as those of a tenant that
// can be taken back, are dropped in either order, and nothing of the link stays.
func TestLinkedDatabasesAreDropped(t *testing.T) {
	t.Parallel()
	for name, order := range map[string][]shardmap.ShardID{"home first": {"a", "b"}, "old place first": {"b", "a"}} {
		t.Run(name, func(t *testing.T) {
			ctx, f, db := bounded(t), shardtest.New(t, sample, "a", "b"), newName(t)
			f.Database(t, "a", db)
			require.NoError(t, shard.CreateTarget(ctx, admin(t, f, "a", "postgres"), admin(t, f, "b", "postgres"), db))
			link := "link_" + db
			home, old := admin(t, f, "a", db), admin(t, f, "b", db)
			exec := func(conn *pgx.Conn, sql string) {
				_, err := conn.Exec(ctx, sql)
				require.NoError(t, err)
			}
			exec(home, "CREATE TABLE public.linked (id int PRIMARY KEY)")
			exec(old, "CREATE TABLE public.linked (id int PRIMARY KEY)")
			exec(home, "CREATE PUBLICATION "+link+" FOR TABLE public.linked")
			exec(home, "SELECT pg_create_logical_replication_slot('"+link+"', 'pgoutput')")
			conninfo, err := f.AdminConninfo(ctx, "a", "a", db)
			require.NoError(t, err)
			secret, err := pg.Literal(conninfo)
			require.NoError(t, err)
			exec(old, "CREATE SUBSCRIPTION "+link+" CONNECTION "+secret+" PUBLICATION "+link+" WITH (create_slot = false, copy_data = false, slot_name = "+link+")")
			server := admin(t, f, "a", "postgres")
			pgtest.Eventually(t, "the slot is in use", func() (active bool) {
				require.NoError(t, server.QueryRow(ctx, "SELECT active FROM pg_replication_slots WHERE slot_name = $1", link).Scan(&active))
				return active
			})
			for _, on := range order {
				require.NoError(t, shard.DropDatabaseAndRoles(ctx, admin(t, f, on, "postgres"), db), "on %s", on)
			}
			var slots int
			require.NoError(t, server.QueryRow(ctx, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1", link).Scan(&slots))
			require.Zero(t, slots)
			var subscriptions int
			require.NoError(t, admin(t, f, "b", "postgres").QueryRow(context.WithoutCancel(ctx), "SELECT count(*) FROM pg_subscription WHERE subname = $1", link).Scan(&subscriptions))
			require.Zero(t, subscriptions)
		})
	}
}
