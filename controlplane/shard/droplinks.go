package shard

import (
	"context"
	"fmt"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pg"
)

// dropLinks takes away what keeps a database from being dropped: slots that are
// in use, and subscriptions. Whoever is at their other end finds out by itself.
func dropLinks(ctx context.Context, conn *pgx.Conn, database string) error {
	subscriptions, err := namesOf(ctx, conn, `SELECT s.subname::text FROM pg_catalog.pg_subscription s
		JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE d.datname = $1`, database)
	if err != nil {
		return fmt.Errorf("subscriptions of %s: %w", database, err)
	}
	if len(subscriptions) > 0 {
		inside, err := sibling(ctx, conn, database)
		if err != nil {
			return fmt.Errorf("subscriptions of %s: %w", database, err)
		}
		defer closeConn(ctx, inside)
		for _, name := range subscriptions {
			for _, sql := range []string{"ALTER SUBSCRIPTION %s DISABLE", "ALTER SUBSCRIPTION %s SET (slot_name = NONE)", "DROP SUBSCRIPTION IF EXISTS %s"} {
				if _, err := inside.Exec(ctx, fmt.Sprintf(sql, pg.Ident(name))); err != nil && pg.Code(err) != pgerrcode.UndefinedObject {
					return fmt.Errorf("drop subscription %s of %s: %w", name, database, err)
				}
			}
		}
	}
	err = poll(ctx, func() (bool, error) {
		// One that nobody uses goes with the database; its user may come back until it does.
		users, err := namesOf(ctx, conn, `SELECT slot_name::text FROM pg_catalog.pg_replication_slots WHERE database = $1
			AND active_pid IS NOT NULL AND pg_catalog.pg_terminate_backend(active_pid) IS NOT NULL`, database)
		if err != nil || len(users) > 0 {
			return false, err
		}
		_, err = conn.Exec(ctx, `SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots WHERE database = $1`, database)
		switch pg.Code(err) {
		case pgerrcode.ObjectInUse, pgerrcode.UndefinedObject: // taken up, or gone, between the two
			return false, nil
		}
		return true, err
	})
	if err != nil {
		return fmt.Errorf("drop the slots of %s: %w", database, err)
	}
	return nil
}

func namesOf(ctx context.Context, conn *pgx.Conn, sql string, args ...any) ([]string, error) {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
