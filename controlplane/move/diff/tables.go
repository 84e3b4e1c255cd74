package diff

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pg"
)

// table is one to compare.
type table struct {
	schema, name string
	bytes        int64
	// columns are the names and types of all columns, in order.
	columns, columnTypes []string
	// key are the columns of a unique key whose order is known, with their types; empty: there is none.
	key, keyTypes []string
	// collation is what the key's order depends on beside its types; it must be the same at both sides.
	collation string
}

func (t table) ident() string { return pg.Ident(t.schema) + "." + pg.Ident(t.name) }

// Only types whose order is the same on every server make ordered keys: an
// enum's is its labels' own, that of regclass is by OID. Of collations the
// version of the library counts.
const tablesSQL = `
WITH RECURSIVE base(oid, base) AS (
	SELECT oid, oid FROM pg_catalog.pg_type WHERE typtype <> 'd'
	UNION ALL SELECT d.oid, b.base FROM base b JOIN pg_catalog.pg_type d ON d.typtype = 'd' AND d.typbasetype = b.oid
)
SELECT n.nspname, c.relname, pg_catalog.pg_table_size(c.oid),
	coalesce(cols.names, '{}'), coalesce(cols.types, '{}'), coalesce(k.names, '{}'), coalesce(k.types, '{}'), coalesce(k.collation, '')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
	SELECT array_agg(a.attname::text ORDER BY a.attnum) AS names, array_agg(pg_catalog.format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum) AS types
	FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
) cols ON true
LEFT JOIN LATERAL (
	SELECT array_agg(a.attname::text ORDER BY part.i) AS names,
		array_agg(pg_catalog.quote_ident(tn.nspname) || '.' || pg_catalog.quote_ident(t.typname) ORDER BY part.i) AS types,
		string_agg(CASE
			WHEN a.attcollation = 0 THEN ''
			WHEN a.attcollation = 100 THEN (SELECT concat(d.datlocprovider, '/', d.datcollate, '/', pg_catalog.pg_database_collation_actual_version(d.oid))
				FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
			ELSE (SELECT concat(o.collname, '/', o.collprovider, '/', o.collcollate, '/', pg_catalog.pg_collation_actual_version(o.oid)) FROM pg_catalog.pg_collation o WHERE o.oid = a.attcollation)
		END, ',' ORDER BY part.i) AS collation
	FROM pg_catalog.pg_index i
	JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
	CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS part(attnum, i)
	JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = part.attnum
	JOIN base ON base.oid = a.atttypid JOIN pg_catalog.pg_type t ON t.oid = base.base JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
	WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND part.i <= i.indnkeyatts
	GROUP BY i.indexrelid, i.indisprimary, i.indnkeyatts, x.relname
	HAVING bool_and(a.attnotnull AND (t.typtype = 'e' OR tn.nspname = 'pg_catalog' AND t.typname IN ('int2', 'int4', 'int8', 'numeric', 'uuid', 'text', 'varchar', 'bpchar',
		'date', 'timestamp', 'timestamptz', 'time', 'bytea', 'bool', 'inet', 'cidr', 'macaddr', 'oid'))
		AND coalesce((SELECT o.collisdeterministic FROM pg_catalog.pg_collation o WHERE o.oid = a.attcollation), true))
	ORDER BY i.indisprimary DESC, i.indnkeyatts, x.relname LIMIT 1
) k ON true
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname <> 'information_schema' AND n.nspname <> 'freehold' AND n.nspname NOT LIKE 'pg\_%'
AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')`

// tables lists what holds rows, by ident.
func tables(ctx context.Context, conn *pgx.Conn) ([]table, error) {
	rows, err := conn.Query(ctx, tablesSQL)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t table, err error) {
		err = row.Scan(&t.schema, &t.name, &t.bytes, &t.columns, &t.columnTypes, &t.key, &t.keyTypes, &t.collation)
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	slices.SortFunc(list, func(a, b table) int { return strings.Compare(a.ident(), b.ident()) })
	return list, nil
}

// differs says why the two can't be compared row by row; "": they can.
func (t table) differs(o table) string {
	describe := func(t table) string {
		var b strings.Builder
		for i := range t.columns {
			fmt.Fprintf(&b, "%s %s,", t.columns[i], t.columnTypes[i])
		}
		return b.String()
	}
	if describe(t) != describe(o) {
		return "its columns are not the same at both sides, so its rows were not compared"
	}
	return ""
}

// ordered tells whether both sides put the table's keys in the same order.
func (t table) ordered(o table) bool {
	return len(t.key) > 0 && strings.Join(t.key, ",") == strings.Join(o.key, ",") && strings.Join(t.keyTypes, ",") == strings.Join(o.keyTypes, ",") && t.collation == o.collation
}

// clip bounds a value in a report.
func clip(s string) string {
	r := []rune(strings.ToValidUTF8(s, "�"))
	if len(r) > valueLen {
		return string(r[:valueLen]) + "…"
	}
	return string(r)
}

// label names a row by its key.
func (t table) label(key []string) string {
	parts := make([]string, len(key))
	for i, v := range key {
		parts[i] = t.key[i] + "=" + clip(v)
	}
	return strings.Join(parts, ", ")
}
