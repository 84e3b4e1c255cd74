package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
)

// genesis is what the first record follows.
var genesis = make([]byte, sha256.Size)

func chainHash(prev []byte, entry string) []byte {
	h := sha256.New()
	h.Write(prev)
	h.Write([]byte(entry))
	return h.Sum(nil)
}

// numbered is a record with its place in its source.
type numbered struct {
	sequence int64
	record   catalog.AuditRecord
}

// ErrDiverged: the source offers another record under a sequence that is in
// the log already (its database was set back, say). Nothing is overwritten.
var ErrDiverged = errors.New("audit source and log disagree")

// append adds those records of source that the log does not have yet, in one
// transaction. records are in order and without gaps.
func (l *Log) append(ctx context.Context, source string, records []numbered) error {
	tx, err := l.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = tx.Rollback(ctx) // nothing to do after a commit
	}()
	// One writer at a time; the lock goes with the transaction.
	if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtext('freehold audit log')), set_config('role', 'freehold_audit_writer', true)`); err != nil {
		return err
	}
	var position, last int64
	prev := genesis
	err = tx.QueryRow(ctx, `select position, hash from audit_log order by position desc limit 1`).Scan(&position, &prev)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	var now time.Time
	err = tx.QueryRow(ctx, `select coalesce(max(sequence), 0), clock_timestamp() from audit_log where source = $1`, source).Scan(&last, &now)
	if err != nil {
		return err
	}
	var batch pgx.Batch
	for _, n := range records {
		if n.sequence <= last {
			if err := sameAsLogged(ctx, tx, source, n); err != nil {
				return err
			}
			continue
		}
		position++
		entry, err := json.Marshal(hashed{position, source, n.sequence, now.UTC(), n.record})
		if err != nil {
			return err
		}
		hash := chainHash(prev, string(entry))
		batch.Queue(`insert into audit_log (position, source, sequence, logged_at, tenant, actor, action, happened, entry, prev_hash, hash)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`, position, source, n.sequence, now,
			n.record.Tenant, n.record.Actor.Name, n.record.Action, n.record.Time, string(entry), prev, hash)
		prev = hash
	}
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

func sameAsLogged(ctx context.Context, tx pgx.Tx, source string, n numbered) error {
	var entry string
	err := tx.QueryRow(ctx, `select entry from audit_log where source = $1 and sequence = $2`, source, n.sequence).Scan(&entry)
	if err != nil {
		return err
	}
	var logged hashed
	if err := json.Unmarshal([]byte(entry), &logged); err != nil {
		return fmt.Errorf("record %d of %s: %w", n.sequence, source, errors.Join(ErrDiverged, err))
	}
	before, err := json.Marshal(logged.Record)
	if err != nil {
		return err
	}
	now, err := json.Marshal(n.record)
	if err != nil {
		return err
	}
	if !bytes.Equal(before, now) {
		return fmt.Errorf("record %d of %s: %w", n.sequence, source, ErrDiverged)
	}
	return nil
}

// Verification is what Verify found.
type Verification struct {
	Records  int64
	Head     []byte   // hash of the last record
	Problems []string // empty: the chain is sound
}

const (
	verifyPage   = 1000
	mostProblems = 100
)

// Verify walks the whole chain: hashes, links, gaps, and that the columns say
// what the entries say. Errors are those of reading; what is wrong with the log is in Problems.
func (l *Log) Verify(ctx context.Context) (Verification, error) {
	v := Verification{Head: genesis}
	sequences := map[string]int64{}
	for {
		rows, err := l.pool.Query(ctx, `select `+columns+` from audit_log where position > $1 order by position limit $2`, v.Records, verifyPage)
		if err != nil {
			return v, fmt.Errorf("verify audit log: %w", catalog.Classify(err))
		}
		page, err := pgx.CollectRows(rows, scanRow)
		if err != nil {
			return v, fmt.Errorf("verify audit log: %w", catalog.Classify(err))
		}
		for _, r := range page {
			v.check(r, sequences)
		}
		if len(page) < verifyPage {
			return v, nil
		}
	}
}

func (v *Verification) check(r row, sequences map[string]int64) {
	if r.Position != v.Records+1 {
		v.problem("records %d to %d are missing", v.Records+1, r.Position-1)
	}
	if !bytes.Equal(r.prev, v.Head) {
		v.problem("record %d does not follow the one before", r.Position)
	}
	if !bytes.Equal(r.hash, chainHash(r.prev, r.entry)) {
		v.problem("record %d was changed: its hash is another", r.Position)
	}
	e, err := r.decode()
	switch {
	case err != nil:
		v.problem("%v", err)
	case e.Position != r.Position || e.Source != r.Source || e.Sequence != r.Sequence || !e.LoggedAt.Equal(r.LoggedAt) ||
		e.Record.Tenant != r.Record.Tenant || e.Record.Actor.Name != r.Record.Actor.Name || e.Record.Action != r.Record.Action ||
		!e.Record.Time.Truncate(time.Microsecond).Equal(r.Record.Time):
		v.problem("record %d: its columns say other than its entry", r.Position)
	case e.Sequence != sequences[e.Source]+1:
		v.problem("records %d to %d of %s are missing", sequences[e.Source]+1, e.Sequence-1, e.Source)
	}
	sequences[r.Source] = r.Sequence
	v.Records, v.Head = r.Position, r.hash
}

func (v *Verification) problem(format string, args ...any) {
	if len(v.Problems) < mostProblems {
		v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
	}
}
