package shard

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/tenantdb"
)

// A fence of limit 0 keeps everybody out but superusers, and a superuser is
// what must not read or write a tenant's tables (see [Mover]). So a fenced
// database can stand ajar: what keeps its logins out is that none of them has
// CONNECT, and the logins that copies are made by may enter.

// ajar is the connection limit that tells such a database from an open one. No
// server has so many connections, and no tenant can set it.
const ajar = 1_000_003

// setAjar lets the logins of copies into a fenced database; to everybody else it
// stays as fenced as it was. It does nothing to a database that is open. conn is
// an admin connection to any database of the server, outside a transaction;
// [tenantdb.MoverRole] is there.
func setAjar(ctx context.Context, conn *pgx.Conn, database string) error {
	limit, err := connectionLimit(ctx, conn, database)
	if err != nil || limit != 0 {
		return err
	}
	return leaveAjar(ctx, conn, database)
}

// errNotFenced: somebody opened the database since it was looked at.
var errNotFenced = errors.New("the database is not fenced any more")

func leaveAjar(ctx context.Context, conn *pgx.Conn, database string) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// Who opens the database or grants CONNECT changes the same row of
		// pg_database: whatever did before this statement is seen below, and
		// whoever comes after it finds the database ajar (see connectSQL).
		if _, err := tx.Exec(ctx, fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s", pg.Ident(database), tenantdb.MoverRole(database))); err != nil {
			return err
		}
		limit, err := connectionLimit(ctx, conn, database)
		if err != nil {
			return err
		}
		if limit != 0 {
			return errNotFenced
		}
		if err := limitConnections(ctx, conn, database, ajar); err != nil {
			return err
		}
		holders, err := namesOf(ctx, conn, `SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(r.rolname) END
			FROM pg_catalog.pg_database d CROSS JOIN pg_catalog.aclexplode(d.datacl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
			WHERE d.datname = $1 AND a.privilege_type = 'CONNECT' AND a.grantee <> d.datdba
			AND coalesce(r.rolname, '') <> $2 AND coalesce(r.rolname, '') !~ ('^' || $1 || '`+tenantdb.MoverPattern+`$')`, database, BouncerRole)
		if err != nil {
			return err
		}
		if len(holders) > 0 {
			if _, err := tx.Exec(ctx, fmt.Sprintf("REVOKE CONNECT ON DATABASE %s FROM %s", pg.Ident(database), strings.Join(holders, ", "))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errNotFenced) {
		return fmt.Errorf("let copies into %s: %w", database, err)
	}
	return nil
}

// Shut makes of a database that stands ajar a fenced one as any other, whose
// logins may enter once it is opened. Any other is left alone. It may be part of
// a transaction; without one, the fence comes first.
func Shut(ctx context.Context, conn *pgx.Conn, database string) error {
	limit, err := connectionLimit(ctx, conn, database)
	if err != nil || limit != ajar {
		return err
	}
	if err := limitConnections(ctx, conn, database, 0); err != nil {
		return err
	}
	if err := grantConnect(ctx, conn, database); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, fmt.Sprintf("REVOKE CONNECT ON DATABASE %s FROM %s", pg.Ident(database), tenantdb.MoverRole(database))); err != nil {
		return fmt.Errorf("connect privilege of %s: %w", database, err)
	}
	return nil
}

// connectSQL gives roles (quoted) CONNECT, unless the database stands ajar:
// [Shut] gives it to all logins that are there then. A database that comes to
// stand ajar in the middle of it fails the transaction.
func connectSQL(database, roles string) string {
	is := fmt.Sprintf("(SELECT datconnlimit FROM pg_catalog.pg_database WHERE datname = '%s') IS NOT DISTINCT FROM %d", database, ajar)
	return fmt.Sprintf(`DO $connect$ BEGIN
  IF NOT (%s) THEN
    GRANT CONNECT ON DATABASE %s TO %s;
    IF %s THEN RAISE EXCEPTION 'database %s is being copied' USING ERRCODE = 'object_in_use'; END IF;
  END IF;
END $connect$;
`, is, pg.Ident(database), roles, is, database)
}
