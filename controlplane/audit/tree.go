package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/freehold-db/freehold/controlplane/audit/proof"
	"github.com/freehold-db/freehold/controlplane/catalog"
)

// stored reads hashes of the tree. One that is missing is [ErrTampered].
func stored(ctx context.Context, db querier) tlog.HashReaderFunc {
	return func(indexes []int64) ([]tlog.Hash, error) {
		rows, err := db.Query(ctx, `select t.hash from unnest($1::bigint[]) with ordinality as want (index, n)
			join audit_tree t using (index) order by want.n`, indexes)
		if err != nil {
			return nil, err
		}
		hashes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h tlog.Hash, err error) {
			var b []byte
			if err := row.Scan(&b); err != nil || len(b) != len(h) {
				return h, errors.Join(err, ErrTampered)
			}
			return tlog.Hash(b), nil
		})
		if err == nil && len(hashes) != len(indexes) {
			err = fmt.Errorf("hashes of the tree are missing: %w", ErrTampered)
		}
		return hashes, err
	}
}

// treeSize is how many records the tree has.
func treeSize(ctx context.Context, tx pgx.Tx) (int64, error) {
	var last int64
	if err := tx.QueryRow(ctx, `select coalesce(max(index), -1) from audit_tree`).Scan(&last); err != nil || last < 0 {
		return 0, err
	}
	// What is stored last is the largest subtree that the last record completed.
	level, n := tlog.SplitStoredHashIndex(last)
	return (n + 1) << level, nil
}

// grow adds records to the tree, which has size of them.
func grow(ctx context.Context, tx pgx.Tx, size int64, texts []string) error {
	frontier, err := proof.OpenFrontier(size, stored(ctx, tx))
	if err != nil {
		return err
	}
	first := tlog.StoredHashIndex(0, size)
	var hashes [][]byte
	for _, text := range texts {
		for _, h := range frontier.Append(tlog.RecordHash([]byte(text))) {
			hashes = append(hashes, h[:])
		}
	}
	_, err = tx.Exec(ctx, `insert into audit_tree (index, hash)
		select $1 + n - 1, hash from unnest($2::bytea[]) with ordinality as r (hash, n)`, first, hashes)
	return err
}

// Inclusion is how a record is shown to be in the tree of the first size
// records. Errors: catalog.ErrNotFound if it is not among them.
func (l *Log) Inclusion(ctx context.Context, position, size int64) (tlog.RecordProof, error) {
	if position < 1 || position > size {
		return nil, fmt.Errorf("record %d of %d: %w", position, size, catalog.ErrNotFound)
	}
	p, err := tlog.ProveRecord(size, position-1, stored(ctx, l.pool))
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", catalog.Classify(err))
	}
	return p, nil
}

// Extension is how the tree of the first newer records is shown to have all
// that the one of the first older records has. Errors: catalog.ErrNotFound for
// sizes that are none.
func (l *Log) Extension(ctx context.Context, older, newer int64) (tlog.TreeProof, error) {
	if older < 1 || older > newer {
		return nil, fmt.Errorf("records %d to %d: %w", older, newer, catalog.ErrNotFound)
	}
	p, err := tlog.ProveTree(newer, older, stored(ctx, l.pool))
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", catalog.Classify(err))
	}
	return p, nil
}
