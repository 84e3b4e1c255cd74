package shard_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const sample = "../../deploy/sample"

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func newName(t testing.TB) string {
	t.Helper()
	var b [8]byte
	_, err := rand.Read(b[:])
	require.NoError(t, err)
	return "t_" + hex.EncodeToString(b[:])
}

func admin(t testing.TB, f *shardtest.Fleet, id shardmap.ShardID, database string) *pgx.Conn {
	t.Helper()
	conn, err := f.Admin(bounded(t), id, database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// direct connects to the shard's Postgres, bounced through its PgBouncer.
func direct(ctx context.Context, f *shardtest.Fleet, id shardmap.ShardID, database string, login secret.Login) (*pgx.Conn, error) {
	return f.Channel.Connect(ctx, f.Rows[id].PostgresHost, f.Rows[id].PostgresPort, database, login)
}

func bounced(ctx context.Context, f *shardtest.Fleet, id shardmap.ShardID, database string, login secret.Login) (*pgx.Conn, error) {
	return f.Channel.Connect(ctx, f.Rows[id].BouncerHost, f.Rows[id].BouncerPort, database, login)
}
