package shard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// A shard's admin login is rotated by turns, too: the login that the shard was
// registered with is followed by NAME_b, that by NAME_a, and so on. What they
// have in common is membership in the first, by which pg_hba.conf can name them
// all (`+NAME`).

// NextAdmin names the admin login that follows user.
func NextAdmin(user string) string {
	if base, ok := strings.CutSuffix(user, "_b"); ok {
		return base + "_a"
	}
	return FirstAdmin(user) + "_b"
}

// FirstAdmin is the login that the shard was registered with.
func FirstAdmin(user string) string {
	for _, turn := range turns {
		if base, ok := strings.CutSuffix(user, "_"+string(turn)); ok {
			return base
		}
	}
	return user
}

// OpenAdmin makes an admin login like another: with its rights and memberships,
// and working as the first one, so that what it makes has one owner; but for a
// superuser whose first one is none. A login that has the password keeps its verifier.
func OpenAdmin(ctx context.Context, conn *pgx.Conn, like string, login secret.Login) error {
	fail := func(err error) error { return fmt.Errorf("admin login %s: %w", login.User, err) }
	var attributes string
	var super bool
	var limit int
	err := conn.QueryRow(ctx, `
		SELECT concat_ws(' ', CASE WHEN rolsuper THEN 'SUPERUSER' ELSE 'NOSUPERUSER' END, CASE WHEN rolcreatedb THEN 'CREATEDB' ELSE 'NOCREATEDB' END,
		  CASE WHEN rolcreaterole THEN 'CREATEROLE' ELSE 'NOCREATEROLE' END, CASE WHEN rolreplication THEN 'REPLICATION' ELSE 'NOREPLICATION' END,
		  CASE WHEN rolbypassrls THEN 'BYPASSRLS' ELSE 'NOBYPASSRLS' END, CASE WHEN rolinherit THEN 'INHERIT' ELSE 'NOINHERIT' END), rolsuper, rolconnlimit
		FROM pg_catalog.pg_roles WHERE rolname = $1`, like).Scan(&attributes, &super, &limit)
	if err != nil {
		return fail(fmt.Errorf("what %s may: %w", like, err))
	}
	groups, err := namesOf(ctx, conn, `SELECT g.rolname::text FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
		JOIN pg_catalog.pg_roles u ON u.oid = m.member WHERE u.rolname = $1 AND g.rolname <> $2`, like, login.User)
	if err != nil {
		return fail(err)
	}
	if first := FirstAdmin(login.User); !slices.Contains(groups, first) {
		groups = append(groups, first)
	}
	open, err := adminIsOpen(ctx, conn, login)
	if err != nil {
		return fail(err)
	}
	var b strings.Builder
	user, password := pg.Ident(login.User), ""
	if !open {
		verifier, err := pg.ScramVerifier(login.Password)
		if err != nil {
			return fail(err)
		}
		lit, err := pg.Literal(verifier)
		if err != nil {
			return fail(err)
		}
		password = " PASSWORD " + lit
	}
	var there bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)", login.User).Scan(&there); err != nil {
		return fail(err)
	}
	verb := "CREATE"
	if there {
		verb = "ALTER"
	}
	fmt.Fprintf(&b, "%s ROLE %s WITH LOGIN %s CONNECTION LIMIT %d VALID UNTIL 'infinity'%s;\n", verb, user, attributes, limit, password)
	for _, g := range groups {
		fmt.Fprintf(&b, "GRANT %s TO %s;\n", pg.Ident(g), user)
	}
	var firstSuper bool
	if err := conn.QueryRow(ctx, "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = $1", FirstAdmin(login.User)).Scan(&firstSuper); err != nil {
		return fail(err)
	}
	if super && !firstSuper {
		fmt.Fprintf(&b, "ALTER ROLE %s RESET role;\n", user)
	} else {
		fmt.Fprintf(&b, "ALTER ROLE %s SET role = %s;\n", user, pg.Ident(FirstAdmin(login.User)))
	}
	if err := script(ctx, conn, b.String()); err != nil {
		return fail(err)
	}
	return nil
}

// adminIsOpen tells whether a login is there and has the password.
func adminIsOpen(ctx context.Context, conn *pgx.Conn, login secret.Login) (bool, error) {
	var verifier string
	err := conn.QueryRow(ctx, "SELECT coalesce(rolpassword, '') FROM pg_catalog.pg_authid WHERE rolname = $1 AND rolcanlogin", login.User).Scan(&verifier)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return pg.Verifies(verifier, login.Password), err
}

// CloseAdmin has an admin login let nobody in any more; its sessions stay. The
// server's bootstrap superuser belongs to the deployment, which may start the
// server by it: it is left as it is, and false returned.
func CloseAdmin(ctx context.Context, conn *pgx.Conn, user string) (closed bool, err error) {
	const bootstrap = 10
	var oid uint32
	err = conn.QueryRow(ctx, "SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1", user).Scan(&oid)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("admin login %s: %w", user, err)
	case oid == bootstrap:
		return false, nil
	}
	if _, err := conn.Exec(ctx, "ALTER ROLE "+pg.Ident(user)+" NOLOGIN PASSWORD NULL"); err != nil {
		return false, fmt.Errorf("close admin login %s: %w", user, err)
	}
	return true, nil
}

// EndAdmin ends all sessions of an admin login but the caller's own, and returns how many.
func EndAdmin(ctx context.Context, conn *pgx.Conn, user string) (n int, err error) {
	err = conn.QueryRow(ctx, `SELECT count(*) FROM (SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a
		WHERE a.usename = $1 AND a.pid <> pg_catalog.pg_backend_pid()) ended`, user).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("sessions of admin login %s: %w", user, err)
	}
	return n, nil
}

// AdminAs connects to the shard's maintenance database by an admin login that
// need not be the one in use. The caller closes it.
func (f *Fleet) AdminAs(ctx context.Context, id shardmap.ShardID, login secret.Login) (*pgx.Conn, error) {
	s, err := f.shards.GetShard(ctx, id)
	if err != nil {
		return nil, err
	}
	cfg, err := f.adminConfig(s, login, maintenance)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("shard %s: %w", id, err)
	}
	return conn, nil
}

// Relink has the subscriptions at one shard that log in to another by user do so
// by that shard's admin login as it is now, and returns how many. Their workers
// begin anew where they were.
func (f *Fleet) Relink(ctx context.Context, at, of shardmap.ShardID, user string) (n int, err error) {
	conn, err := f.Admin(ctx, at, maintenance)
	if err != nil {
		return 0, err
	}
	defer closeConn(ctx, conn)
	publisher, err := f.shards.GetShard(ctx, of)
	if err != nil {
		return 0, err
	}
	type link struct{ Database, Name string }
	rows, err := conn.Query(ctx, `SELECT d.datname::text, s.subname::text FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
		WHERE pg_catalog.strpos(s.subconninfo, $1) > 0 AND pg_catalog.strpos(s.subconninfo, $2) > 0`,
		"user='"+user+"' ", fmt.Sprintf("host='%s' port='%d' ", publisher.PostgresHost, publisher.PostgresPort))
	if err != nil {
		return 0, fmt.Errorf("shard %s: subscriptions: %w", at, err)
	}
	links, err := pgx.CollectRows(rows, pgx.RowToStructByPos[link])
	if err != nil {
		return 0, fmt.Errorf("shard %s: subscriptions: %w", at, err)
	}
	for _, l := range links {
		if err := f.relink(ctx, conn, at, of, l.Database, l.Name); err != nil {
			return n, fmt.Errorf("shard %s: subscription %s: %w", at, l.Name, err)
		}
		n++
	}
	return n, nil
}

func (f *Fleet) relink(ctx context.Context, conn *pgx.Conn, at, of shardmap.ShardID, database, name string) error {
	info, err := f.AdminConninfo(ctx, at, of, database)
	if err != nil {
		return err
	}
	lit, err := pg.Literal(info)
	if err != nil {
		return err
	}
	inside, err := sibling(ctx, conn, database)
	if pg.Code(err) == pgerrcode.InvalidCatalogName {
		return nil // it has been dropped
	}
	if err != nil {
		return err
	}
	defer closeConn(ctx, inside)
	_, err = inside.Exec(ctx, "ALTER SUBSCRIPTION "+pg.Ident(name)+" CONNECTION "+lit)
	if pg.Code(err) == pgerrcode.UndefinedObject {
		return nil // it has ended
	}
	return err
}

// LockAdmin makes whoever changes the server's admin logins wait for each other,
// until release or the connection's end. One who does nothing for long, stopped
// in the middle perhaps, loses its session.
func LockAdmin(ctx context.Context, conn *pgx.Conn) (release func(), err error) {
	end := time.Now().Add(lockAdminFor)
	err = poll(ctx, func() (got bool, err error) {
		if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_try_advisory_lock($1)", int64(lockAdmin)).Scan(&got); err != nil || got || time.Now().Before(end) {
			return got, err
		}
		return false, endHolders(ctx, conn, lockAdmin)
	})
	if err != nil {
		return nil, fmt.Errorf("lock of the admin logins: %w", err)
	}
	return func() { unlockSession(ctx, conn, lockAdmin) }, nil
}

const lockAdminFor = 5 * time.Second
