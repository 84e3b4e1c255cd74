package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/freehold-db/freehold/controlplane/audit/proof"
	"github.com/freehold-db/freehold/controlplane/catalog"
)

// ErrRetired: checkpoints are signed with a newer key by now.
var ErrRetired = errors.New("audit signing key is retired")

// Origin is what the log is called in its checkpoints.
func (l *Log) Origin(ctx context.Context) (string, error) {
	var id string
	if err := l.pool.QueryRow(ctx, `select id::text from audit_identity`).Scan(&id); err != nil {
		return "", fmt.Errorf("audit log: %w", catalog.Classify(err))
	}
	return "freehold-audit/" + id, nil
}

// Checkpoint is a signed one, as it is kept beside the log.
type Checkpoint struct {
	Size     int64
	Note     string
	SignedAt time.Time
}

// Sign signs the log as it is now, and returns the checkpoint; that of before
// if there are no more records than then, and one of no size for an empty log.
// A key that never signed is made known, and signs from here on instead of the
// one before. It refuses what is no continuation of the checkpoint before, and
// of since, which the caller kept (its zero value: none).
// Errors: [ErrTampered], [ErrRetired], catalog.ErrUnavailable.
func (l *Log) Sign(ctx context.Context, s *proof.Signer, since proof.Checkpoint) (c Checkpoint, err error) {
	err = l.write(ctx, func(tx pgx.Tx) error {
		last, err := latest(ctx, tx)
		if err != nil {
			return err
		}
		if err := holdKey(ctx, tx, s.VerifierKey(), last.Size); err != nil {
			return err
		}
		c, err = signNext(ctx, tx, s, last, since)
		return err
	})
	if err != nil {
		return c, fmt.Errorf("sign the audit log: %w", catalog.Classify(err))
	}
	return c, nil
}

// holdKey makes sure that the key is the one that signs.
func holdKey(ctx context.Context, tx pgx.Tx, key string, signed int64) error {
	var newest, known bool
	err := tx.QueryRow(ctx, `select exists (select from audit_keys where verifier = $1),
		coalesce((select verifier from audit_keys order by from_size desc, since desc limit 1) = $1, false)`, key).Scan(&known, &newest)
	switch {
	case err != nil || newest:
		return err
	case known:
		return ErrRetired
	}
	_, err = tx.Exec(ctx, `insert into audit_keys (verifier, from_size) values ($1, $2)`, key, signed+1)
	return err
}

func signNext(ctx context.Context, tx pgx.Tx, s *proof.Signer, last Checkpoint, since proof.Checkpoint) (Checkpoint, error) {
	size, err := treeSize(ctx, tx)
	if err != nil {
		return last, err
	}
	if err := continues(ctx, tx, size, since); err != nil {
		return last, err
	}
	if last.Size > 0 {
		before, err := proof.Peek([]byte(last.Note))
		if err != nil {
			return last, errors.Join(err, ErrTampered)
		}
		if err := continues(ctx, tx, size, before); err != nil || size == last.Size {
			return last, err
		}
	}
	if size == 0 {
		return last, nil
	}
	root, err := tlog.TreeHash(size, stored(ctx, tx))
	if err != nil {
		return last, err
	}
	note, err := s.Sign(size, root)
	if err != nil {
		return last, err
	}
	c := Checkpoint{Size: size, Note: string(note)}
	return c, tx.QueryRow(ctx, `insert into audit_checkpoints (size, note) values ($1, $2) returning signed_at`, size, c.Note).Scan(&c.SignedAt)
}

// continues makes sure that the stored tree still has what a checkpoint said.
func continues(ctx context.Context, tx pgx.Tx, size int64, c proof.Checkpoint) error {
	if c.Size == 0 {
		return nil
	}
	if c.Size > size {
		return fmt.Errorf("%d records were signed, and the tree has %d: %w", c.Size, size, ErrTampered)
	}
	root, err := tlog.TreeHash(c.Size, stored(ctx, tx))
	if err != nil {
		return err
	}
	if root != c.Root {
		return fmt.Errorf("the first %d records are not those that were signed: %w", c.Size, ErrTampered)
	}
	return nil
}

func latest(ctx context.Context, db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}) (c Checkpoint, err error) {
	err = db.QueryRow(ctx, `select size, note, signed_at from audit_checkpoints order by size desc limit 1`).Scan(&c.Size, &c.Note, &c.SignedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return c, err
}

// Latest is the newest checkpoint; one of no size if nothing was signed yet.
func (l *Log) Latest(ctx context.Context) (Checkpoint, error) {
	c, err := latest(ctx, l.pool)
	if err != nil {
		return c, fmt.Errorf("audit log: %w", catalog.Classify(err))
	}
	return c, nil
}

// Keys are the verifier keys, each with the sizes that it signed or signs.
func (l *Log) Keys(ctx context.Context) (proof.Keys, error) {
	rows, err := l.pool.Query(ctx, `select verifier, from_size from audit_keys order by from_size, since`)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", catalog.Classify(err))
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (k proof.Key, err error) {
		return k, row.Scan(&k.Verifier, &k.From)
	})
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", catalog.Classify(err))
	}
	var keys proof.Keys
	for i, k := range all {
		if i+1 < len(all) {
			if k.Until = all[i+1].From - 1; k.Until < k.From {
				continue // it never signed
			}
		}
		keys = append(keys, k)
	}
	return keys, nil
}
