package shard

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// NewTempUser is a name for a temporary login to a database that nobody has.
func NewTempUser(database string) string {
	var suffix [4]byte
	_, _ = rand.Read(suffix[:]) // never fails
	return tempPrefix(database) + hex.EncodeToString(suffix[:])
}

// EndTempLogin ends the sessions of a temporary login and drops it, before its
// time. One that is not there is no error.
func EndTempLogin(ctx context.Context, conn *pgx.Conn, database, user string) error {
	if !shardmap.ValidDatabase(database) || len(user) <= len(tempPrefix(database)) || user[:len(tempPrefix(database))] != tempPrefix(database) {
		return fmt.Errorf("temporary login %.80q of %.40q: %w", user, database, shardmap.ErrInvalidID)
	}
	var there bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)", user).Scan(&there); err != nil {
		return fmt.Errorf("temporary login %s: %w", user, err)
	}
	if !there {
		return nil
	}
	return dropTempLogin(ctx, conn, user, database)
}

// TempSession is a session of a temporary login.
type TempSession struct {
	User string
	PID  int32
	// Since is when it began, by the server's clock: no other session has the same of both.
	Since time.Time
	// From is the client's address; empty: a unix socket. Program is what the client calls itself.
	From, Program string
}

// TempSessions lists the sessions that temporary logins have at a server now.
func TempSessions(ctx context.Context, conn *pgx.Conn) ([]TempSession, error) {
	rows, err := conn.Query(ctx, `SELECT usename::text, pid, backend_start, coalesce(host(client_addr), ''), coalesce(application_name, '')
		FROM pg_catalog.pg_stat_activity WHERE usename ~ '^t_[0-9a-f]{16}_tmp_[0-9a-f]{8}$' AND backend_start IS NOT NULL ORDER BY backend_start`)
	if err != nil {
		return nil, fmt.Errorf("sessions of temporary logins: %w", err)
	}
	sessions, err := pgx.CollectRows(rows, pgx.RowToStructByPos[TempSession])
	if err != nil {
		return nil, fmt.Errorf("sessions of temporary logins: %w", err)
	}
	return sessions, nil
}
