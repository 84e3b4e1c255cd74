package audit

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/freehold-db/freehold/controlplane/audit/proof"
	"github.com/freehold-db/freehold/controlplane/catalog"
)

const exportPage = 1000

// Witness gives lines of what is known of the log elsewhere.
type Witness func(ctx context.Context) iter.Seq2[proof.Line, error]

// Elsewhere is what the places outside of the database say of the log, for one export.
type Elsewhere interface {
	// Newest gives what each place has last, marked as [proof.Anchor.Newest]: the log is to reach that far.
	Newest(ctx context.Context) iter.Seq2[proof.Line, error]
	// Upto gives all that is kept of sizes up to one, in the order of [proof.Merge].
	Upto(ctx context.Context, size int64) iter.Seq2[proof.Line, error]
}

// Export reads the whole log for [proof.Verify]: keys, the newest checkpoints
// of the log and of all places, what sources says, all entries with the
// checkpoints of before in between, and what sources says once more. Records
// that come meanwhile are left out. It holds no transaction open: as nothing
// here is ever changed, what was read first is of the log that is read later,
// or somebody tampers with it. It keeps a page of each place, whatever the
// log's length. Nil witnesses say nothing.
func (l *Log) Export(ctx context.Context, sources Witness, anchors Elsewhere) iter.Seq2[proof.Line, error] {
	return func(yield func(proof.Line, error) bool) {
		size, err := l.export(ctx, sources, anchors, func(line proof.Line) bool { return yield(line, nil) })
		switch {
		case err != nil:
			yield(proof.Line{}, fmt.Errorf("export the audit log: %w", catalog.Classify(err)))
		case size >= 0:
			yield(proof.Line{End: &proof.ExportDone{Records: size}}, nil)
		}
	}
}

// export yields everything but the end; the size is negative when nobody wants more.
func (l *Log) export(ctx context.Context, sources Witness, anchors Elsewhere, yield func(proof.Line) bool) (size int64, err error) {
	const enough = -1
	newest, err := l.Latest(ctx)
	if err != nil {
		return enough, err
	}
	first := []Witness{l.known(newest), nil, sources}
	if anchors != nil {
		first[1] = anchors.Newest
	}
	for _, w := range first {
		if more, err := pass(ctx, w, yield); err != nil || !more {
			return enough, err
		}
	}
	if err := l.pool.QueryRow(ctx, `select coalesce(max(position), 0) from audit_log`).Scan(&size); err != nil {
		return enough, err
	}
	turns := []iter.Seq2[proof.Line, error]{l.entries(ctx, size), l.checkpoints(ctx, newest.Size)}
	if anchors != nil {
		turns = append(turns, anchors.Upto(ctx, size))
	}
	inTurn := func(context.Context) iter.Seq2[proof.Line, error] { return proof.Merge(turns...) }
	for _, w := range []Witness{inTurn, sources} {
		if more, err := pass(ctx, w, yield); err != nil || !more {
			return enough, err
		}
	}
	return size, nil
}

func pass(ctx context.Context, w Witness, yield func(proof.Line) bool) (more bool, err error) {
	if w == nil {
		return true, nil
	}
	for line, err := range w(ctx) {
		if err != nil {
			return false, err
		}
		if !yield(line) {
			return false, nil
		}
	}
	return true, nil
}

// known gives the keys and the newest checkpoint.
func (l *Log) known(newest Checkpoint) Witness {
	return func(ctx context.Context) iter.Seq2[proof.Line, error] {
		return func(yield func(proof.Line, error) bool) {
			keys, err := l.Keys(ctx)
			if err != nil {
				yield(proof.Line{}, err)
				return
			}
			for _, k := range keys {
				if !yield(proof.Line{Key: &k}, nil) {
					return
				}
			}
			if newest.Size > 0 {
				yield(proof.Line{Checkpoint: newest.Note}, nil)
			}
		}
	}
}

// checkpoints gives those of sizes below one, a page at a time.
func (l *Log) checkpoints(ctx context.Context, below int64) iter.Seq2[proof.Line, error] {
	return func(yield func(proof.Line, error) bool) {
		for last := int64(0); ; {
			rows, err := l.pool.Query(ctx, `select size, note from audit_checkpoints where size > $1 and size < $2 order by size limit $3`, last, below, exportPage)
			if err != nil {
				yield(proof.Line{}, err)
				return
			}
			page, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c Checkpoint, err error) { return c, row.Scan(&c.Size, &c.Note) })
			if err != nil {
				yield(proof.Line{}, err)
				return
			}
			for _, c := range page {
				if last = c.Size; !yield(proof.Line{Checkpoint: c.Note}, nil) {
					return
				}
			}
			if len(page) < exportPage {
				return
			}
		}
	}
}

// entries gives all up to a position, a page at a time.
func (l *Log) entries(ctx context.Context, size int64) iter.Seq2[proof.Line, error] {
	return func(yield func(proof.Line, error) bool) {
		for last := int64(0); ; {
			page, err := l.page(ctx, last, size)
			if err != nil {
				yield(proof.Line{}, err)
				return
			}
			for _, e := range page {
				if last = e.Position; !yield(proof.Line{Entry: &e}, nil) {
					return
				}
			}
			if len(page) < exportPage {
				return
			}
		}
	}
}

// page reads entries after a position, with the hashes that are stored with each.
func (l *Log) page(ctx context.Context, after, size int64) ([]proof.Entry, error) {
	rows, err := l.pool.Query(ctx, `select position, source::text, sequence, logged_at, tenant, actor, action, happened, entry, chain_prev, chain_hash
		from audit_log where position > $1 and position <= $2 order by position limit $3`, after, size, exportPage)
	if err != nil {
		return nil, err
	}
	page, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e proof.Entry, err error) {
		err = row.Scan(&e.Position, &e.Source, &e.Sequence, &e.LoggedAt, &e.Tenant, &e.Actor, &e.Action, &e.Happened, &e.Leaf, &e.ChainPrev, &e.ChainHash)
		return e, err
	})
	if err != nil || len(page) == 0 {
		return page, err
	}
	from, until := page[0].Position-1, page[len(page)-1].Position
	first := tlog.StoredHashIndex(0, from)
	rows, err = l.pool.Query(ctx, `select index, hash from audit_tree where index >= $1 and index < $2`, first, tlog.StoredHashIndex(0, until))
	if err != nil {
		return nil, err
	}
	tree := map[int64]tlog.Hash{}
	var index int64
	var hash []byte
	_, err = pgx.ForEachRow(rows, []any{&index, &hash}, func() error {
		copied := tlog.Hash{}
		copy(copied[:], hash)
		tree[index] = copied
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, e := range page {
		for index, end := tlog.StoredHashIndex(0, e.Position-1), tlog.StoredHashIndex(0, e.Position); index < end; index++ {
			if h, ok := tree[index]; ok {
				page[i].Tree = append(page[i].Tree, h)
			}
		}
	}
	return page, nil
}

// Records gives the texts of the records after a position, in order, at most limit.
func (l *Log) Records(ctx context.Context, after int64, limit int) ([]string, error) {
	rows, err := l.pool.Query(ctx, `select entry from audit_log where position > $1 order by position limit $2`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", catalog.Classify(err))
	}
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", catalog.Classify(err))
	}
	return texts, nil
}

// SourceOf says what a catalog has written and sent, for [Log.Export].
func SourceOf(store *catalog.Store) Witness {
	return func(ctx context.Context) iter.Seq2[proof.Line, error] {
		return func(yield func(proof.Line, error) bool) {
			var s proof.Source
			// A record without a number is nobody's loss yet; one with a number may be in the log already.
			err := store.Pool().QueryRow(ctx, `select i.id::text, s.last,
					coalesce((select min(sequence) - 1 from audit_outbox), s.last),
					coalesce((select extract(epoch from clock_timestamp() - min((record->>'Time')::timestamptz)) from audit_outbox), 0)::float8
				from audit_sequence s, catalog_identity i`).Scan(&s.Source, &s.Written, &s.Sent, &s.Waiting)
			if err != nil {
				s.Unreachable = catalog.Classify(err).Error()
				if s.Source == "" {
					s.Source = "of this fleet"
				}
			}
			yield(proof.Line{Source: &s}, nil)
		}
	}
}

// Before is how many records were logged before a moment.
func (l *Log) Before(ctx context.Context, when time.Time) (position int64, err error) {
	err = l.pool.QueryRow(ctx, `select coalesce((select position from audit_log where logged_at < $1 order by position desc limit 1), 0)`, when).Scan(&position)
	if err != nil {
		return 0, fmt.Errorf("audit log: %w", catalog.Classify(err))
	}
	return position, nil
}
