package shard

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pg"
)

// Fence keeps every login but superusers out of the database and returns when
// no session of one is left: after that no statement of a runtime login runs,
// until Unfence. conn is an admin connection to any database of the shard,
// outside a transaction. Fencing twice is no error. If it fails, the database
// may be fenced or not: Unfence or repeat.
//
// Why this order is enough: a starting session takes a lock on its database,
// then reads the connection limit, then shows up in pg_stat_activity, then
// lets the lock go, all before its first statement. One that takes the lock
// after our ALTER has committed reads the limit 0 and is refused. One that had
// it before is seen holding it by the first look below; when that one holds it no more it
// has either gone or is in pg_stat_activity.
func Fence(ctx context.Context, conn *pgx.Conn, database string) error {
	if err := RaiseFence(ctx, conn, database); err != nil {
		return err
	}
	return Drain(ctx, conn, database)
}

// RaiseFence is the first half of [Fence]: who comes from now on is refused.
// It may be part of a transaction.
func RaiseFence(ctx context.Context, conn *pgx.Conn, database string) error {
	return limitConnections(ctx, conn, database, 0)
}

// Drain is the second half of [Fence], for when the first has committed: it
// ends the sessions that were there before.
func Drain(ctx context.Context, conn *pgx.Conn, database string) error {
	starting, left, err := firstLook(ctx, conn, database)
	if err != nil || len(starting) == 0 && left == 0 {
		return err
	}
	if len(starting) > 0 {
		err := poll(ctx, func() (bool, error) {
			now, err := startingSessions(ctx, conn, database)
			for s := range starting {
				if !now[s] {
					delete(starting, s)
				}
			}
			return len(starting) == 0, err
		})
		if err != nil {
			return fmt.Errorf("fence %s: %d sessions are still starting: %w", database, len(starting), err)
		}
	}
	err = poll(ctx, func() (bool, error) {
		// Strays are told again at each look: a session that was just starting
		// another transaction can miss nothing, but a new look costs nothing.
		err := conn.QueryRow(ctx, straysSQL, database).Scan(&left)
		return left == 0, err
	})
	if err != nil {
		return fmt.Errorf("fence %s: %d sessions are left: %w", database, left, err)
	}
	return nil
}

// straysSQL ends the sessions of a database that are no superuser's, and counts them.
const straysSQL = `
	SELECT count(pg_catalog.pg_terminate_backend(a.pid))
	FROM pg_catalog.pg_stat_activity a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
	WHERE a.datname = $1 AND a.backend_type IN ('client backend', 'parallel worker') AND NOT coalesce(r.rolsuper, false)`

// RehearseFence has conn do what Fence and Unfence will do, as far as that
// changes nothing, so that they are not slow for being done the first time:
// half of a first fence's time is catalogs that the session has not seen yet.
func RehearseFence(ctx context.Context, conn *pgx.Conn, database string) error {
	limit, err := connectionLimit(ctx, conn, database)
	if err != nil {
		return err
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("rehearse the fence of %s: %w", database, err)
	}
	err = limitConnections(ctx, conn, database, limit)
	if end := tx.Rollback(ctx); err == nil {
		err = end
	}
	if err != nil {
		return err
	}
	if _, err := startingSessions(ctx, conn, database); err != nil {
		return err
	}
	const none = "" // no database has this name
	_, _, err = firstLook(ctx, conn, none)
	return err
}

// startingSessions are those holding the lock that a session takes on its
// database while it starts. A virtual transaction is never used again, unlike a pid.
func startingSessions(ctx context.Context, conn *pgx.Conn, database string) (map[string]bool, error) {
	rows, err := conn.Query(ctx, startingSQL, database)
	if err != nil {
		return nil, fmt.Errorf("fence %s: starting sessions: %w", database, err)
	}
	set, err := sessions(rows)
	if err != nil {
		return nil, fmt.Errorf("fence %s: starting sessions: %w", database, err)
	}
	return set, nil
}

const startingSQL = `
	SELECT DISTINCT l.virtualtransaction || ' ' || l.pid
	FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_database d ON d.oid = l.objid
	WHERE l.locktype = 'object' AND l.database = 0 AND l.classid = 'pg_catalog.pg_database'::regclass
	  AND l.objsubid = 0 AND d.datname = $1 AND l.pid <> pg_catalog.pg_backend_pid()`

func sessions(rows pgx.Rows) (map[string]bool, error) {
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set, err
}

// firstLook is a look at the starting sessions, and one at the strays after
// it, in one round trip. Mostly there are none of both.
func firstLook(ctx context.Context, conn *pgx.Conn, database string) (starting map[string]bool, strays int, err error) {
	var batch pgx.Batch
	batch.Queue(startingSQL, database).Query(func(rows pgx.Rows) (err error) {
		starting, err = sessions(rows)
		return err
	})
	batch.Queue(straysSQL, database).QueryRow(func(row pgx.Row) error { return row.Scan(&strays) })
	if err := conn.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, 0, fmt.Errorf("fence %s: who is left: %w", database, err)
	}
	return starting, strays, nil
}

// Unfence lets logins in again. It may be part of a transaction. A database that is not there is an error (3D000).
func Unfence(ctx context.Context, conn *pgx.Conn, database string) error {
	if err := Shut(ctx, conn, database); err != nil {
		return err
	}
	// From here on nobody has it stand ajar (see setAjar); who did since Shut looked is found below.
	if err := limitConnections(ctx, conn, database, -1); err != nil {
		return err
	}
	// One that was fenced anew while it stood ajar, or came to stand ajar this moment.
	var lacking bool
	err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolcanlogin AND `+roleFilter+`
		AND NOT pg_catalog.has_database_privilege(oid, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = $1), 'CONNECT'))`, database).Scan(&lacking)
	if err != nil {
		return fmt.Errorf("connect privilege of %s: %w", database, err)
	}
	if lacking {
		return grantConnect(ctx, conn, database)
	}
	return nil
}

func limitConnections(ctx context.Context, conn *pgx.Conn, database string, limit int) error {
	if _, err := conn.Exec(ctx, fmt.Sprintf("ALTER DATABASE %s CONNECTION LIMIT %d", pg.Ident(database), limit)); err != nil {
		return fmt.Errorf("connection limit of %s to %d: %w", database, limit, err)
	}
	return nil
}

// Fenced tells whether logins are kept out. A database that is not there is an error (3D000).
func Fenced(ctx context.Context, conn *pgx.Conn, database string) (bool, error) {
	limit, err := connectionLimit(ctx, conn, database)
	if err != nil {
		return false, err
	}
	return limit == 0 || limit == ajar || limit == dropping, nil
}
