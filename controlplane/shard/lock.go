package shard

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
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
