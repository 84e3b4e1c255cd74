package shard

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// checkpointsScript makes the table in which a shard keeps checkpoints of the
// audit log: a witness that whoever rewrites the audit database does not reach.
// Tenants' logins can't connect to the database that it is in. A log that was
// made anew has other checkpoints of the same sizes; both are kept.
const checkpointsScript = `
CREATE SCHEMA IF NOT EXISTS freehold_audit;
REVOKE ALL ON SCHEMA freehold_audit FROM PUBLIC;
CREATE TABLE IF NOT EXISTS freehold_audit.checkpoints (
  note text PRIMARY KEY,
  size bigint NOT NULL,
  kept_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp());
REVOKE ALL ON freehold_audit.checkpoints FROM PUBLIC;
CREATE INDEX IF NOT EXISTS checkpoints_by_size ON freehold_audit.checkpoints (size, note);
CREATE OR REPLACE FUNCTION freehold_audit.refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  RAISE EXCEPTION '% of checkpoints is refused', tg_op USING ERRCODE = 'restrict_violation';
END $$;
REVOKE ALL ON FUNCTION freehold_audit.refuse() FROM PUBLIC;
CREATE OR REPLACE TRIGGER checkpoints_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON freehold_audit.checkpoints
  FOR EACH STATEMENT EXECUTE FUNCTION freehold_audit.refuse();
`

// KeepCheckpoint adds a checkpoint of the audit log to those that the shard
// keeps. One that it has already is no error.
func (f *Fleet) KeepCheckpoint(ctx context.Context, id shardmap.ShardID, size int64, note string) error {
	conn, err := f.Admin(ctx, id, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	if there, err := hasCheckpoints(ctx, conn); err != nil {
		return fmt.Errorf("shard %s: checkpoints: %w", id, err)
	} else if !there {
		if err := makeCheckpoints(ctx, conn); err != nil {
			return fmt.Errorf("shard %s: checkpoints: %w", id, err)
		}
	}
	_, err = conn.Exec(ctx, "INSERT INTO freehold_audit.checkpoints (note, size) VALUES ($1, $2) ON CONFLICT DO NOTHING", note, size)
	if err != nil {
		return fmt.Errorf("shard %s: checkpoints: %w", id, err)
	}
	return nil
}

// makeCheckpoints makes the table, and the index that an older version did not make, unless another replica just did.
func makeCheckpoints(ctx context.Context, conn *pgx.Conn) error {
	if err := lockSession(ctx, conn, lockPrepare); err != nil {
		return err
	}
	defer unlockSession(ctx, conn, lockPrepare)
	if there, err := hasCheckpoints(ctx, conn); err != nil || there {
		return err
	}
	return script(ctx, conn, checkpointsScript)
}

func hasCheckpoints(ctx context.Context, conn *pgx.Conn) (there bool, err error) {
	err = conn.QueryRow(ctx, "SELECT pg_catalog.to_regclass('freehold_audit.checkpoints_by_size') IS NOT NULL").Scan(&there)
	return there, err
}

// Checkpoint is a signed checkpoint of the audit log, and the size that it was given with.
type Checkpoint struct {
	Size int64
	Note string
}

// Checkpoints are those of the audit log that the shard keeps, by size, of sizes
// up to upTo: at most limit of those that come after one (its zero value: from the first on).
func (f *Fleet) Checkpoints(ctx context.Context, id shardmap.ShardID, after Checkpoint, upTo int64, limit int) ([]Checkpoint, error) {
	return f.checkpoints(ctx, id, "WHERE (size, note) > ($1, $2) AND size <= $3 ORDER BY size, note LIMIT $4", after.Size, after.Note, upTo, limit)
}

// NewestCheckpoints are those of the largest size.
func (f *Fleet) NewestCheckpoints(ctx context.Context, id shardmap.ShardID) ([]string, error) {
	newest, err := f.checkpoints(ctx, id, "WHERE size = (SELECT pg_catalog.max(size) FROM freehold_audit.checkpoints) ORDER BY note")
	notes := make([]string, len(newest))
	for i, c := range newest {
		notes[i] = c.Note
	}
	return notes, err
}

func (f *Fleet) checkpoints(ctx context.Context, id shardmap.ShardID, which string, args ...any) ([]Checkpoint, error) {
	conn, err := f.Admin(ctx, id, maintenance)
	if err != nil {
		return nil, err
	}
	defer closeConn(ctx, conn)
	var there bool
	if err = conn.QueryRow(ctx, "SELECT pg_catalog.to_regclass('freehold_audit.checkpoints') IS NOT NULL").Scan(&there); err != nil || !there {
		return nil, err
	}
	rows, err := conn.Query(ctx, "SELECT size, note FROM freehold_audit.checkpoints "+which, args...)
	if err != nil {
		return nil, fmt.Errorf("shard %s: checkpoints: %w", id, err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Checkpoint])
	if err != nil {
		return nil, fmt.Errorf("shard %s: checkpoints: %w", id, err)
	}
	return found, nil
}
