package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/schemachange"
	"github.com/freehold-db/freehold/internal/sleep"
)

// Subscribe has the target follow the slot from where the copy was taken. conn
// is an admin connection to the target database, conninfo the way to the
// source with its password, which no log of the target will show. A
// subscription of that name is taken for this one: nothing else makes that name.
//
// Changes are made as [tenantdb.ApplyRole], which may do what the tenant's
// owner may: with them run CHECK constraints, domains, generated columns and
// indexes' expressions, all of which the tenant wrote.
func Subscribe(ctx context.Context, conn *pgx.Conn, name, conninfo string) error {
	secret, err := pg.Literal(conninfo)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	// One simple query: settings, statement, settings back, without a word in the log.
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL log_statement = 'none'; SET LOCAL log_min_error_statement = 'panic'; SET LOCAL log_min_duration_statement = -1; SET LOCAL log_min_duration_sample = -1; "+schemachange.Unnoted,
			pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, applyRoleSQL(conn.Config().Database), pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		n := pg.Ident(name)
		options := "create_slot = false, copy_data = false, slot_name = " + n + ", synchronous_commit = off, streaming = off"
		if pg.Major(conn) >= 16 {
			// Else changes are made as each table's owner, whom FORCE ROW LEVEL SECURITY binds.
			options += ", run_as_owner = true"
		}
		_, err := tx.Exec(ctx, "CREATE SUBSCRIPTION "+n+" CONNECTION "+secret+" PUBLICATION "+n+" WITH ("+options+")", pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, handOverSQL(conn.Config().Database, n), pgx.QueryExecModeSimpleProtocol)
		return err
	})
	if pg.Code(err) == pgerrcode.DuplicateObject {
		_, err = conn.Exec(ctx, "ALTER SUBSCRIPTION "+pg.Ident(name)+" ENABLE")
	}
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	return nil
}

// Unsubscribe drops the subscription without touching the slot, so that it
// works whatever became of the source. No subscription is no error.
func Unsubscribe(ctx context.Context, conn *pgx.Conn, name string) error {
	var there bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
		WHERE s.subname = $1 AND d.datname = pg_catalog.current_database())`, name).Scan(&there); err != nil {
		return fmt.Errorf("unsubscribe: %w", err)
	}
	if !there { // who was here before may have died between the two
		if _, err := conn.Exec(ctx, schemachange.Unnoted+";"+dropGuardSQL(conn.Config().Database), pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("unsubscribe: %w", err)
		}
		return nil
	}
	for _, sql := range []string{
		"ALTER SUBSCRIPTION " + pg.Ident(name) + " DISABLE",
		"ALTER SUBSCRIPTION " + pg.Ident(name) + " SET (slot_name = NONE)",
		"DROP SUBSCRIPTION IF EXISTS " + pg.Ident(name),
		dropGuardSQL(conn.Config().Database),
	} {
		// Two statements in one simple query are one transaction: the setting is for the other one.
		if _, err := conn.Exec(ctx, schemachange.Unnoted+";"+sql, pgx.QueryExecModeSimpleProtocol); err != nil && pg.Code(err) != pgerrcode.UndefinedObject {
			return fmt.Errorf("unsubscribe: %w", err)
		}
	}
	return nil
}

// Lag is how many bytes of the source's log the target has not applied yet.
// conn is an admin connection to the source. ok is false while no walsender
// serves the slot: the subscription is starting, or broken.
func Lag(ctx context.Context, conn *pgx.Conn, name string) (bytes int64, ok bool, err error) {
	err = conn.QueryRow(ctx, `
SELECT coalesce(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), coalesce(r.replay_lsn, s.confirmed_flush_lsn)), 0)::bigint, r.pid IS NOT NULL
FROM pg_catalog.pg_replication_slots s LEFT JOIN pg_catalog.pg_stat_replication r ON r.pid = s.active_pid
WHERE s.slot_name = $1`, name).Scan(&bytes, &ok)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, ErrNoSlot
	}
	if err != nil {
		return 0, false, fmt.Errorf("replication lag: %w", err)
	}
	return bytes, ok, nil
}

// Written is how many bytes of log the server has written since it was made.
func Written(ctx context.Context, conn *pgx.Conn) (int64, error) {
	var n int64
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), '0/0')::bigint").Scan(&n); err != nil {
		return 0, fmt.Errorf("position of the log: %w", err)
	}
	return n, nil
}

// ErrNoSlot: the slot is gone, and with it the changes it kept: copy again.
var ErrNoSlot = errors.New("the replication slot is gone")

// pollEvery is how often the target is asked whether a barrier arrived.
const pollEvery = 300 * time.Microsecond

// The barrier: a row with an ID (UUID) never used before, written at the source and
// waited for at the target, where it proves that every transaction that
// committed before it has been applied.
const (
	BarrierSQL = `INSERT INTO freehold.barrier (id) VALUES ($1)`
	arrivedSQL = `SELECT EXISTS (SELECT FROM freehold.barrier WHERE id = $1)`
)

// Seen tells whether the token is visible at the target.
func Seen(ctx context.Context, target *pgx.Conn, token string) (bool, error) {
	var there bool
	if err := target.QueryRow(ctx, arrivedSQL, token).Scan(&there); err != nil {
		return false, fmt.Errorf("look for barrier: %w", err)
	}
	return there, nil
}

// Arrived waits until the token is visible at the target.
func Arrived(ctx context.Context, target *pgx.Conn, token string) error {
	for {
		there, err := Seen(ctx, target, token)
		if there || err != nil {
			return err
		}
		if err := sleep.For(ctx, pollEvery); err != nil {
			return fmt.Errorf("wait for barrier: %w", err)
		}
	}
}
