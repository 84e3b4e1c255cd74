package survey

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pg"
)

// MaxRow is how large a row may be, in bytes, before compression. Put into
// text, which bytea doubles and quotes double again, it has to fit into the
// 1 GB that Postgres gives any value, at both ends and in the stream.
const MaxRow = 200 << 20

// toastedSQL lists tables with so much out of line that one row could be too
// large, and the columns that can be.
const toastedSQL = `
SELECT n.nspname::text, c.relname::text, array_agg(a.attname::text ORDER BY a.attnum), array_agg(a.atttypid IN (17, 25, 1042, 1043) ORDER BY a.attnum)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attlen = -1 AND a.attstorage <> 'p'
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND pg_catalog.pg_relation_size(c.reltoastrelid) > $1 AND` + userSchema + `
GROUP BY 1, 2 ORDER BY 1, 2`

// suspicious is how much out of line a table must have to be looked through:
// compression may have made little of one large value, but not less.
const suspicious = MaxRow / 200

// largeRows finds tables that hold a row too large to be carried. It reads the
// tables' main part, not what is out of line.
func largeRows(ctx context.Context, conn *pgx.Conn) ([]Finding, error) {
	rows, err := conn.Query(ctx, toastedSQL, suspicious)
	if err != nil {
		return nil, fmt.Errorf("look for large rows: %w", err)
	}
	type table struct {
		Schema, Name string
		Columns      []string
		Raw          []bool // octet_length tells the size before compression, without reading the value
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[table])
	if err != nil {
		return nil, fmt.Errorf("look for large rows: %w", err)
	}
	var found []Finding
	for _, t := range tables {
		sizes := make([]string, len(t.Columns))
		for i, c := range t.Columns {
			size := "pg_catalog.pg_column_size"
			if t.Raw[i] {
				size = "pg_catalog.octet_length"
			}
			sizes[i] = "coalesce(" + size + "(" + pg.Ident(c) + "), 0)::int8"
		}
		name := pg.Ident(t.Schema) + "." + pg.Ident(t.Name)
		var largest int64
		if err := conn.QueryRow(ctx, "SELECT coalesce(max("+strings.Join(sizes, " + ")+"), 0) FROM ONLY "+name).Scan(&largest); err != nil {
			return nil, fmt.Errorf("look for large rows in %s: %w", name, err)
		}
		if largest > MaxRow {
			found = append(found, Finding{Level: Refuse, Code: "large-row", Object: name,
				Reason: fmt.Sprintf("a row of it has %.0f MB, and more than %.0f can't be carried: as text it would be too large for Postgres", float64(largest)/1e6, float64(MaxRow)/1e6),
				Remedy: "split its contents over several rows"})
		}
	}
	return found, nil
}

// Locks says whether the source's transactions can lock all of the tenant's
// relations at once, as a dump of the schema does.
func Locks(src Server, relations int) []Finding {
	if relations*5 <= src.MaxLocks*4 { // others lock something, too
		return nil
	}
	return []Finding{{Level: Refuse, Code: "locks",
		Reason: fmt.Sprintf("the tenant has %d tables and sequences, and the source can lock about %d objects at a time", relations, src.MaxLocks),
		Remedy: "raise max_locks_per_transaction and restart it"}}
}
