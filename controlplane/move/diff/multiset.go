package diff

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// buckets part a multiset, so that only what differs is read row by row; of so many at most.
	buckets, bucketsRead = 1024, 32
	// multisetTries bounds the tries of a table that differs: TRUNCATE shows through snapshots.
	multisetTries = 3
)

// bucket is a part of a multiset in figures.
type bucket struct {
	rows, bytes int64
	hash        string
}

// multiset compares a table without an ordered key, whole, in two snapshots
// of the same moment.
func (c *Comparison) multiset(ctx context.Context, t table, p *Progress) error {
	for try := 1; ; try++ {
		start := time.Now()
		found := Table{Name: t.ident()}
		rows, bytes, err := c.multisetOnce(ctx, t, &found)
		if errors.Is(err, errNotStill) {
			p.Found.Note = "writers never left the table alone for the moment that comparing it takes, and it has no ordered key by which it could be compared without"
			return nil
		}
		if err != nil {
			return err
		}
		if !found.Differs() || try == multisetTries {
			p.Found = found
			p.Rows, p.TableRows, p.Bytes = p.Rows+rows, p.TableRows+rows, p.Bytes+bytes
			return c.pace.rest(ctx, time.Since(start), bytes)
		}
	}
}

func (c *Comparison) multisetOnce(ctx context.Context, t table, found *Table) (rows, bytes int64, err error) {
	const snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL enable_seqscan = on; SELECT FROM pg_catalog.pg_class LIMIT 1"
	rollback := func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeFor)
		defer cancel()
		for _, conn := range []*pgx.Conn{c.serving, c.follower} {
			_, _ = conn.Exec(clean, "ROLLBACK", pgx.QueryExecModeSimpleProtocol) // a connection that is broken shows at its next use
		}
	}
	defer rollback()
	err = c.still(ctx, t, func(ctx context.Context) error {
		rollback() // of the try before
		if _, err := c.serving.Exec(ctx, snapshot, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		if err := c.barrier(ctx, quickBarrier); err != nil {
			return err
		}
		_, err := c.follower.Exec(ctx, snapshot, pgx.QueryExecModeSimpleProtocol)
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	serving, err := c.buckets(ctx, c.serving, t)
	if err != nil {
		return 0, 0, err
	}
	follower, err := c.buckets(ctx, c.follower, t)
	if err != nil {
		return 0, 0, err
	}
	var differ []int64
	for i := range int64(buckets) {
		rows, bytes = rows+serving[i].rows, bytes+serving[i].bytes
		if serving[i] != follower[i] {
			differ = append(differ, i)
		}
	}
	if len(differ) == 0 {
		return rows, bytes, nil
	}
	found.Stopped = len(differ) > bucketsRead
	return rows, bytes, c.bucketRows(ctx, t, differ[:min(len(differ), bucketsRead)], found)
}

func hashed(t table, columns string) string {
	return "SELECT " + columns + " FROM (SELECT pg_catalog.hashtextextended(x, 0) AS h, pg_catalog.octet_length(x) AS n, pg_catalog.left(x, " + fmt.Sprint(valueLen+1) + ") AS x FROM (SELECT " +
		rowText + " AS x FROM ONLY " + t.ident() + " AS t OFFSET 0) q OFFSET 0) hashed"
}

func (c *Comparison) buckets(ctx context.Context, conn *pgx.Conn, t table) (map[int64]bucket, error) {
	rows, err := conn.Query(ctx, hashed(t, fmt.Sprintf("h & %d, pg_catalog.count(*), pg_catalog.sum(n), pg_catalog.concat(pg_catalog.sum(h))", buckets-1))+" GROUP BY 1", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, fmt.Errorf("compare %s: %w", t.ident(), err)
	}
	found := map[int64]bucket{}
	var i int64
	var b bucket
	if _, err := pgx.ForEachRow(rows, []any{&i, &b.rows, &b.bytes, &b.hash}, func() error {
		found[i] = b
		return nil
	}); err != nil {
		return nil, fmt.Errorf("compare %s: %w", t.ident(), err)
	}
	return found, nil
}

// copies are equal rows: how many there are, and how they begin.
type copies struct {
	n    int64
	text string
}

// bucketRows finds the rows that differ in some buckets.
func (c *Comparison) bucketRows(ctx context.Context, t table, which []int64, found *Table) error {
	read := func(conn *pgx.Conn) (map[int64]copies, error) {
		rows, err := conn.Query(ctx, hashed(t, `h, pg_catalog.count(*), pg_catalog.min(x COLLATE pg_catalog."C")`)+fmt.Sprintf(" WHERE h & %d = ANY ($1) GROUP BY h", buckets-1), pgx.QueryExecModeExec, which)
		if err != nil {
			return nil, err
		}
		list := map[int64]copies{}
		var h int64
		var one copies
		_, err = pgx.ForEachRow(rows, []any{&h, &one.n, &one.text}, func() error {
			list[h] = one
			return nil
		})
		return list, err
	}
	serving, err := read(c.serving)
	if err != nil {
		return fmt.Errorf("compare %s: %w", t.ident(), err)
	}
	follower, err := read(c.follower)
	if err != nil {
		return fmt.Errorf("compare %s: %w", t.ident(), err)
	}
	note := func(kind string, h, n int64, text string) {
		if c.opt.KeysOnly {
			text = fmt.Sprintf("row with hash %016x", uint64(h)) //nolint:gosec // the same bits
		}
		d := RowDifference{Kind: kind, Key: clip(text)}
		if n > 1 {
			d.Count = n
		}
		found.add(d)
	}
	for h, s := range serving {
		if n := s.n - follower[h].n; n > 0 {
			note(Missing, h, n, s.text)
		}
	}
	for h, f := range follower {
		if n := f.n - serving[h].n; n > 0 {
			note(Extra, h, n, f.text)
		}
	}
	return nil
}
