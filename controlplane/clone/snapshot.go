package clone

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/move/schema"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/operation"
)

// look begins the snapshot and reads in it what the copy needs to know.
func (c *copier) look(ctx context.Context) (keys survey.Owned, err error) {
	if c.src, err = c.source(ctx); err != nil {
		return keys, err
	}
	// The transaction ends with its connection.
	if _, err := c.src.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", pgx.QueryExecModeSimpleProtocol); err != nil {
		return keys, err
	}
	if err := c.src.QueryRow(ctx, "SELECT pg_catalog.pg_export_snapshot(), pg_catalog.now()").Scan(&c.snapshot, &c.snapshotAt); err != nil {
		return keys, fmt.Errorf("snapshot of the source: %w", err)
	}
	moving, err := beingMoved(ctx, c.src)
	if err != nil {
		return keys, err
	}
	if moving {
		return keys, operation.Wait(2*time.Second, whyMoving)
	}
	if c.state, err = stateOf(ctx, c.src); err != nil {
		return keys, err
	}
	tables, err := survey.Tables(ctx, c.src)
	if err != nil {
		return keys, err
	}
	c.tables = c.s.wanted(c.r, tables)
	if c.views, err = survey.MaterializedViews(ctx, c.src); err != nil {
		return keys, err
	}
	if err := c.readSequences(ctx); err != nil {
		return keys, err
	}
	return survey.Keys(ctx, c.src)
}

// wanted are the tables whose rows are copied.
func (s *Service) wanted(r *run, tables []survey.Table) []survey.Table {
	if !r.Data.SchemaOnly {
		return tables
	}
	var own []survey.Table
	for _, t := range tables {
		if t.Schema == migrations {
			own = append(own, t)
		}
	}
	return own
}

// stateOf changes with the schema and with what a snapshot does not hide: a
// TRUNCATE, or a rewrite of a table.
func stateOf(ctx context.Context, q survey.Querier) (state string, err error) {
	err = q.QueryRow(ctx, `SELECT (`+schema.FingerprintSQL()+`) || ' ' || (
		SELECT pg_catalog.md5(coalesce(pg_catalog.string_agg(c.oid::text || '/' || c.relfilenode::text, ',' ORDER BY c.oid), ''))
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND c.oid >= 16384 AND n.nspname <> 'freehold')`).Scan(&state)
	if err != nil {
		return "", fmt.Errorf("state of the source: %w", err)
	}
	return state, nil
}

// changed tells whether something came in between that the snapshot did not hide.
func (c *copier) changed(ctx context.Context) (bool, error) {
	conn, err := c.source(ctx)
	if err != nil {
		return false, err
	}
	defer closeConn(conn)
	now, err := stateOf(ctx, conn)
	return now != c.state, err
}

// explain says of a copy that failed whether it did because the source changed.
func (c *copier) explain(ctx context.Context, err error) error {
	if c.state == "" || ctx.Err() != nil || errors.Is(err, errChanged) || errors.Is(err, operation.ErrLeaseLost) {
		return err
	}
	if yes, lookErr := c.changed(ctx); lookErr == nil && yes {
		return fmt.Errorf("%w: %w", errChanged, err)
	}
	return err
}

// check makes sure that all of the copy is of one moment.
func (c *copier) check(ctx context.Context) error {
	yes, err := c.changed(ctx)
	if err != nil {
		return err
	}
	if yes {
		return errChanged
	}
	return c.blank.Filled(ctx)
}
