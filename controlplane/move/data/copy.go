package data

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/sleep"
)

// closeFor bounds the goodbye to a server.
const closeFor = 2 * time.Second

// chunkSize is about how much of a table one COPY carries.
const chunkSize = 24 << 20

// small is up to which size tables have their indexes built together.
const small = 4 << 20

// Connect opens an admin connection to the tenant's database on one side.
type Connect func(ctx context.Context) (*pgx.Conn, error)

// Job is one copy.
type Job struct {
	Source, Target Connect
	Snapshot       string // exported at the source; kept alive by the caller
	Tables         []survey.Table
	Streams        int // jobs at once
	// Index builds the keys and indexes of tables whose rows are there. It is
	// called once for each table, small ones together, while others are copied.
	Index func(ctx context.Context, tables []survey.Table) error
	// Progress is called from many goroutines, often; it must be quick.
	Progress func(Progress)
}

// Progress of a copy.
type Progress struct {
	Copied, Total int64 // bytes of tables on disk
	Compared      int64 // bytes compared
	Tables        int   // tables whose rows are at the target
}

// Report is what a finished copy did.
type Report struct {
	Rows, Bytes, Streamed int64         // Bytes on disk, Streamed over the pipes
	IndexedFor            time.Duration // from the start until all rows were there, with keys and indexes
	Tables                int
	Sums                  map[string]Sum // by table, equal on both sides
}

// MismatchError says in which tables the sides differ.
type MismatchError struct{ Tables []string }

func (e *MismatchError) Error() string {
	return "source and target differ in " + strings.Join(e.Tables, "; ")
}

// Run copies and compares all tables. The target's tables must be there, empty
// and without indexes. Errors: [*MismatchError]; any error leaves the target
// half-filled, to be thrown away.
func (j Job) Run(ctx context.Context) (Report, error) {
	r := &run{Job: j, queue: newQueue(), start: time.Now(), sides: map[uint32]*sides{}}
	tables := append([]survey.Table(nil), j.Tables...)
	sort.SliceStable(tables, func(a, b int) bool { return tables[a].Bytes > tables[b].Bytes })
	for _, t := range tables {
		r.total += t.Bytes
		r.sides[t.OID] = &sides{}
		if t.Bytes <= small {
			r.smallLeft++
		}
	}
	for _, t := range tables {
		r.plan(t)
	}
	if len(tables) > 0 {
		if err := r.queue.run(ctx, max(1, j.Streams), r.open); err != nil {
			return Report{}, err
		}
	}
	if err := r.dropTruncated(ctx); err != nil {
		return Report{}, err
	}
	return r.report()
}

// dropTruncated empties the target's copies of tables that the tenant
// truncated after the snapshot. TRUNCATE is the one change of data that a
// snapshot does not hide: such a table was copied whole, in part or not at
// all, and what was copied may refer to rows that were not. Since the stream
// brings the TRUNCATE and all that comes after it, nothing is the right copy.
func (r *run) dropTruncated(ctx context.Context) error {
	var filled []survey.Table
	for _, t := range r.Tables {
		if s := r.sides[t.OID]; s.source.Rows > 0 || s.target.Rows > 0 {
			filled = append(filled, t)
		}
	}
	if len(filled) == 0 {
		return nil
	}
	w, err := r.open(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	var truncated []string
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		if truncated, err = r.empty(ctx, w, filled); err == nil {
			break
		}
		if pg.Code(err) != pgerrcode.LockNotAvailable {
			return err
		}
		if err := sleep.For(ctx, pause); err != nil {
			return err
		}
	}
	if len(truncated) == 0 {
		return nil
	}
	_, err = w.target.Exec(ctx, "TRUNCATE ONLY "+strings.Join(truncated, ", ONLY "), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return fmt.Errorf("empty what was truncated meanwhile: %w", err)
	}
	return nil
}

// empty names the tables in which the snapshot sees no row any more, and has
// their sums say so. All are looked at in one transaction, whose locks keep
// them as they are meanwhile, and which gives way before it is in anybody's.
func (r *run) empty(ctx context.Context, w *worker, tables []survey.Table) (names []string, err error) {
	var gone []survey.Table
	err = inSnapshot(ctx, w.source, r.Snapshot, func() error {
		if _, err := w.source.Exec(ctx, "SET LOCAL lock_timeout = 200", pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		for _, t := range tables {
			var some bool
			if err := w.source.QueryRow(ctx, "SELECT EXISTS (SELECT FROM ONLY "+t.Ident()+")", pgx.QueryExecModeSimpleProtocol).Scan(&some); err != nil {
				return fmt.Errorf("look for %s: %w", t.Ident(), err)
			}
			if !some {
				gone = append(gone, t)
			}
		}
		return nil
	})
	if err != nil {
		_, rollback := w.source.Exec(ctx, "ROLLBACK", pgx.QueryExecModeSimpleProtocol)
		return nil, errors.Join(err, rollback)
	}
	for _, t := range gone {
		names = append(names, t.Ident())
		r.sides[t.OID] = &sides{}
		r.sides[t.OID].source.add(Sum{Hash: new(big.Int)})
		r.sides[t.OID].target.add(Sum{Hash: new(big.Int)})
	}
	return names, nil
}

// run is a Job under way.
type run struct {
	Job
	queue *queue
	start time.Time
	total int64

	copied, compared, streamed, rows atomic.Int64
	tablesDone                       atomic.Int64
	indexedFor                       atomic.Int64

	mu        sync.Mutex
	smallLeft int
	smallDone []survey.Table
	sides     map[uint32]*sides

	targetSnapshot bool // the snapshot is the target's, and the source at rest
}

// sides gathers the sums of one table.
type sides struct{ source, target Sum }

func (r *run) plan(t survey.Table) {
	chunks := split(t, chunkSize)
	left := &atomic.Int64{}
	left.Store(int64(len(chunks)))
	for _, c := range chunks {
		r.queue.add(second, func(ctx context.Context, w *worker) error {
			if err := r.copyChunk(ctx, w, t, c); err != nil {
				return err
			}
			if left.Add(-1) == 0 {
				r.copiedTable(t)
			}
			return nil
		})
	}
}

func (r *run) copyChunk(ctx context.Context, w *worker, t survey.Table, c chunk) error {
	// A transaction for each chunk, so that the tenant's own DDL and TRUNCATE
	// wait for a chunk at most.
	return inSnapshot(ctx, w.source, r.Snapshot, func() error {
		n, err := pipe(ctx, w.source.PgConn(), w.target.PgConn(), t, c, &r.streamed)
		if err != nil {
			return err
		}
		r.rows.Add(n)
		r.copied.Add(c.bytes)
		r.progress()
		return nil
	})
}

// copiedTable goes on with a table whose rows are at the target: compare the
// source's side at any time, the target's once the indexes are built.
func (r *run) copiedTable(t survey.Table) {
	r.tablesDone.Add(1)
	r.compare(t, true)
	ready := []survey.Table{t}
	if t.Bytes <= small {
		r.mu.Lock()
		r.smallDone = append(r.smallDone, t)
		r.smallLeft--
		if r.smallLeft > 0 {
			r.mu.Unlock()
			return
		}
		ready = r.smallDone
		r.mu.Unlock()
	}
	r.queue.add(first, func(ctx context.Context, _ *worker) error {
		if err := r.Index(ctx, ready); err != nil {
			return err
		}
		r.indexedFor.Store(max(r.indexedFor.Load(), int64(time.Since(r.start)))) // the greatest wins; a tie of two is no matter
		for _, t := range ready {
			r.compare(t, false)
		}
		return nil
	})
}

func (r *run) compare(t survey.Table, source bool) {
	for _, c := range split(t, chunkSize) {
		r.queue.add(third, func(ctx context.Context, w *worker) error {
			conn := w.target
			if source {
				conn = w.source
			}
			var sum Sum
			read := func() (err error) {
				sum, err = checksum(ctx, conn, t, c, !r.targetSnapshot)
				return err
			}
			var err error
			if source != r.targetSnapshot { // the side that goes on living is read in its snapshot
				err = inSnapshot(ctx, conn, r.Snapshot, read)
			} else {
				err = read()
			}
			if err != nil {
				return err
			}
			r.mu.Lock()
			if source {
				r.sides[t.OID].source.add(sum)
			} else {
				r.sides[t.OID].target.add(sum)
			}
			r.mu.Unlock()
			r.compared.Add(c.bytes / 2)
			r.progress()
			return nil
		})
	}
}

func (r *run) progress() {
	r.Progress(Progress{Copied: r.copied.Load(), Total: r.total, Compared: r.compared.Load(), Tables: int(r.tablesDone.Load())})
}

func (r *run) report() (Report, error) {
	rep := Report{Rows: r.rows.Load(), Bytes: r.total, Streamed: r.streamed.Load(), IndexedFor: time.Duration(r.indexedFor.Load()),
		Tables: len(r.Tables), Sums: map[string]Sum{}}
	differ := &MismatchError{}
	for _, t := range r.Tables {
		s := r.sides[t.OID]
		if !s.source.Equal(s.target) {
			differ.Tables = append(differ.Tables, fmt.Sprintf("%s (source %v, target %v)", t.Ident(), s.source, s.target))
		}
		rep.Sums[t.Ident()] = s.target
	}
	if len(differ.Tables) > 0 {
		return rep, differ
	}
	return rep, nil
}
