// Package shard is what may be done to a shard: admin connections, roles,
// databases made from hardened templates, the fence, PgBouncer's console and
// its file of routes. It knows nothing of tenants, placements or operations.
//
// Every function may be run again after a crash at any point and then
// finishes the job; none leaves a database open that was closed before.
//
// A connection from [Fleet.Admin] is a superuser's and inside a tenant's
// database the tenant's own code lies in wait: a cast, operator, view or
// trigger of the owner that a superuser's statement happens to call runs as
// superuser, and so does what is constant in an index's expression or a
// constraint when a statement on its table is planned. So these connections have
// an empty search_path; call nothing there but pg_catalog, and leave the
// tenant's tables alone: they are a [Mover]'s to read and write.
//
// Import law: of this module, shard imports shardmap, internal packages and controlplane/catalog only.
package shard

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// Errors a caller decides on.
var (
	// ErrInUse: a database of that name is open on the shard, so it is no leftover that may be replaced.
	ErrInUse = errors.New("database exists and is open")
	// ErrNoDatabase: PgBouncer has no entry of that name, and no wildcard.
	ErrNoDatabase = errors.New("pgbouncer does not know the database")
	// ErrNoRoutes: the shard's PgBouncer has no routes file that we can write.
	ErrNoRoutes = errors.New("shard has no routes file")
	// ErrUnfit: the server can't be a shard; the text says what to change.
	ErrUnfit = errors.New("server cannot be a shard")
)

// BouncerRole is the login that PgBouncer looks up tenants' verifiers with. It
// has the same password on every shard of a fleet: after a move the source's
// PgBouncer asks the target's Postgres with it.
const BouncerRole = "freehold_bouncer"

// Shards is what a Fleet needs of the catalog.
type Shards interface {
	GetShard(ctx context.Context, id shardmap.ShardID) (catalog.Shard, error)
}

// Fleet reaches the shards. It keeps no connection and is safe for concurrent use.
type Fleet struct {
	shards  Shards
	secrets secret.Store
	channel *pg.Channel
}

// New makes a Fleet of the catalog's shards and the secret store's logins. All
// of its links are secured as channel says; nil: not at all.
func New(shards Shards, secrets secret.Store, channel *pg.Channel) *Fleet {
	return &Fleet{shards: shards, secrets: secrets, channel: channel}
}

// Among is the same Fleet of other shards.
func (f *Fleet) Among(shards Shards) *Fleet { return New(shards, f.secrets, f.channel) }

// Shard reads the shard's row. Errors: catalog.ErrNotFound.
func (f *Fleet) Shard(ctx context.Context, id shardmap.ShardID) (catalog.Shard, error) {
	return f.shards.GetShard(ctx, id)
}

// Admin connects as the shard's superuser to a database. The caller closes it.
func (f *Fleet) Admin(ctx context.Context, id shardmap.ShardID, database string) (*pgx.Conn, error) {
	cfg, err := f.AdminConfig(ctx, id, database)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("shard %s: %w", id, err)
	}
	return conn, nil
}

// AdminConfig describes the connection that Admin makes, for callers that
// change it first: RuntimeParams["replication"] = "database" makes it a
// replication connection. It may be changed freely.
func (f *Fleet) AdminConfig(ctx context.Context, id shardmap.ShardID, database string) (*pgx.ConnConfig, error) {
	s, login, err := f.admin(ctx, id)
	if err != nil {
		return nil, err
	}
	return f.adminConfig(s, login, database)
}

func (f *Fleet) adminConfig(s catalog.Shard, login secret.Login, database string) (*pgx.ConnConfig, error) {
	cfg, err := f.channel.Config(s.PostgresHost, s.PostgresPort, database, login)
	if err != nil {
		return nil, fmt.Errorf("shard %s: %w", s.ID, err)
	}
	cfg.RuntimeParams["application_name"] = "freehold-admin"
	cfg.RuntimeParams["search_path"] = "" // see the package comment
	// A statement of ours that fails may hold a login's verifier; the server's
	// log is no place for it, and our error says what failed.
	cfg.RuntimeParams["log_min_error_statement"] = "panic"
	return cfg, nil
}

func (f *Fleet) admin(ctx context.Context, id shardmap.ShardID) (catalog.Shard, secret.Login, error) {
	s, err := f.shards.GetShard(ctx, id)
	if err != nil {
		return s, secret.Login{}, err
	}
	login, _, err := f.secrets.Get(ctx, secret.ShardAdmin(string(id)))
	if err != nil {
		return s, secret.Login{}, fmt.Errorf("shard %s: admin login: %w", id, err)
	}
	return s, login, nil
}

// AdminEnv is the libpq environment (PGHOST, PGPORT, PGUSER, PGPASSWORD,
// PGDATABASE …) for pg_dump and friends. It holds the password: hand it to
// exec.Cmd.Env, never log it.
func (f *Fleet) AdminEnv(ctx context.Context, id shardmap.ShardID, database string) ([]string, error) {
	s, login, err := f.admin(ctx, id)
	if err != nil {
		return nil, err
	}
	return append(f.channel.Env(),
		"PGHOST="+s.PostgresHost, "PGPORT="+strconv.Itoa(int(s.PostgresPort)), "PGDATABASE="+database,
		"PGUSER="+login.User, "PGPASSWORD="+login.Password,
		"PGAPPNAME=freehold-admin", "PGCONNECT_TIMEOUT=10", "PGPASSFILE=/nonexistent", "PGSYSCONFDIR=/nonexistent",
	), nil
}

// AdminConninfo is a libpq connection string for CREATE SUBSCRIPTION at the
// shard at, to a database of the shard of. It holds the password: send it in a
// statement that is not logged (quote it with pg.Literal). Errors: [ErrUnfit]:
// at was registered without what it needs to verify another server.
func (f *Fleet) AdminConninfo(ctx context.Context, at, of shardmap.ShardID, database string) (string, error) {
	subscriber, err := f.shards.GetShard(ctx, at)
	if err != nil {
		return "", err
	}
	s, login, err := f.admin(ctx, of)
	if err != nil {
		return "", err
	}
	security, err := f.channel.Conninfo(subscriber.PostgresTLSDir)
	if err != nil {
		return "", fmt.Errorf("shard %s: %w: %w", at, ErrUnfit, err)
	}
	var b strings.Builder
	for _, kv := range append([][2]string{
		{"host", s.PostgresHost}, {"port", strconv.Itoa(int(s.PostgresPort))}, {"dbname", database},
		{"user", login.User}, {"password", login.Password}, {"connect_timeout", "10"},
	}, security...) {
		fmt.Fprintf(&b, "%s='%s' ", kv[0], strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(kv[1]))
	}
	return strings.TrimSpace(b.String()), nil
}

// closeConn ends a connection within its own bound, whatever became of the caller's context.
func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeFor)
	defer cancel()
	_ = conn.Close(ctx) // the server notices either way
}
