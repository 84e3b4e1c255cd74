package schema

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// State changes with the schema ([Fingerprint]) and with what a snapshot does
// not hide beside: a TRUNCATE, or a rewrite of a table.
func State(ctx context.Context, q Querier) (state string, err error) {
	err = q.QueryRow(ctx, `SELECT (`+fingerprintSQL+`) || ' ' || (
		SELECT pg_catalog.md5(coalesce(pg_catalog.string_agg(c.oid::text || '/' || c.relfilenode::text, ',' ORDER BY c.oid), ''))
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND c.oid >= 16384 AND n.nspname <> 'freehold')`).Scan(&state)
	if err != nil {
		return "", fmt.Errorf("state of the schema: %w", err)
	}
	return state, nil
}

// Load takes over an archive that [Tools.Dump] made elsewhere.
func (t Tools) Load(ctx context.Context, r io.Reader) (*Archive, error) {
	dir, err := os.MkdirTemp("", "freehold-schema-") // mode 0700
	if err != nil {
		return nil, fmt.Errorf("load schema: %w", err)
	}
	a := &Archive{tools: t, dir: dir}
	if err := a.load(ctx, r); err != nil {
		return nil, errors.Join(fmt.Errorf("load schema: %w", err), a.Close())
	}
	return a, nil
}

func (a *Archive) load(ctx context.Context, r io.Reader) error {
	f, err := os.OpenFile(a.file(), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return a.contents(ctx)
}

// Open opens the archive's file, for who carries it elsewhere.
func (a *Archive) Open() (*os.File, error) { return os.Open(a.file()) }
