// Package diff compares the two sides of a move row by row while clients write
// at one of them and the other follows, and the rest of both databases object
// by object.
//
// No moment is the same at both sides, so nothing is concluded from one look.
// A range of keys is read at the serving side, then a barrier is passed, then
// the range is read at the following side: all that the first reading saw has
// been applied by then. A key whose rows are equal is therefore right as of
// the first reading. One whose rows differ may have been changed in between,
// and is looked at again; what still differs is read while a lock, held for
// as long as a barrier takes, keeps writers off the table: such a difference is
// real. Nothing else is held, neither snapshots nor locks, so that a comparison
// can go slowly, stop at any point, and go on elsewhere.
//
// Tables without a key that both sides put in the same order are compared as
// multisets of rows, in two snapshots taken under such a lock.
// See docs/decisions/0016-verify-while-it-runs.md.
//
// Import law: of this module, diff imports internal packages, controlplane/move/stream and survey only.
package diff

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/move/stream"
	"github.com/freehold-db/freehold/internal/sleep"
)

// Connect opens a connection to the tenant's database on one side.
type Connect func(ctx context.Context) (*pgx.Conn, error)

// Side is one side, as an admin and as the login that reads its tables: to read
// one runs what its owner wrote, with the reader's rights.
type Side struct{ Admin, Reader Connect }

// Pair is both sides: clients write at Serving, and Follower is subscribed to it.
type Pair struct{ Serving, Follower Side }

// Options of a comparison. Zero values mean the default in brackets.
type Options struct {
	// KeysOnly has differences tell keys and nothing else of the rows [also which columns differ].
	KeysOnly bool
	// Sample is the percentage of each table's ranges that are compared [100].
	// The first range of each table always is, and tables without an ordered key are, whole.
	Sample float64
	// Seed chooses the sample; the same chooses the same.
	Seed string
	// MaxRate bounds the bytes per second that are read at each side [as much as half of one connection's time brings].
	MaxRate int64
	// Patience bounds the wait for what is written at one side to arrive at the other [2 min].
	Patience time.Duration
	// Waiting is told what is waited for, "" when it goes on; it may be nil.
	Waiting func(why string)
}

// Kinds of differences between rows.
const (
	Missing = "missing" // at the following side
	Extra   = "extra"   // at the following side
	Changed = "changed"
)

// RowDifference is one row that differs.
type RowDifference struct {
	Kind string `json:"kind"`
	// Key names the row: "id=5", or, in a table without an ordered key, the row's beginning or hash.
	Key string `json:"key"`
	// Columns that differ, if the row is at both sides.
	Columns []string `json:"columns,omitempty"`
	// Count is how often the row is missing or extra, if more than once.
	Count int64 `json:"count,omitempty"`
}

// Table is what became of a table that is not equal.
type Table struct {
	Name    string `json:"table"`
	Missing int64  `json:"missing,omitempty"`
	Extra   int64  `json:"extra,omitempty"`
	Changed int64  `json:"changed,omitempty"`
	// Rows are the first differences; Stopped: there were so many that the rest of the table was not read.
	Rows    []RowDifference `json:"rows,omitempty"`
	Stopped bool            `json:"stopped,omitempty"`
	// Unproven counts keys that differed at every look, but were never held
	// still: writers kept the table for themselves. They count as differences.
	Unproven int64 `json:"unproven,omitempty"`
	// Note says why rows were not compared.
	Note string `json:"note,omitempty"`
}

const (
	// listed bounds the differences that are listed of one table, listedInAll
	// those of all, most those of one table that are looked for.
	listed, listedInAll, most = 100, 2000, 1000
	// valueLen bounds a value in a report, in characters.
	valueLen = 120
)

func (t *Table) add(d RowDifference) {
	n := max(d.Count, 1)
	switch d.Kind {
	case Missing:
		t.Missing += n
	case Extra:
		t.Extra += n
	default:
		t.Changed += n
	}
	if len(t.Rows) < listed {
		t.Rows = append(t.Rows, d)
	}
}

// Differs tells whether anything was found.
func (t *Table) Differs() bool {
	return t.Missing+t.Extra+t.Changed+t.Unproven > 0 || t.Note != ""
}

func (t *Table) found() int64 { return t.Missing + t.Extra + t.Changed + t.Unproven }

// Progress is where a comparison is; kept by the caller, it goes on from there,
// in another process too.
type Progress struct {
	// Table is under way; tables before it, by name, are done.
	Table string `json:"table,omitempty"`
	// After is the last key compared in it, Range counts its ranges so far (below
	// 0: all of it is compared), and Found what differs in it.
	After []string `json:"after,omitempty"`
	Range int      `json:"range,omitempty"`
	Found Table    `json:"found"`
	// TableRows counts the rows of Table so far.
	TableRows int64 `json:"table_rows,omitempty"`

	Tables int   `json:"tables"` // compared in all
	Rows   int64 `json:"rows"`   // compared at the serving side; those of ranges that a sample left out don't count
	Bytes  int64 `json:"bytes"`  // of these rows as text
	// Differ are the tables that differ, and Listed how many rows they list together.
	Differ []Table `json:"differ,omitempty"`
	Listed int     `json:"listed,omitempty"`
}

// Comparison is one under way, with its connections.
type Comparison struct {
	pair Pair
	opt  Options
	pace *pace

	serving, follower *pgx.Conn
	mark              *pgx.Conn // serving, as an admin: barriers
	seen              *pgx.Conn // follower, as an admin: barriers
	lock              *pgx.Conn // serving: keeps writers off a table
}

// settings fix how values are put into text, on both sides alike, bound what a
// session may keep others from, and have keys looked up by their index.
const settings = "SET extra_float_digits = 1; SET DateStyle = 'ISO, MDY'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; " +
	"SET bytea_output = 'hex'; SET xmloption = 'content'; SET lc_monetary = 'C'; SET search_path = ''; " +
	"SET max_parallel_workers_per_gather = 0; SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"

// adminSettings: names of objects are in the server's language.
const adminSettings = "; SET lc_messages = 'C'"

// lockSettings: a worker that is stopped must not keep a table's writers waiting.
const lockSettings = "; SET lock_timeout = '200ms'; SET statement_timeout = '2s'; SET idle_in_transaction_session_timeout = '2s'"

// Open connects. Close must be called.
func Open(ctx context.Context, p Pair, o Options) (_ *Comparison, err error) {
	if o.Patience <= 0 {
		o.Patience = 2 * time.Minute
	}
	c := &Comparison{pair: p, opt: o, pace: newPace(o.MaxRate)}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	for _, s := range []struct {
		conn    **pgx.Conn
		connect Connect
		sql     string
	}{
		{&c.serving, p.Serving.Reader, settings}, {&c.follower, p.Follower.Reader, settings}, {&c.lock, p.Serving.Reader, settings + lockSettings},
		{&c.mark, p.Serving.Admin, settings + adminSettings}, {&c.seen, p.Follower.Admin, settings + adminSettings},
	} {
		if *s.conn, err = s.connect(ctx); err != nil {
			return nil, err
		}
		if _, err = (*s.conn).Exec(ctx, s.sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return nil, fmt.Errorf("compare: %w", err)
		}
	}
	return c, nil
}

// closeFor bounds the goodbye to a server.
const closeFor = 2 * time.Second

// Close closes the connections.
func (c *Comparison) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeFor)
	defer cancel()
	for _, conn := range []*pgx.Conn{c.serving, c.follower, c.mark, c.seen, c.lock} {
		if conn != nil {
			_ = conn.Close(ctx) // the server notices either way
		}
	}
}

// ErrNoBarrier: what is written at the serving side does not arrive at the
// other: the stream is broken, far behind, or leads elsewhere by now.
var ErrNoBarrier = errors.New("changes don't arrive at the following side")

// quickBarrier bounds the wait for a barrier under a lock; errSlow is what one is called that takes longer.
const quickBarrier = time.Second

var errSlow = errors.New("too slow to have writers wait for it")

// barrier returns once all that was committed at the serving side before the
// call is applied at the other. Errors: [ErrNoBarrier], errSlow.
func (c *Comparison) barrier(ctx context.Context, within time.Duration) error {
	token, start := uuid.NewString(), time.Now()
	if _, err := c.mark.Exec(ctx, stream.BarrierSQL, token); err != nil {
		return fmt.Errorf("write barrier: %w", err)
	}
	waits := false
	for pause := 300 * time.Microsecond; ; pause = min(2*pause, 50*time.Millisecond) {
		there, err := stream.Seen(ctx, c.seen, token)
		if err != nil {
			return err
		}
		if there {
			if waits {
				c.waiting("")
			}
			return nil
		}
		took := time.Since(start)
		switch {
		case took > within && within == quickBarrier:
			return errSlow
		case took > within:
			return fmt.Errorf("%w, not within %v", ErrNoBarrier, within)
		}
		if took > time.Second {
			waits = true
			c.waiting(fmt.Sprintf("for changes to arrive, %v so far", took.Round(time.Second)))
		}
		if err := sleep.For(ctx, pause); err != nil {
			return err
		}
	}
}

func (c *Comparison) waiting(why string) {
	if c.opt.Waiting != nil {
		c.opt.Waiting(why)
	}
}
