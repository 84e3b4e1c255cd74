package data

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/sleep"
)

// dropTruncated empties the target's copies of tables that the tenant
// truncated after the snapshot. TRUNCATE is the one change of data that a
// snapshot does not hide: such a table was copied whole, in part or not at
// all, and what was copied may refer to rows that were not. Since the stream
// brings the TRUNCATE and all that comes after it, nothing is the right copy.
func (r *run) dropTruncated(ctx context.Context) error {
	w, err := r.open(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	var truncated []survey.Table
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		if truncated, err = r.truncated(ctx, w); err == nil {
			break
		}
		if pg.Code(err) != pgerrcode.LockNotAvailable {
			return err
		}
		if err := sleep.For(ctx, pause); err != nil {
			return err
		}
	}
	if len(truncated) == 0 {
		return nil
	}
	for _, t := range truncated {
		r.sides[t.OID] = &sides{}
		r.sides[t.OID].source.add(Sum{Hash: new(big.Int)})
		r.sides[t.OID].target.add(Sum{Hash: new(big.Int)})
	}
	_, err = w.target.Exec(ctx, "TRUNCATE ONLY "+idents(truncated), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return fmt.Errorf("empty what was truncated meanwhile: %w", err)
	}
	return nil
}

// rewrittenSQL names, in the snapshot, the tables that have other files now
// than they had then: TRUNCATE does that, and VACUUM FULL.
const rewrittenSQL = `SELECT oid::int8 FROM pg_catalog.pg_class WHERE relkind = 'r' AND oid >= 16384 AND pg_catalog.pg_relation_filenode(oid) <> relfilenode`

// truncated names the tables in which the snapshot sees no row any more. The
// ones it could be are locked until no other one comes along, so that what one
// transaction truncated is found as a whole; it gives way before it is in
// anybody's way. The rest, as a rule all, need no lock.
func (r *run) truncated(ctx context.Context, w *worker) (gone []survey.Table, err error) {
	err = inSnapshot(ctx, w.source, r.Snapshot, func() error {
		if _, err := w.source.Exec(ctx, "SET LOCAL lock_timeout = 200", pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		var locked []survey.Table
		for {
			found, err := r.rewritten(ctx, w.source)
			if err != nil {
				return err
			}
			if len(found) <= len(locked) { // those that were locked stay as they are
				break
			}
			if _, err := w.source.Exec(ctx, "LOCK TABLE ONLY "+idents(found)+" IN ACCESS SHARE MODE", pgx.QueryExecModeSimpleProtocol); err != nil {
				return fmt.Errorf("lock what was rewritten meanwhile: %w", err)
			}
			locked = found
		}
		for _, t := range locked {
			var some bool
			if err := w.source.QueryRow(ctx, "SELECT EXISTS (SELECT FROM ONLY "+t.Ident()+")", pgx.QueryExecModeSimpleProtocol).Scan(&some); err != nil {
				return fmt.Errorf("look for %s: %w", t.Ident(), err)
			}
			if !some {
				gone = append(gone, t)
			}
		}
		return nil
	})
	if err != nil {
		_, rollback := w.source.Exec(ctx, "ROLLBACK", pgx.QueryExecModeSimpleProtocol)
		return nil, errors.Join(err, rollback)
	}
	return gone, nil
}

func (r *run) rewritten(ctx context.Context, source *pgx.Conn) ([]survey.Table, error) {
	rows, err := source.Query(ctx, rewrittenSQL, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, fmt.Errorf("look for truncated tables: %w", err)
	}
	oids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("look for truncated tables: %w", err)
	}
	var found []survey.Table
	for _, t := range r.Tables {
		if slices.Contains(oids, int64(t.OID)) {
			found = append(found, t)
		}
	}
	return found, nil
}

// idents lists the tables, each of which but the first is preceded by ONLY.
func idents(tables []survey.Table) string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.Ident()
	}
	return strings.Join(names, ", ONLY ")
}
