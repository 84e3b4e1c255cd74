// Package survey reads what a tenant's database holds, as far as a move needs
// to know: its tables and how each can be replicated, its sequences and
// materialized views, and everything that a move would not carry.
//
// It runs as a superuser inside a tenant's database and therefore calls
// nothing but pg_catalog: connections must have an empty search_path.
//
// Import law: of this module, survey imports internal packages only.
package survey

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pg"
)

// Querier is a connection or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// BarrierTable is the platform's own table in every tenant database whose rows
// mark points in the stream of changes. It is replicated, but not copied.
const BarrierTable = `"freehold"."barrier"`

// PageSize is Postgres's block size as everybody builds it; only the split of
// big tables leans on it, and a wrong guess there costs balance, not rows.
const PageSize = 8192

// Identity says by what the old version of a changed row is found at the
// target: Postgres's pg_class.relreplident.
type Identity string

// The replica identities.
const (
	ByPrimaryKey Identity = "d"
	ByNothing    Identity = "n"
	ByWholeRow   Identity = "f"
	ByIndex      Identity = "i"
)

// Table is one ordinary table (a leaf, if partitioned) that holds rows.
type Table struct {
	OID          uint32
	Schema, Name string
	// Columns that are copied, in order: all but generated ones.
	Columns []string
	// Bytes on disk with TOAST, without indexes; Pages of the main fork.
	Bytes, Pages int64
	// Hashable rows can be hashed by value; else they are put into text first, which takes longer.
	Hashable bool
	// Text is set when a column's binary form means something else at the
	// target (regclass and its kin hold OIDs) or has none.
	Text bool
	// Identity is what the table has, Want what the move needs it to have;
	// equal: nothing to do. IdentityIndex and WantIndex name the index for ByIndex.
	Identity, Want           Identity
	IdentityIndex, WantIndex string
	// NoEquality names a column type that rows can't be found by; set only if Want is ByWholeRow.
	NoEquality string
}

// Ident is the table's quoted, qualified name.
func (t Table) Ident() string { return pg.Ident(t.Schema) + "." + pg.Ident(t.Name) }

// typesCTE follows every type through domains, arrays, ranges and composites.
const typesCTE = `
types(root, oid) AS (
	SELECT DISTINCT a.atttypid, a.atttypid FROM pg_catalog.pg_attribute a
	WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid IN (SELECT oid FROM tables)
	UNION
	SELECT types.root, part.oid FROM types JOIN pg_catalog.pg_type t ON t.oid = types.oid
	CROSS JOIN LATERAL (
		SELECT t.typbasetype AS oid WHERE t.typtype = 'd'
		UNION ALL SELECT t.typelem WHERE t.typelem <> 0 AND t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc
		UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid OR r.rngmultitypid = t.oid
		UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
			WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
	) part
),
traits AS MATERIALIZED (
	SELECT types.root,
		bool_or(t.typsend = 0 OR t.typreceive = 0 OR (t.typnamespace = 'pg_catalog'::regnamespace AND t.typname LIKE 'reg%')) AS text,
		min(t.typname) FILTER (WHERE t.typtype = 'b' AND NOT (t.typelem <> 0 AND t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc)
			AND NOT EXISTS (
				SELECT FROM pg_catalog.pg_opclass o WHERE o.opcdefault AND o.opcmethod IN (403, 405)
				AND (o.opcintype = t.oid OR o.opcintype IN (
					SELECT c.casttarget FROM pg_catalog.pg_cast c WHERE c.castsource = t.oid AND c.castmethod = 'b' AND c.castcontext = 'i')))) AS noequality,
		-- An enum's hash, like that of regclass, is of its OID, which differs between servers.
		bool_and(t.typtype <> 'e') AND bool_and(t.typtype <> 'b' OR (t.typelem <> 0 AND t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc)
			OR EXISTS (
				SELECT FROM pg_catalog.pg_opclass o JOIN pg_catalog.pg_amproc p
					ON p.amprocfamily = o.opcfamily AND p.amproclefttype = o.opcintype AND p.amprocrighttype = o.opcintype AND p.amprocnum = 2
				WHERE o.opcdefault AND o.opcmethod = 405
				AND (o.opcintype = t.oid OR o.opcintype IN (
					SELECT c.casttarget FROM pg_catalog.pg_cast c WHERE c.castsource = t.oid AND c.castmethod = 'b' AND c.castcontext = 'i')))) AS hashable
	FROM types JOIN pg_catalog.pg_type t ON t.oid = types.oid GROUP BY types.root
)`

const tablesSQL = `
WITH RECURSIVE tables AS MATERIALIZED (
	SELECT c.oid, n.nspname, c.relname, c.relreplident
	FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname <> 'information_schema' AND n.nspname <> 'freehold' AND n.nspname NOT LIKE 'pg\_%'
	AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
),` + typesCTE + `,
keys AS (
	SELECT i.indrelid, bool_or(i.indisprimary) AS has_primary,
		min(c.relname) FILTER (WHERE i.indisreplident) AS identity, min(c.relname) FILTER (WHERE NOT i.indisprimary) AS uniq
	FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
	WHERE i.indrelid IN (SELECT oid FROM tables) AND i.indisunique AND i.indimmediate AND i.indisvalid
	AND i.indpred IS NULL AND i.indexprs IS NULL
	AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
		WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) AND NOT a.attnotnull)
	GROUP BY i.indrelid
),
cols AS (
	SELECT a.attrelid, array_agg(a.attname::text ORDER BY a.attnum) FILTER (WHERE a.attgenerated = '') AS names,
		bool_or(traits.text) AS text, min(traits.noequality) AS noequality, bool_and(traits.hashable AND NOT traits.text AND coalesce(o.collisdeterministic, true)) AS hashable
	FROM pg_catalog.pg_attribute a JOIN traits ON traits.root = a.atttypid LEFT JOIN pg_catalog.pg_collation o ON o.oid = a.attcollation
	WHERE a.attrelid IN (SELECT oid FROM tables) AND a.attnum > 0 AND NOT a.attisdropped
	GROUP BY a.attrelid
)
SELECT t.oid, t.nspname, t.relname, t.relreplident::text,
	pg_catalog.pg_table_size(t.oid), (pg_catalog.pg_relation_size(t.oid) + 8191) / 8192,
	coalesce(cols.names, '{}'), coalesce(cols.text, false), coalesce(cols.noequality, ''), coalesce(cols.hashable, false),
	coalesce(keys.has_primary, false), coalesce(keys.identity, ''), coalesce(keys.uniq, '')
FROM tables t LEFT JOIN cols ON cols.attrelid = t.oid LEFT JOIN keys ON keys.indrelid = t.oid
ORDER BY t.nspname, t.relname`

// Tables lists the tenant's tables that hold rows, with how each is to be replicated.
func Tables(ctx context.Context, q Querier) ([]Table, error) {
	rows, err := q.Query(ctx, tablesSQL)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Table, error) {
		var t Table
		var identity string
		var hasPrimary bool
		var unique string
		err := row.Scan(&t.OID, &t.Schema, &t.Name, &identity, &t.Bytes, &t.Pages, &t.Columns, &t.Text, &t.NoEquality, &t.Hashable,
			&hasPrimary, &t.IdentityIndex, &unique)
		t.Identity = Identity(identity)
		t.plan(hasPrimary, unique)
		return t, err
	})
}

// plan decides by what the table's rows can be found at the target.
func (t *Table) plan(hasPrimary bool, unique string) {
	t.Want = t.Identity
	usable := t.Identity == ByWholeRow || t.Identity == ByPrimaryKey && hasPrimary || t.Identity == ByIndex && t.IdentityIndex != ""
	switch {
	case usable:
		t.WantIndex = t.IdentityIndex
	case hasPrimary:
		t.Want = ByPrimaryKey
	case unique != "":
		t.Want, t.WantIndex = ByIndex, unique
	default:
		t.Want = ByWholeRow
	}
	if t.Identity != ByIndex {
		t.IdentityIndex = ""
	}
	if t.Want != ByWholeRow {
		t.NoEquality = ""
	}
}

// SetIdentity is the statement that gives a table its replica identity.
func SetIdentity(table string, id Identity, index string) string {
	var what string
	switch id {
	case ByNothing:
		what = "NOTHING"
	case ByWholeRow:
		what = "FULL"
	case ByIndex:
		what = "USING INDEX " + pg.Ident(index)
		if index == "" { // it was dropped; Postgres treats the table as having none
			what = "NOTHING"
		}
	case ByPrimaryKey:
		what = "DEFAULT"
	default:
		what = "DEFAULT"
	}
	return "ALTER TABLE ONLY " + table + " REPLICA IDENTITY " + what
}

// Named is a relation by OID and quoted, qualified name.
type Named struct {
	OID  uint32
	Name string
}

const sequencesSQL = `
SELECT c.oid, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname <> 'freehold'
AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 2`

// Sequences lists all sequences, identity columns' too.
func Sequences(ctx context.Context, q Querier) ([]Named, error) {
	return named(ctx, q, sequencesSQL)
}

// A materialized view depends on another through the rewrite rules of both and
// of plain views between them.
const matviewsSQL = `
WITH RECURSIVE uses(view, used) AS (
	SELECT r.ev_class, d.refobjid FROM pg_catalog.pg_rewrite r
	JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
		AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid <> r.ev_class
	WHERE r.oid >= 16384
	UNION
	SELECT uses.view, d.refobjid FROM uses
	JOIN pg_catalog.pg_rewrite r ON r.ev_class = uses.used
	JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
		AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid <> r.ev_class
)
SELECT c.oid, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND c.relispopulated
ORDER BY (SELECT count(DISTINCT u.used) FROM uses u JOIN pg_catalog.pg_class o ON o.oid = u.used AND o.relkind = 'm' WHERE u.view = c.oid), 2`

// MaterializedViews lists those that are populated, in an order in which they can be refreshed.
func MaterializedViews(ctx context.Context, q Querier) ([]Named, error) {
	return named(ctx, q, matviewsSQL)
}

func named(ctx context.Context, q Querier, sql string) ([]Named, error) {
	rows, err := q.Query(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("list relations: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Named])
}

// SequencesSQL reads position, last_value and is_called of all sequences given, in one statement.
func SequencesSQL(seqs []Named) string {
	parts := make([]string, len(seqs))
	for i, s := range seqs {
		parts[i] = fmt.Sprintf("SELECT %d, last_value, is_called FROM %s", i, s.Name)
	}
	if len(parts) == 0 {
		return "SELECT 0, 0::bigint, false WHERE false"
	}
	return strings.Join(parts, " UNION ALL ")
}

// Owned says to which table each index and each key or exclusion constraint belongs.
type Owned struct{ Index, Constraint map[uint32]uint32 }

// Keys reads what belongs to which table, by OIDs.
func Keys(ctx context.Context, q Querier) (Owned, error) {
	o := Owned{Index: map[uint32]uint32{}, Constraint: map[uint32]uint32{}}
	rows, err := q.Query(ctx, `
SELECT true, indexrelid, indrelid FROM pg_catalog.pg_index WHERE indexrelid >= 16384
UNION ALL SELECT false, oid, conrelid FROM pg_catalog.pg_constraint WHERE contype IN ('p', 'u', 'x') AND oid >= 16384`)
	if err != nil {
		return o, fmt.Errorf("list indexes: %w", err)
	}
	var index bool
	var object, table uint32
	_, err = pgx.ForEachRow(rows, []any{&index, &object, &table}, func() error {
		if index {
			o.Index[object] = table
		} else {
			o.Constraint[object] = table
		}
		return nil
	})
	if err != nil {
		return o, fmt.Errorf("list indexes: %w", err)
	}
	return o, nil
}
