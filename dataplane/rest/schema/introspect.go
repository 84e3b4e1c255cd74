package schema

import (
	"context"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freehold-db/freehold/internal/schemachange"
)

// documentSQL returns one text that holds all that a [Schema] is made of, and
// nothing that differs between databases of the same schema (no OIDs, no column
// numbers, no order of creation). $1 is the array of exposed schemas.
//
//go:embed document.sql
var documentSQL string

// digestSQL is the fingerprint of exactly that document, computed where it is.
var digestSQL = `SELECT pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(d.doc, 'UTF8')), 'hex') FROM (` + documentSQL + `) d`

// qualified makes Postgres name types with their schemas, for the rest of the
// transaction: what finds them later has another search path. Whoever may change
// the schema may also change the settings of its login, and leave temporary
// objects in a session; none of that is noted, so none may colour what is read.
// Unless pg_temp is named it comes before pg_catalog.
const qualified = "SELECT pg_catalog.set_config('search_path', 'pg_temp', true), pg_catalog.set_config('quote_all_identifiers', 'off', true)," +
	" pg_catalog.set_config('standard_conforming_strings', 'on', true), pg_catalog.set_config('client_encoding', 'UTF8', true)"

// digest reads the fingerprint of the exposed schemas; literal is them as an array.
func digest(ctx context.Context, conn *pgconn.PgConn, literal []byte) (Fingerprint, error) {
	var f Fingerprint
	text, err := value(ctx, conn, digestSQL, literal)
	if err != nil {
		return f, fmt.Errorf("read the schema's fingerprint: %w", err)
	}
	return f, f.parse(text)
}

// stampAndMark reads the stamp, nil for a database without, and the mark, "" for one without.
func stampAndMark(ctx context.Context, conn *pgconn.PgConn) (stamp []byte, mark string, err error) {
	result := conn.ExecParams(ctx, schemachange.StampAndMark, nil, nil, nil, nil).Read()
	var refused *pgconn.PgError
	switch {
	case errors.As(result.Err, &refused) && (refused.Code == pgerrcode.UndefinedTable || refused.Code == pgerrcode.InsufficientPrivilege):
		return nil, "", nil
	case result.Err != nil:
		return nil, "", fmt.Errorf("read the schema's stamp: %w", result.Err)
	case len(result.Rows) != 1 || len(result.Rows[0]) != 2:
		return nil, "", errors.New("read the schema's stamp: one row was expected")
	}
	return result.Rows[0][0], string(result.Rows[0][1]), nil
}

func (f *Fingerprint) parse(text []byte) error {
	if n, err := hex.Decode(f[:], text); err != nil || n != len(f) {
		return fmt.Errorf("read the schema's fingerprint: %d bytes of %q", n, text)
	}
	return nil
}

// ErrTooLarge is a schema of more than [Options.Document] bytes.
var ErrTooLarge = errors.New("the schema is too large")

// load reads the exposed schemas, up to most bytes of them: how large a tenant's
// are is his to choose, and what the connection can't take in would break it.
func load(ctx context.Context, conn *pgconn.PgConn, literal []byte, most int64) (*Schema, error) {
	document, err := value(ctx, conn, fmt.Sprintf("SELECT CASE WHEN pg_catalog.octet_length(d.doc) <= %d THEN d.doc END FROM (%s) d", most, documentSQL), literal)
	if err != nil {
		return nil, fmt.Errorf("introspect the schema: %w", err)
	}
	if document == nil {
		return nil, fmt.Errorf("introspect the schema: %w: more than %d bytes describe it", ErrTooLarge, most)
	}
	return Parse(document)
}

// value runs a statement of one parameter, or none for nil, that returns one value.
func value(ctx context.Context, conn *pgconn.PgConn, sql string, param []byte) ([]byte, error) {
	var params [][]byte
	if param != nil {
		params = [][]byte{param}
	}
	var batch pgconn.Batch
	batch.ExecParams(qualified, nil, nil, nil, nil)
	batch.ExecParams(sql, params, nil, nil, nil)
	results, err := conn.ExecBatch(ctx, &batch).ReadAll()
	if err != nil {
		return nil, err //nolint:wrapcheck // the callers say what they did
	}
	if len(results) != 2 || len(results[1].Rows) != 1 || len(results[1].Rows[0]) != 1 {
		return nil, errors.New("one row was expected")
	}
	return results[1].Rows[0][0], nil
}
