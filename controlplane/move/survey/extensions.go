package survey

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Extension is an installed extension.
type Extension struct{ Name, Version string }

// Extensions lists what is installed in the database.
func Extensions(ctx context.Context, q Querier) ([]Extension, error) {
	rows, err := q.Query(ctx, `SELECT extname::text, extversion FROM pg_catalog.pg_extension ORDER BY 1`)
	if err != nil {
		return nil, fmt.Errorf("list extensions: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Extension])
}

// Missing compares the extensions with what the target's server offers.
func Missing(ctx context.Context, target Querier, extensions []Extension) ([]Finding, error) {
	rows, err := target.Query(ctx, `SELECT name::text, default_version FROM pg_catalog.pg_available_extensions`)
	if err != nil {
		return nil, fmt.Errorf("list available extensions: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Extension])
	if err != nil {
		return nil, fmt.Errorf("list available extensions: %w", err)
	}
	offers := map[string]string{}
	for _, e := range list {
		offers[e.Name] = e.Version
	}
	var found []Finding
	for _, e := range extensions {
		version, ok := offers[e.Name]
		switch {
		case !ok:
			found = append(found, Finding{Level: Refuse, Code: "extension", Object: e.Name,
				Reason: "the extension is not installed on the target's server", Remedy: "install its package there"})
		case version != e.Version:
			found = append(found, Finding{Level: Warn, Code: "extension-version", Object: e.Name,
				Reason: fmt.Sprintf("version %s at the source becomes %s at the target", e.Version, version)})
		}
	}
	return found, nil
}

// extensionTablesSQL lists the tables that extensions keep, and for those
// whose rows a dump would carry the condition on them. written: somebody who
// is no superuser may change its rows.
const extensionTablesSQL = `
SELECT e.extname::text, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname),
	coalesce(c.oid = ANY (e.extconfig), false), coalesce(e.extcondition[pg_catalog.array_position(e.extconfig, c.oid)], ''),
	NOT o.rolsuper OR EXISTS (SELECT FROM pg_catalog.aclexplode(c.relacl) a LEFT JOIN pg_catalog.pg_authid g ON g.oid = a.grantee
		WHERE NOT coalesce(g.rolsuper, false) AND a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'))
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_catalog.pg_extension'::regclass
JOIN pg_catalog.pg_class c ON c.oid = d.objid AND d.classid = 'pg_catalog.pg_class'::regclass
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_authid o ON o.oid = c.relowner
WHERE d.deptype = 'e' AND c.relkind IN ('r', 'p') ORDER BY 1, 2`

// extensionTables finds tables of extensions that hold something of the
// tenant's. The extension's script makes them anew at the target with the rows
// that it brings, and no stream carries others: like PostGIS' reference
// systems they must be as the script made them, and nobody of the tenant's
// able to change that.
func extensionTables(ctx context.Context, conn *pgx.Conn) ([]Finding, error) {
	rows, err := conn.Query(ctx, extensionTablesSQL)
	if err != nil {
		return nil, fmt.Errorf("list tables of extensions: %w", err)
	}
	type table struct {
		Extension, Name string
		Configured      bool
		Condition       string
		Written         bool
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[table])
	if err != nil {
		return nil, fmt.Errorf("list tables of extensions: %w", err)
	}
	var found []Finding
	for _, t := range tables {
		f := Finding{Level: Refuse, Code: "extension-table", Object: t.Extension + " (" + t.Name + ")", Remedy: "drop the extension"}
		switch {
		case !t.Configured:
			f.Reason = "the extension keeps a table of its own, which a move does not carry"
		case t.Written:
			f.Reason, f.Remedy = "roles of the tenant may write to the extension's table, which a move does not carry", "REVOKE it from them, or drop the extension"
		default:
			var own bool
			// The condition is the extension's own, given by its script: a superuser's.
			if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+t.Name+" "+t.Condition+")").Scan(&own); err != nil {
				return nil, fmt.Errorf("look into %s of extension %s: %w", t.Name, t.Extension, err)
			}
			if !own {
				continue
			}
			f.Reason, f.Remedy = "rows were added to the extension's table, which a move does not carry", "delete them, or drop the extension"
		}
		found = append(found, f)
	}
	return found, nil
}
