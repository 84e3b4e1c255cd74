package shard

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// Access says as whom a temporary login works.
type Access string

const (
	AccessOwner Access = "owner" // owns the schema: may do anything inside the database
	AccessRW    Access = "rw"    // reads and writes rows
	AccessRO    Access = "ro"    // reads rows
)

// Role is the role of the database that a works as; false for an unknown access.
func (a Access) Role(database string) (string, bool) {
	switch a {
	case AccessOwner:
		return OwnerRole(database), true
	case AccessRW:
		return RWRole(database), true
	case AccessRO:
		return RORole(database), true
	}
	return "", false
}

// tempConnections bounds the sessions of one temporary login: pg_restore -j wants several.
const tempConnections = 10

// TempLogin makes a login for a person that can connect until ttl has passed
// (by the server's clock) and works as the given role. Its sessions are ended
// and it is dropped by [SweepTempLogins] after that.
func TempLogin(ctx context.Context, conn *pgx.Conn, database string, access Access, ttl time.Duration) (secret.Login, time.Time, error) {
	return TempLoginAs(ctx, conn, database, NewTempUser(database), access, ttl)
}

// TempLoginAs is TempLogin under a name that [NewTempUser] gave.
func TempLoginAs(ctx context.Context, conn *pgx.Conn, database, user string, access Access, ttl time.Duration) (secret.Login, time.Time, error) {
	fail := func(err error) (secret.Login, time.Time, error) {
		return secret.Login{}, time.Time{}, fmt.Errorf("temporary login to %s: %w", database, err)
	}
	if !shardmap.ValidDatabase(database) {
		return fail(shardmap.ErrInvalidID)
	}
	become, ok := access.Role(database)
	if !ok {
		return fail(fmt.Errorf("unknown access %q", access))
	}
	var now time.Time
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.clock_timestamp()").Scan(&now); err != nil {
		return fail(err)
	}
	until := now.Add(ttl)
	login := secret.Login{User: user, Password: pg.NewPassword()}
	verifier, err := pg.ScramVerifier(login.Password)
	if err != nil {
		return fail(err)
	}
	lit, err := pg.Literal(verifier)
	if err != nil {
		return fail(err)
	}
	quoted := pg.Ident(login.User)
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE ROLE %s WITH LOGIN NOINHERIT CONNECTION LIMIT %d PASSWORD %s VALID UNTIL '%s';\n", quoted, tempConnections, lit, timestamp(until))
	fmt.Fprintf(&b, "GRANT %s, %s TO %s;\n", pg.Ident(AnchorRole(database)), pg.Ident(become), quoted)
	enlist(&b, login.User)
	fmt.Fprintf(&b, "ALTER ROLE %s SET role = %s;\n", quoted, pg.Ident(become))
	b.WriteString(connectSQL(database, quoted))
	if err := script(ctx, conn, b.String()); err != nil {
		return fail(err)
	}
	return login, until, nil
}

// SweepTempLogins ends the sessions of all expired temporary logins of the
// server and drops them. It returns how many. One that can't be dropped keeps
// no other from it; the error tells of all those.
func SweepTempLogins(ctx context.Context, conn *pgx.Conn) (int, error) {
	type expired struct{ Login, Database string }
	rows, err := conn.Query(ctx, `
		SELECT rolname::text, substring(rolname::text FROM 1 FOR 18) FROM pg_catalog.pg_roles
		WHERE rolname ~ '^t_[0-9a-f]{16}_(tmp|mv)_[0-9a-f]{8}$' AND rolvaliduntil < pg_catalog.clock_timestamp()`)
	if err != nil {
		return 0, fmt.Errorf("expired logins: %w", err)
	}
	logins, err := pgx.CollectRows(rows, pgx.RowToStructByPos[expired])
	if err != nil {
		return 0, fmt.Errorf("expired logins: %w", err)
	}
	var failed []error
	for _, l := range logins {
		if err := dropTempLogin(ctx, conn, l.Login, l.Database); err != nil {
			failed = append(failed, err)
		}
	}
	return len(logins) - len(failed), errors.Join(failed...)
}

func dropTempLogin(ctx context.Context, conn *pgx.Conn, login, database string) error {
	// NOLOGIN first, so that no new session starts behind the terminated ones.
	if _, err := conn.Exec(ctx, "ALTER ROLE "+pg.Ident(login)+" NOLOGIN"); err != nil {
		return fmt.Errorf("expired login %s: %w", login, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := poll(ctx, func() (bool, error) {
		var n int
		err := conn.QueryRow(ctx, "SELECT count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity WHERE usename = $1", login).Scan(&n)
		return n == 0, err
	})
	if err != nil {
		return fmt.Errorf("expired login %s: end its sessions: %w", login, err)
	}
	var there bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $1)", database).Scan(&there); err != nil {
		return fmt.Errorf("expired login %s: %w", login, err)
	}
	if there {
		if err := disown(ctx, conn, login, database); err != nil {
			return fmt.Errorf("expired login %s: %w", login, err)
		}
	}
	if err := dropRoles(ctx, conn, []string{login}); err != nil {
		return fmt.Errorf("expired login %s: %w", login, err)
	}
	return nil
}

// disown gives what the login owns in its database to the database's owner, and
// takes its rights away, CONNECT too: who works as the owner can have handed it both.
func disown(ctx context.Context, conn *pgx.Conn, login, database string) error {
	inside, err := sibling(ctx, conn, database)
	if err != nil {
		return err
	}
	defer closeConn(ctx, inside)
	return script(ctx, inside, fmt.Sprintf("SET LOCAL lock_timeout = '5s';\nREASSIGN OWNED BY %s TO %s;\nDROP OWNED BY %s;\n",
		pg.Ident(login), pg.Ident(OwnerRole(database)), pg.Ident(login)))
}
