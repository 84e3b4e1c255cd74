package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/internal/sleep"
)

// The way back. While a tenant soaks, what is written at its new place follows
// to the old one over a publication and a slot that were made at the new place
// before anybody wrote there. They are passed over by everything up to the
// moment of the cutover ([Advance]), which came from the old place.

// Remembered is what identities tables had before publications gave them
// others: of each publication of conn's database whose name begins with prefix.
type Remembered struct{ tables []given }

// Remember reads it. The oldest publication that changed a table knows best.
func Remember(ctx context.Context, conn *pgx.Conn, prefix string) (Remembered, error) {
	names, err := publications(ctx, conn, prefix)
	if err != nil {
		return Remembered{}, err
	}
	var m Remembered
	for _, name := range names {
		changed, _, err := changes(ctx, conn, name)
		if err != nil {
			return m, err
		}
		m.tables = append(changed, m.tables...)
	}
	return m, nil
}

// PublishBack is [Publish] at the target of a move, for the way back, while
// changes still arrive there: their tables keep the identities by which rows
// are found, and get those that they had at the source when the publication is
// taken away ([Unpublish]). One that is there already is left alone, for
// taking it away would take the identities away. Errors: [ErrLocked].
func PublishBack(ctx context.Context, conn *pgx.Conn, name string, tables []survey.Table, atSource Remembered) error {
	_, there, err := changes(ctx, conn, name)
	if err != nil || there {
		return err
	}
	before := map[[2]string]given{}
	for _, g := range atSource.tables {
		before[[2]string{g.Schema, g.Name}] = g
	}
	given := make([]survey.Table, len(tables))
	for i, t := range tables {
		if g, ok := before[[2]string{t.Schema, t.Name}]; ok {
			t.Identity, t.IdentityIndex = g.Identity, g.Index
		}
		given[i] = t
	}
	return Publish(ctx, conn, name, given)
}

// UnpublishAll is [Unpublish] of every publication whose name begins with
// prefix, newest first. Errors: [ErrLocked].
func UnpublishAll(ctx context.Context, conn *pgx.Conn, prefix string) error {
	names, err := publications(ctx, conn, prefix)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := Unpublish(ctx, conn, name); err != nil {
			return err
		}
	}
	return nil
}

// publications lists those with the prefix, newest first.
func publications(ctx context.Context, conn *pgx.Conn, prefix string) ([]string, error) {
	rows, err := conn.Query(ctx, "SELECT pubname::text FROM pg_catalog.pg_publication WHERE pg_catalog.starts_with(pubname::text, $1) ORDER BY oid DESC", prefix)
	if err != nil {
		return nil, fmt.Errorf("list publications: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list publications: %w", err)
	}
	return names, nil
}

// EnsureSlot makes a slot in conn's database, without a snapshot, unless it is
// there. It waits, as long as ctx allows, for every writing transaction of the
// server that is open now.
func EnsureSlot(ctx context.Context, conn *pgx.Conn, name string) error {
	_, err := conn.Exec(ctx, `SELECT pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput')
		WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND database = pg_catalog.current_database())`, name)
	if err != nil {
		return fmt.Errorf("create slot: %w", err)
	}
	return nil
}

// Advance has the slot pass over all that was committed before the position
// lsn of the server's log, or up to now if lsn is empty. One that is further is left alone.
// Nobody may be using the slot. Errors: [ErrNoSlot].
func Advance(ctx context.Context, conn *pgx.Conn, name, lsn string) error {
	// A slot is advanced no further than the log was flushed.
	for flushed := lsn == ""; !flushed; {
		if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_current_wal_flush_lsn() >= $1::text::pg_catalog.pg_lsn", lsn).Scan(&flushed); err != nil {
			return fmt.Errorf("advance slot: %w", err)
		}
		if !flushed {
			if err := sleep.For(ctx, pollEvery); err != nil {
				return fmt.Errorf("advance slot: wait for the log to be flushed: %w", err)
			}
		}
	}
	var passed bool
	err := conn.QueryRow(ctx, `SELECT CASE WHEN confirmed_flush_lsn < position THEN (pg_catalog.pg_replication_slot_advance(slot_name, position)).end_lsn >= position ELSE true END
		FROM (SELECT slot_name, confirmed_flush_lsn, coalesce(nullif($2::text, '')::pg_catalog.pg_lsn, pg_catalog.pg_current_wal_flush_lsn()) AS position
			FROM pg_catalog.pg_replication_slots WHERE slot_name = $1) s`, name, lsn).Scan(&passed)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("advance slot: %w", ErrNoSlot)
	}
	if err != nil {
		return fmt.Errorf("advance slot: %w", err)
	}
	if !passed {
		return fmt.Errorf("advance slot: it does not reach %s", lsn)
	}
	return nil
}

// Link is how a link is doing, as the side sees it that publishes.
type Link struct {
	// Kept is how many bytes of the server's log are kept for the other side.
	Kept int64
	// Lost: so much was to be kept that the server gave it up.
	Lost bool
	// Connected: the other side is reading.
	Connected bool
	// Confirmed is how far the other side has come.
	Confirmed string
}

// ReadLink looks at the slot. Errors: [ErrNoSlot].
func ReadLink(ctx context.Context, conn *pgx.Conn, name string) (Link, error) {
	var l Link
	err := conn.QueryRow(ctx, `SELECT coalesce(greatest(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn), 0), 0)::bigint,
			coalesce(wal_status = 'lost', false), active_pid IS NOT NULL, coalesce(confirmed_flush_lsn::text, '')
		FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`, name).Scan(&l.Kept, &l.Lost, &l.Connected, &l.Confirmed)
	if errors.Is(err, pgx.ErrNoRows) {
		return l, ErrNoSlot
	}
	if err != nil {
		return l, fmt.Errorf("read slot: %w", err)
	}
	return l, nil
}

// ApplyErrors counts how often the subscription failed to apply a change, since it was made.
func ApplyErrors(ctx context.Context, conn *pgx.Conn, name string) (n int64, err error) {
	err = conn.QueryRow(ctx, `SELECT coalesce(sum(x.apply_error_count), 0)::bigint FROM pg_catalog.pg_stat_subscription_stats x WHERE x.subname = $1`, name).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("errors of the subscription: %w", err)
	}
	return n, nil
}
