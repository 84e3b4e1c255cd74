// Package schema carries a database's schema from one server to another by
// pg_dump and pg_restore, and tells when it changed.
//
// Import law: of this module, schema imports internal packages only.
package schema

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/schemachange"
)

// Querier is a connection or a transaction.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// part is one catalog of the fingerprint: its rows as selected.
type part struct{ name, rows string }

// rel are the relations of the database's own that are not temporary; what
// VACUUM, ANALYZE, TRUNCATE and REFRESH change in their rows is left out.
const rel = `rel AS MATERIALIZED (
	SELECT c.oid, c.relname, c.relnamespace, c.reltype, c.reloftype, c.relowner, c.relam, c.reltablespace, c.relpersistence, c.relkind,
		c.relnatts, c.relchecks, c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.relispartition, c.relacl, c.reloptions, c.relpartbound
	FROM pg_catalog.pg_class c
	WHERE c.oid >= 16384 AND c.relpersistence <> 't' AND c.relkind <> 't'
	AND c.relnamespace NOT IN (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname LIKE 'pg\_%' OR nspname = 'freehold'))`

var parts = []part{
	{"class", "SELECT * FROM rel"},
	{"attribute", `SELECT a.attrelid, a.attname, a.atttypid, a.attnum, a.atttypmod, a.attndims, a.attstorage, a.attcompression, a.attnotnull, a.atthasdef,
		a.attidentity, a.attgenerated, a.attisdropped, a.attislocal, a.attinhcount, a.attcollation, a.attstattarget, a.attacl, a.attoptions,
		a.xmin -- ALTER COLUMN … TYPE int USING … of an int column rewrites its values, which no stream carries, and leaves all else
		FROM pg_catalog.pg_attribute a WHERE a.attnum > 0 AND a.attrelid IN (SELECT oid FROM rel)`},
	{"attrdef", "SELECT d.* FROM pg_catalog.pg_attrdef d WHERE d.adrelid IN (SELECT oid FROM rel)"},
	{"constraint", "SELECT c.* FROM pg_catalog.pg_constraint c WHERE c.oid >= 16384 AND (c.conrelid = 0 OR c.conrelid IN (SELECT oid FROM rel))"},
	{"index", "SELECT i.* FROM pg_catalog.pg_index i WHERE i.indexrelid IN (SELECT oid FROM rel)"},
	{"inherits", "SELECT i.* FROM pg_catalog.pg_inherits i WHERE i.inhrelid IN (SELECT oid FROM rel)"},
	{"partitioned", "SELECT p.* FROM pg_catalog.pg_partitioned_table p WHERE p.partrelid IN (SELECT oid FROM rel)"},
	{"trigger", "SELECT t.* FROM pg_catalog.pg_trigger t WHERE t.tgrelid IN (SELECT oid FROM rel)"},
	{"rewrite", "SELECT r.* FROM pg_catalog.pg_rewrite r WHERE r.ev_class IN (SELECT oid FROM rel)"},
	{"policy", "SELECT p.* FROM pg_catalog.pg_policy p WHERE p.polrelid IN (SELECT oid FROM rel)"},
	{"sequence", "SELECT s.* FROM pg_catalog.pg_sequence s WHERE s.seqrelid IN (SELECT oid FROM rel)"},
	{"statistic", "SELECT s.* FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid IN (SELECT oid FROM rel)"},
	{"proc", "SELECT p.* FROM pg_catalog.pg_proc p WHERE p.oid >= 16384 AND p.pronamespace NOT IN (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname LIKE 'pg\\_%' OR nspname = 'freehold')"},
	{"type", "SELECT t.* FROM pg_catalog.pg_type t WHERE t.oid >= 16384 AND t.typrelid = 0 AND t.typnamespace NOT IN (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname LIKE 'pg\\_%') AND (t.typelem = 0 OR NOT EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.oid = t.typelem AND e.typrelid <> 0))"},
	{"namespace", "SELECT n.* FROM pg_catalog.pg_namespace n WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'"},
	{"description", `SELECT d.* FROM pg_catalog.pg_description d WHERE d.objoid >= 16384 AND d.classoid <> ALL (ARRAY['pg_catalog.pg_publication', 'pg_catalog.pg_event_trigger']::pg_catalog.regclass[])
		AND NOT (d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objoid IN (SELECT oid FROM pg_catalog.pg_class WHERE relnamespace IN (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'freehold')))`},
	{"default_acl", "SELECT x.* FROM pg_catalog.pg_default_acl x"},
	{"enum", "SELECT x.* FROM pg_catalog.pg_enum x"},
	{"range", "SELECT x.* FROM pg_catalog.pg_range x WHERE x.rngtypid >= 16384"},
	{"extension", "SELECT x.* FROM pg_catalog.pg_extension x"},
	{"operator", "SELECT x.* FROM pg_catalog.pg_operator x WHERE x.oid >= 16384"},
	{"opclass", "SELECT x.* FROM pg_catalog.pg_opclass x WHERE x.oid >= 16384"},
	{"opfamily", "SELECT x.* FROM pg_catalog.pg_opfamily x WHERE x.oid >= 16384"},
	{"cast", "SELECT x.* FROM pg_catalog.pg_cast x WHERE x.oid >= 16384"},
	{"collation", "SELECT x.* FROM pg_catalog.pg_collation x WHERE x.oid >= 16384"},
	{"conversion", "SELECT x.* FROM pg_catalog.pg_conversion x WHERE x.oid >= 16384"},
	{"ts_config", "SELECT x.* FROM pg_catalog.pg_ts_config x WHERE x.oid >= 16384"},
	{"ts_config_map", "SELECT x.* FROM pg_catalog.pg_ts_config_map x WHERE x.mapcfg >= 16384"},
	{"ts_dict", "SELECT x.* FROM pg_catalog.pg_ts_dict x WHERE x.oid >= 16384"},
	{"event_trigger", "SELECT x.* FROM pg_catalog.pg_event_trigger x WHERE x.evtname NOT LIKE '" + schemachange.TriggerPrefix + "%'"},
	{"foreign_server", "SELECT x.* FROM pg_catalog.pg_foreign_server x"},
}

// fingerprintSQL hashes each catalog's rows, in no order. Rows are put into
// text by record_out, never by a cast, which somebody might have defined.
var fingerprintSQL = func() string {
	var b strings.Builder
	b.WriteString("WITH " + rel + " SELECT pg_catalog.md5(pg_catalog.string_agg(k || '=' || n::text || '/' || h::text, ',' ORDER BY k)) FROM (")
	for i, p := range parts {
		if i > 0 {
			b.WriteString(" UNION ALL ")
		}
		fmt.Fprintf(&b, `SELECT '%s' COLLATE "C" AS k, pg_catalog.count(*) AS n,
			coalesce(pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.textin(pg_catalog.record_out(x)), 0)), 0) AS h FROM (%s) x`+"\n", p.name, p.rows)
	}
	b.WriteString(") parts")
	return b.String()
}()

// FingerprintSQL is the query behind [Fingerprint], for callers that prepare
// or pipeline it. It takes no parameters and returns one text.
func FingerprintSQL() string { return fingerprintSQL }

// Fingerprint changes with every change of the database's schema, its
// comments, grants and policies, and with nothing else: not with data, VACUUM,
// ANALYZE, TRUNCATE, temporary tables or publications. It compares a database
// with itself at another time, not with another database.
func Fingerprint(ctx context.Context, q Querier) (string, error) {
	var s string
	if err := q.QueryRow(ctx, fingerprintSQL).Scan(&s); err != nil {
		return "", fmt.Errorf("schema fingerprint: %w", err)
	}
	return s, nil
}
