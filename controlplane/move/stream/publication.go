// Package stream is what carries changes from the source to the target while a
// database moves: publication, slot, subscription, and the barrier that proves
// that everything has arrived.
//
// Everything here has one name, derived from the move; every function may be
// run again after a crash at any point, and nothing is left behind once
// [Unsubscribe], [DropSlot] and [Unpublish] have run.
//
// Import law: of this module, stream imports internal packages and controlplane/move/survey only.
package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/schemachange"
)

// given remembers, in the publication's comment, the replica identity of a
// table that the move changed. It is written in the same transaction as the
// change, so that no crash can separate them.
type given struct {
	Schema   string          `json:"s"`
	Name     string          `json:"n"`
	Identity survey.Identity `json:"i"`
	Index    string          `json:"x,omitempty"`
}

// ErrLocked: a table could not be locked for a moment because somebody else
// holds it; try again later.
var ErrLocked = errors.New("a table is locked by a transaction of the tenant")

// lockFor bounds how long the tenant's own statements queue behind ours.
const lockFor = 200 * time.Millisecond

// Publish makes the publication of exactly the given tables and the barrier,
// and gives each table the replica identity that it needs: before the
// publication exists, for an update of a table without identity would be
// refused once it does. A publication listing tables, unlike FOR ALL TABLES,
// leaves a table alone that the tenant makes meanwhile. One of that name is
// taken back first. Errors: [ErrLocked].
func Publish(ctx context.Context, conn *pgx.Conn, name string, tables []survey.Table) error {
	if err := Unpublish(ctx, conn, name); err != nil {
		return err
	}
	var changed []given
	var alter []string
	names := []string{survey.BarrierTable}
	for _, t := range tables {
		names = append(names, t.Ident())
		if t.Want != t.Identity || t.WantIndex != t.IdentityIndex {
			changed = append(changed, given{t.Schema, t.Name, t.Identity, t.IdentityIndex})
			alter = append(alter, survey.SetIdentity(t.Ident(), t.Want, t.WantIndex))
		}
	}
	memory, err := json.Marshal(changed)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	comment, err := pg.Literal(string(memory))
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return locking(ctx, conn, "publish", func(tx pgx.Tx) error {
		return script(ctx, tx, append(alter,
			"CREATE PUBLICATION "+pg.Ident(name)+" FOR TABLE ONLY "+strings.Join(names, ", ONLY "),
			"COMMENT ON PUBLICATION "+pg.Ident(name)+" IS "+comment))
	})
}

// Unpublish gives the tables their replica identities back and drops the
// publication. None of that name is no error. Errors: [ErrLocked].
func Unpublish(ctx context.Context, conn *pgx.Conn, name string) error {
	changed, there, err := changes(ctx, conn, name)
	if err != nil || !there {
		return err
	}
	return locking(ctx, conn, "unpublish", func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, stillSQL, changed)
		if err != nil {
			return err
		}
		still, err := pgx.CollectRows(rows, pgx.RowToStructByPos[given])
		if err != nil {
			return err
		}
		var restore []string
		for _, g := range still {
			restore = append(restore, survey.SetIdentity(pg.Ident(g.Schema)+"."+pg.Ident(g.Name), g.Identity, g.Index))
		}
		return script(ctx, tx, append(restore, "DROP PUBLICATION IF EXISTS "+pg.Ident(name)))
	})
}

// script runs statements in one round trip: others wait for the locks of the first until the last is done.
func script(ctx context.Context, tx pgx.Tx, statements []string) error {
	_, err := tx.Exec(ctx, strings.Join(statements, ";"), pgx.QueryExecModeSimpleProtocol)
	return err
}

// stillSQL leaves out what the tenant dropped meanwhile, the table or the index.
const stillSQL = `
SELECT g->>'s', g->>'n', g->>'i', coalesce(g->>'x', '') FROM pg_catalog.jsonb_array_elements(coalesce(NULLIF($1::jsonb, 'null'), '[]')) g
WHERE EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE n.nspname = g->>'s' AND c.relname = g->>'n' AND c.relkind = 'r'
	AND (g->>'x' IS NULL OR EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
		WHERE i.indrelid = c.oid AND x.relname = g->>'x')))`

// changes reads what Publish wrote down, and whether there is a publication.
func changes(ctx context.Context, conn *pgx.Conn, name string) (changed []given, there bool, err error) {
	var memory string
	err = conn.QueryRow(ctx, `SELECT coalesce(pg_catalog.obj_description(oid, 'pg_publication'), '[]')
		FROM pg_catalog.pg_publication WHERE pubname = $1`, name).Scan(&memory)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read publication: %w", err)
	}
	if err := json.Unmarshal([]byte(memory), &changed); err != nil {
		return nil, true, fmt.Errorf("read publication %s's comment: %w", name, err)
	}
	return changed, true, nil
}

// Restoring lists the statements that give the copies of the tables at the
// target the identities which the originals had, in two groups: what can be
// done at once, and what only when the stream has ended, because the identity
// the move gave is what changed rows are found by there.
func Restoring(tables []survey.Table) (now, atEnd []string) {
	for _, t := range tables {
		if t.Want == t.Identity && t.WantIndex == t.IdentityIndex {
			continue
		}
		sql := survey.SetIdentity(t.Ident(), t.Identity, t.IdentityIndex)
		if t.Want == survey.ByIndex {
			atEnd = append(atEnd, sql)
		} else {
			now = append(now, sql)
		}
	}
	return now, atEnd
}

// locking runs fn in a transaction that gives up early where it would have to
// wait for a lock.
func locking(ctx context.Context, conn *pgx.Conn, what string, fn func(tx pgx.Tx) error) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := script(ctx, tx, []string{fmt.Sprintf("SET LOCAL lock_timeout = %d", lockFor.Milliseconds()), schemachange.Unnoted}); err != nil {
			return err
		}
		return fn(tx)
	})
	if slices.Contains([]string{pgerrcode.LockNotAvailable, pgerrcode.DeadlockDetected}, pg.Code(err)) {
		return fmt.Errorf("%s: %w: %w", what, ErrLocked, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
