// Package shardtest gives tests a fleet of real shards, prepared and with
// templates of the sample application. The test binary's TestMain must call
// pgtest.Main.
package shardtest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// Fleet is a shard.Fleet over shards of the test, without a catalog.
type Fleet struct {
	*shard.Fleet
	Secrets secret.Store
	// Channel opens links to the shards; nil: in plain text.
	Channel *pg.Channel
	Rows    Rows
}

// Rows stands in for the catalog's table of shards.
type Rows map[shardmap.ShardID]catalog.Shard

// GetShard implements shard.Shards.
func (r Rows) GetShard(_ context.Context, id shardmap.ShardID) (catalog.Shard, error) {
	s, ok := r[id]
	if !ok {
		return s, fmt.Errorf("shard %s: %w", id, catalog.ErrNotFound)
	}
	return s, nil
}

// Row describes a test shard as the catalog would.
func Row(id shardmap.ShardID, s *pgtest.ShardServer) catalog.Shard {
	return catalog.Shard{ID: id, State: catalog.ShardActive, PostgresHost: s.Host(), PostgresPort: s.PGPort(),
		BouncerHost: s.Host(), BouncerPort: s.BouncerPort(), RoutesFile: s.RoutesFile(), PostgresTLSDir: s.Postgres.TLSDir()}
}

// Newer is the shard that runs the newest Postgres there is; all others run the machine's.
const Newer shardmap.ShardID = "newer"

// Server is the test binary's shared server that stands for the shard of this
// name. The test is skipped if it is [Newer]'s and that can't be had.
func Server(t testing.TB, id shardmap.ShardID) *pgtest.ShardServer {
	t.Helper()
	if id == Newer {
		return pgtest.SharedNewestShard(t, string(id))
	}
	return pgtest.SharedShard(t, string(id))
}

// SecureServer is the shared server of this name that speaks TLS only, whatever pgtest.EnvTLS says.
func SecureServer(t testing.TB, id shardmap.ShardID) *pgtest.ShardServer {
	t.Helper()
	return pgtest.SharedSecureShard(t, "secure-"+string(id))
}

var mu sync.Mutex // preparing a shared shard, by tests in parallel

// New returns a fleet of the test binary's shared shards of these names,
// prepared, with templates made from the migrations in dir.
func New(t testing.TB, dir string, ids ...shardmap.ShardID) *Fleet {
	t.Helper()
	return newFleet(t, dir, Server, ids)
}

// NewSecure is [New] of shards that speak TLS only.
func NewSecure(t testing.TB, dir string, ids ...shardmap.ShardID) *Fleet {
	t.Helper()
	return newFleet(t, dir, SecureServer, ids)
}

func newFleet(t testing.TB, dir string, serverOf func(testing.TB, shardmap.ShardID) *pgtest.ShardServer, ids []shardmap.ShardID) *Fleet {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	secrets, err := secret.OpenDir(t.TempDir())
	require.NoError(t, err)
	f := &Fleet{Secrets: secrets, Rows: Rows{}}
	for _, id := range ids {
		server := serverOf(t, id)
		if f.Fleet == nil {
			f.Channel = server.Channel
			f.Fleet = shard.New(f.Rows, secrets, f.Channel)
		}
		f.Rows[id] = Row(id, server)
		_, err = secrets.Put(ctx, secret.ShardAdmin(string(id)), server.Admin, 0)
		require.NoError(t, err)
		_, err = secrets.Put(ctx, secret.ShardBouncer(string(id)), server.Console, 0)
		require.NoError(t, err)
		require.NoError(t, f.PrepareShard(ctx, id))
		_, err = f.EnsureTemplates(ctx, id, dir)
		require.NoError(t, err)
	}
	return f
}

// Database makes a tenant database as provisioning does, open, and returns its
// login for REST, which the others follow from (tenantdb.Login.From). It is dropped when the test ends.
func (f *Fleet) Database(t testing.TB, on shardmap.ShardID, database string) secret.Login {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	login := secret.Login{User: shard.AuthLogin(database), Password: pg.NewPassword(), Generation: 1}
	conn, err := f.Admin(ctx, on, "postgres")
	require.NoError(t, err)
	defer conn.Close(ctx) //nolint:errcheck // nothing is lost with it
	limits := shard.Limits{Connections: 40, StatementTimeout: 30 * time.Second, IdleInTx: 30 * time.Second, TempFilesMB: 16}
	require.NoError(t, shard.CreateRoles(ctx, conn, database, login, limits))
	require.NoError(t, f.CreateDatabase(ctx, on, database, shard.TemplateApp, limits))
	require.NoError(t, shard.Unfence(ctx, conn, database))
	_, err = f.Secrets.Put(ctx, secret.DatabaseAuth(database), login, 0)
	require.NoError(t, err)
	t.Cleanup(func() { f.Drop(t, on, database) })
	return login
}

// Drop removes a database and its roles from a shard.
func (f *Fleet) Drop(t testing.TB, on shardmap.ShardID, database string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	conn, err := f.Admin(ctx, on, "postgres")
	require.NoError(t, err)
	defer conn.Close(ctx) //nolint:errcheck // nothing is lost with it
	require.NoError(t, shard.DropDatabaseAndRoles(ctx, conn, database))
}
