package schema

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// documentSQL returns one text that holds all that a [Schema] is made of, and
// nothing that differs between databases of the same schema (no OIDs, no column
// numbers, no order of creation). $1 is the array of exposed schemas.
const documentSQL = `
SELECT coalesce(json_agg(json_build_object(
         'Schema', n.nspname, 'Name', c.relname, 'Kind', c.relkind::text,
         'Columns', coalesce(cols.doc, '[]'), 'Keys', coalesce(keys.doc, '[]'))
       ORDER BY n.nspname, c.relname), '[]')::text AS doc
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN LATERAL (
       SELECT json_agg(json_build_object(
                'Name', a.attname, 'Type', pg_catalog.format_type(a.atttypid, -1), 'Base', coalesce(b.typname, t.typname),
                'Nullable', NOT a.attnotnull, 'HasDefault', a.atthasdef,
                'Identity', a.attidentity <> '', 'Generated', a.attgenerated <> '', 'DomainNotNull', t.typtype = 'd' AND t.typnotnull)
              ORDER BY a.attname) AS doc
         FROM pg_catalog.pg_attribute a
         JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
         LEFT JOIN pg_catalog.pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) cols ON true
  LEFT JOIN LATERAL (
       SELECT json_agg(json_build_object(
                'Name', k.conname, 'Kind', k.contype::text,
                'Columns', (SELECT json_agg(a.attname ORDER BY u.n)
                              FROM unnest(k.conkey) WITH ORDINALITY u(attnum, n)
                              JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum),
                'ToSchema', tn.nspname, 'ToName', tc.relname,
                'ToColumns', (SELECT json_agg(a.attname ORDER BY u.n)
                              FROM unnest(k.confkey) WITH ORDINALITY u(attnum, n)
                              JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum))
              ORDER BY k.conname) AS doc
         FROM pg_catalog.pg_constraint k
         LEFT JOIN pg_catalog.pg_class tc ON tc.oid = k.confrelid
         LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = tc.relnamespace
        WHERE k.conrelid = c.oid AND k.contype IN ('p', 'u', 'f')) keys ON true
 WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition`

// digestSQL is the fingerprint of exactly that document, computed where it is.
const digestSQL = `SELECT pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(d.doc, 'UTF8')), 'hex') FROM (` + documentSQL + `) d`

// digest reads the fingerprint of the exposed schemas; literal is them as an array.
func digest(ctx context.Context, conn *pgconn.PgConn, literal []byte) (Fingerprint, error) {
	var f Fingerprint
	text, err := value(ctx, conn, digestSQL, literal)
	if err != nil {
		return f, fmt.Errorf("read the schema's fingerprint: %w", err)
	}
	if n, err := hex.Decode(f[:], text); err != nil || n != len(f) {
		return f, fmt.Errorf("read the schema's fingerprint: %d bytes of %q", n, text)
	}
	return f, nil
}

// load reads the exposed schemas.
func load(ctx context.Context, conn *pgconn.PgConn, literal []byte) (*Schema, error) {
	document, err := value(ctx, conn, documentSQL, literal)
	if err != nil {
		return nil, fmt.Errorf("introspect the schema: %w", err)
	}
	return Parse(document)
}

// value runs a statement that returns one value.
func value(ctx context.Context, conn *pgconn.PgConn, sql string, param []byte) ([]byte, error) {
	result := conn.ExecParams(ctx, sql, [][]byte{param}, nil, nil, nil).Read()
	if result.Err != nil {
		return nil, result.Err
	}
	if len(result.Rows) != 1 || len(result.Rows[0]) != 1 {
		return nil, fmt.Errorf("%d rows where one was expected", len(result.Rows))
	}
	return result.Rows[0][0], nil
}
