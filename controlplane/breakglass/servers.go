package breakglass

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// AtShards does at the real servers what [Servers] says.
func AtShards(f *shard.Fleet) Servers { return fleet{f} }

type fleet struct{ *shard.Fleet }

const closeFor = 5 * time.Second

// at runs fn on an admin connection to a server.
func (f fleet) at(ctx context.Context, on shardmap.ShardID, fn func(conn *pgx.Conn) error) error {
	conn, err := f.Admin(ctx, on, "postgres")
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeFor)
		defer cancel()
		_ = conn.Close(ctx) // nothing is lost with it
	}()
	return fn(conn)
}

func (f fleet) Make(ctx context.Context, on shardmap.ShardID, database, user string, as shard.Access, ttl time.Duration) (login secret.Login, until time.Time, err error) {
	err = f.at(ctx, on, func(conn *pgx.Conn) error {
		login, until, err = shard.TempLoginAs(ctx, conn, database, user, as, ttl)
		return err
	})
	return login, until, err
}

func (f fleet) Drop(ctx context.Context, on shardmap.ShardID, database, user string) error {
	return f.at(ctx, on, func(conn *pgx.Conn) error { return shard.EndTempLogin(ctx, conn, database, user) })
}

func (f fleet) Sessions(ctx context.Context, on shardmap.ShardID) (sessions []shard.TempSession, err error) {
	err = f.at(ctx, on, func(conn *pgx.Conn) error {
		sessions, err = shard.TempSessions(ctx, conn)
		return err
	})
	return sessions, err
}
