package schema

import (
	"context"
	_ "embed"
	"encoding/hex"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// documentSQL returns one text that holds all that a [Schema] is made of, and
// nothing that differs between databases of the same schema (no OIDs, no column
// numbers, no order of creation). $1 is the array of exposed schemas.
//
//go:embed document.sql
var documentSQL string

// digestSQL is the fingerprint of exactly that document, computed where it is.
var digestSQL = `SELECT pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(d.doc, 'UTF8')), 'hex') FROM (` + documentSQL + `) d`

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
