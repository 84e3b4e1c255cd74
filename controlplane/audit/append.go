package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
)

// numbered is a record with its place in its source.
type numbered struct {
	sequence int64
	record   catalog.AuditRecord
}

// append adds those records of source that the log does not have yet, and
// their hashes to the tree, in one transaction. records are in order and
// without gaps. Errors: [ErrDiverged], [ErrTampered].
func (l *Log) append(ctx context.Context, source string, records []numbered) error {
	return l.write(ctx, func(tx pgx.Tx) error {
		var size, last int64
		var now time.Time
		err := tx.QueryRow(ctx, `select coalesce((select max(position) from audit_log), 0),
			coalesce((select max(sequence) from audit_log where source = $1), 0), clock_timestamp()`, source).Scan(&size, &last, &now)
		if err != nil {
			return err
		}
		var rows columns
		for _, n := range records {
			if n.sequence <= last {
				if err := sameAsLogged(ctx, tx, source, n); err != nil {
					return err
				}
				continue
			}
			text, err := json.Marshal(leaf{size + int64(len(rows.entry)) + 1, source, n.sequence, now.UTC(), n.record})
			if err != nil {
				return err
			}
			rows.add(n, string(text))
		}
		if len(rows.entry) == 0 {
			return nil
		}
		held, err := treeSize(ctx, tx)
		if err != nil {
			return err
		}
		if held != size {
			return fmt.Errorf("the tree has %d records, the log %d: %w", held, size, ErrTampered)
		}
		if err := rows.insert(ctx, tx, size, source, now); err != nil {
			return err
		}
		return grow(ctx, tx, size, rows.entry)
	})
}

// columns are new rows of audit_log, as arrays: one statement adds them all.
type columns struct {
	sequence                     []int64
	tenant, actor, action, entry []string
	happened                     []time.Time
}

func (c *columns) add(n numbered, text string) {
	c.sequence = append(c.sequence, n.sequence)
	c.tenant = append(c.tenant, string(n.record.Tenant))
	c.actor = append(c.actor, n.record.Actor.Name)
	c.action = append(c.action, n.record.Action)
	c.happened = append(c.happened, n.record.Time)
	c.entry = append(c.entry, text)
}

func (c *columns) insert(ctx context.Context, tx pgx.Tx, size int64, source string, now time.Time) error {
	_, err := tx.Exec(ctx, `insert into audit_log (position, source, sequence, logged_at, tenant, actor, action, happened, entry)
		select $1 + n, $2, sequence, $3, tenant, actor, action, happened, entry
		from unnest($4::bigint[], $5::text[], $6::text[], $7::text[], $8::timestamptz[], $9::text[])
			with ordinality as r (sequence, tenant, actor, action, happened, entry, n) order by n`,
		size, source, now, c.sequence, c.tenant, c.actor, c.action, c.happened, c.entry)
	return err
}

func sameAsLogged(ctx context.Context, tx pgx.Tx, source string, n numbered) error {
	var text string
	err := tx.QueryRow(ctx, `select entry from audit_log where source = $1 and sequence = $2`, source, n.sequence).Scan(&text)
	if err != nil {
		return err
	}
	var logged leaf
	if err := json.Unmarshal([]byte(text), &logged); err != nil {
		return fmt.Errorf("record %d of %s: %w", n.sequence, source, errors.Join(ErrDiverged, err))
	}
	before, err := json.Marshal(logged.Record)
	if err != nil {
		return err
	}
	now, err := json.Marshal(n.record)
	if err != nil {
		return err
	}
	if !bytes.Equal(before, now) {
		return fmt.Errorf("record %d of %s: %w", n.sequence, source, ErrDiverged)
	}
	return nil
}
