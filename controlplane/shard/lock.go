package shard

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// maintenance is the database of a shard in which we work on the server as a
// whole. No tenant may connect to it.
const maintenance = "postgres"

// Advisory locks in the maintenance database, held by a session: one who dies
// lets go. The numbers only have to differ.
const (
	lockTemplates = 0x66726565_0001
	lockRoutes    = 0x66726565_0002
	lockKeeper    = 0x66726565_0003
	lockPrepare   = 0x66726565_0004
	lockAdmin     = 0x66726565_0005
)

func lockSession(ctx context.Context, conn *pgx.Conn, key int64) error {
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", key); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	return nil
}

// unlockSession lets go; if it can't, it closes the connection, which does as well.
func unlockSession(ctx context.Context, conn *pgx.Conn, key int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeFor)
	defer cancel()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_unlock($1)", key); err != nil {
		closeConn(ctx, conn)
	}
}

// Keep takes the right to tend the shard in the background (warm pool, sweeps)
// for as long as conn, to the maintenance database, is open; false: another replica has it.
func Keep(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var got bool
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_try_advisory_lock($1)", int64(lockKeeper)).Scan(&got); err != nil {
		return false, fmt.Errorf("keeper's lock: %w", err)
	}
	return got, nil
}

// ErrReserved: another session is making or dropping the database.
var ErrReserved = errors.New("the database is being made or dropped by another session")

// Reserve gives conn, to the maintenance database, the right to make or drop
// a database of this server, until release or the connection's end.
// What the catalog says of the database is to be read after it, and holds then:
// everybody who makes or drops one reserves it. Errors: [ErrReserved].
func Reserve(ctx context.Context, conn *pgx.Conn, database string) (release func(), err error) {
	key, err := reservation(database)
	if err != nil {
		return nil, err
	}
	var got bool
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_try_advisory_lock($1)", key).Scan(&got); err != nil {
		return nil, fmt.Errorf("reserve %s: %w", database, err)
	}
	if !got {
		return nil, fmt.Errorf("reserve %s: %w", database, ErrReserved)
	}
	return func() { unlockSession(ctx, conn, key) }, nil
}

// Seize is Reserve for whom the catalog has named already: whoever else has
// the reservation, perhaps a worker that was stopped in the middle, loses its session.
func Seize(ctx context.Context, conn *pgx.Conn, database string) (release func(), err error) {
	key, err := reservation(database)
	if err != nil {
		return nil, err
	}
	err = poll(ctx, func() (bool, error) {
		release, err = Reserve(ctx, conn, database)
		if !errors.Is(err, ErrReserved) {
			return true, err
		}
		return false, endHolders(ctx, conn, key)
	})
	return release, err
}

// endHolders ends the sessions of others that hold an advisory lock of this database.
func endHolders(ctx context.Context, conn *pgx.Conn, key int64) error {
	_, err := conn.Exec(ctx, `SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_locks
		WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND (classid::bigint << 32) | objid::bigint = $1 AND pid <> pg_catalog.pg_backend_pid()
		AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())`, key)
	return err
}

// reservation is the advisory lock of a database: the digits of its name.
func reservation(database string) (int64, error) {
	if !shardmap.ValidDatabase(database) {
		return 0, fmt.Errorf("%w: database %q", shardmap.ErrInvalidID, database)
	}
	key, err := strconv.ParseUint(database[2:], 16, 64)
	return int64(key), err //nolint:gosec // the bits are what counts
}
