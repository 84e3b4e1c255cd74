package shard

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
)

// Check tells whether a server that need not be in the catalog yet can be the
// shard s: reachable both ways with these logins, a superuser, recent enough,
// with logical replication and room for it. It changes nothing. It returns
// which shard the server is already (empty: none).
// Errors: [ErrUnfit], all findings in one text.
func (f *Fleet) Check(ctx context.Context, s catalog.Shard, admin, console secret.Login) (is shardmap.ShardID, err error) {
	if !validHost(s.PostgresHost) || !validHost(s.BouncerHost) {
		return "", fmt.Errorf("%w: a host name, an address or a socket directory is needed for both Postgres and PgBouncer", ErrUnfit)
	}
	cfg, err := f.adminConfig(s, admin, maintenance)
	if err != nil {
		return "", err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return "", fmt.Errorf("%w: postgres can't be reached as %s: %w", ErrUnfit, admin.User, err)
	}
	defer closeConn(ctx, conn)
	findings, err := examine(ctx, conn)
	if err != nil {
		return "", err
	}
	c, err := f.openConsole(ctx, s, console)
	if err != nil {
		findings = append(findings, fmt.Errorf("the console of pgbouncer can't be reached as %s: %w", console.User, err))
	} else {
		defer c.Close()
		if _, err := c.Version(ctx); err != nil {
			findings = append(findings, err)
		}
	}
	findings = append(findings, f.lacksTLS(ctx, conn, s)...)
	if s.RoutesFile != "" {
		if entries, err := readRoutes(s.RoutesFile); err != nil {
			findings = append(findings, fmt.Errorf("routes file: %w", err))
		} else if err := writeRoutes(s.RoutesFile, entries); err != nil {
			findings = append(findings, fmt.Errorf("routes file: %w", err))
		}
	}
	if len(findings) > 0 {
		return "", fmt.Errorf("%w: %w", ErrUnfit, errors.Join(findings...))
	}
	return markOf(ctx, conn)
}

func examine(ctx context.Context, conn *pgx.Conn) (findings []error, err error) {
	var (
		super               bool
		version             int
		walLevel            string
		slots, used, sender int
		workers             int
		recovering          bool
	)
	err = conn.QueryRow(ctx, `
		SELECT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user),
		  current_setting('server_version_num')::int, current_setting('wal_level'),
		  current_setting('max_replication_slots')::int, (SELECT count(*) FROM pg_catalog.pg_replication_slots),
		  current_setting('max_wal_senders')::int, current_setting('max_logical_replication_workers')::int,
		  pg_catalog.pg_is_in_recovery()`).
		Scan(&super, &version, &walLevel, &slots, &used, &sender, &workers, &recovering)
	if err != nil {
		return nil, fmt.Errorf("examine the server: %w", err)
	}
	want := func(ok bool, format string, args ...any) {
		if !ok {
			findings = append(findings, fmt.Errorf(format, args...))
		}
	}
	want(super, "the admin login is no superuser: ALTER ROLE … SUPERUSER")
	want(version >= 150000, "postgres is older than 15 (server_version_num %d)", version)
	want(walLevel == "logical", "wal_level is %s: set it to logical and restart", walLevel)
	want(slots-used >= 2, "%d of %d replication slots are free, 2 are needed: raise max_replication_slots", slots-used, slots)
	want(sender >= 2, "max_wal_senders is %d, 2 are needed", sender)
	want(workers >= 2, "max_logical_replication_workers is %d, 2 are needed", workers)
	want(!recovering, "the server is a standby")
	return findings, nil
}

// lacksTLS tells what the server needs to connect to other shards' by itself.
func (f *Fleet) lacksTLS(ctx context.Context, conn *pgx.Conn, s catalog.Shard) []error {
	if _, err := f.channel.Conninfo(s.PostgresTLSDir); err != nil {
		return []error{fmt.Errorf("%w: say where they are (postgres_tls_dir)", err)}
	}
	if s.PostgresTLSDir == "" || !f.channel.On() {
		return nil
	}
	file := path.Join(s.PostgresTLSDir, pg.ServerCAFile)
	var there bool
	err := conn.QueryRow(ctx, "SELECT (pg_catalog.pg_stat_file($1, true)).size IS NOT NULL", file).Scan(&there)
	if pg.Code(err) == pgerrcode.InsufficientPrivilege {
		return nil // no superuser, so it can't be looked at; a subscription will tell
	}
	if err != nil {
		return []error{fmt.Errorf("%s at the server: %w", file, err)}
	}
	if !there {
		return []error{fmt.Errorf("the server has no %s", file)}
	}
	return nil
}
