package data

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/move/pace"
	"github.com/freehold-db/freehold/controlplane/move/survey"
)

// closeFor bounds the goodbye to a server.
const closeFor = 2 * time.Second

// chunkSize is about how much of a table one COPY carries.
const chunkSize = 24 << 20

// small is up to which size tables have their indexes built together.
const small = 4 << 20

// indexTogether is how many small tables are worth a run of the index builder.
const indexTogether = 256

// Connect opens a connection to the tenant's database on one side, by a login of the copy's own.
type Connect func(ctx context.Context) (*pgx.Conn, error)

// Job is one copy.
type Job struct {
	Source, Target Connect
	Snapshot       string // exported at the source; kept alive by the caller
	Tables         []survey.Table
	Streams        int        // jobs at once
	Pace           *pace.Pace // may hold it back; nil: nothing does
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
	r.plan(tables)
	if len(tables) > 0 {
		if err := r.queue.run(ctx, max(1, j.Streams), r.Pace.Turn, r.open); err != nil {
			return Report{}, err
		}
	}
	if err := r.dropTruncated(ctx); err != nil {
		return Report{}, err
	}
	return r.report()
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

// plan queues the copying of tables, which come by size: the large ones in
// chunks, the tiny ones together.
func (r *run) plan(tables []survey.Table) {
	large, tiny := parted(tables)
	for _, t := range large {
		chunks := split(t, chunkSize)
		left := &atomic.Int64{}
		left.Store(int64(len(chunks)))
		for _, c := range chunks {
			r.queue.add(second, func(ctx context.Context, w *worker) error {
				if err := r.copyChunk(ctx, w, t, c); err != nil {
					return err
				}
				if left.Add(-1) == 0 {
					r.copiedTables([]survey.Table{t})
				}
				return nil
			})
		}
	}
	for _, some := range batches(tiny) {
		r.queue.add(second, func(ctx context.Context, w *worker) error {
			n, err := r.carry(ctx, w, some)
			if err != nil {
				return err
			}
			r.rows.Add(n)
			for _, t := range some {
				r.copied.Add(t.Bytes)
			}
			r.copiedTables(some)
			r.progress()
			return nil
		})
	}
}

// parted tells tables that are worth a statement of their own from those that are not.
func parted(tables []survey.Table) (large, small []survey.Table) {
	for _, t := range tables {
		if t.Bytes > tiny {
			large = append(large, t)
		} else {
			small = append(small, t)
		}
	}
	return large, small
}

func (r *run) copyChunk(ctx context.Context, w *worker, t survey.Table, c chunk) error {
	// A transaction for each chunk, so that the tenant's own DDL and TRUNCATE
	// wait for a chunk at most.
	return inSnapshot(ctx, w.source, r.Snapshot, func() error {
		n, err := pipe(ctx, w.source.PgConn(), w.target.PgConn(), t, c, &r.streamed, r.Pace)
		if err != nil {
			return err
		}
		r.rows.Add(n)
		r.copied.Add(c.bytes)
		r.progress()
		return nil
	})
}

// copiedTables goes on with tables whose rows are at the target: compare the
// source's side at any time, the target's once the indexes are built.
func (r *run) copiedTables(tables []survey.Table) {
	r.tablesDone.Add(int64(len(tables)))
	r.compare(tables, true)
	ready := r.ready(tables)
	if len(ready) == 0 {
		return
	}
	r.queue.add(first, func(ctx context.Context, _ *worker) error {
		if err := r.Index(ctx, ready); err != nil {
			return err
		}
		r.indexedFor.Store(max(r.indexedFor.Load(), int64(time.Since(r.start)))) // the greatest wins; a tie of two is no matter
		r.compare(ready, false)
		return nil
	})
}

// ready says which tables are to be indexed, now that these were copied: small ones wait for others.
func (r *run) ready(tables []survey.Table) []survey.Table {
	if tables[0].Bytes > small {
		return tables
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.smallDone = append(r.smallDone, tables...)
	r.smallLeft -= len(tables)
	if r.smallLeft > 0 && len(r.smallDone) < indexTogether {
		return nil
	}
	all := r.smallDone
	r.smallDone = nil
	return all
}

// compare queues the reading of one side of tables: of the source's, or of the target's.
func (r *run) compare(tables []survey.Table, source bool) {
	large, tiny := parted(tables)
	for _, t := range large {
		for _, c := range split(t, chunkSize) {
			r.compareBy(source, c.bytes, []survey.Table{t}, func(ctx context.Context, conn *pgx.Conn) ([]Sum, error) {
				sum, err := checksum(ctx, conn, t, c, !r.targetSnapshot)
				return []Sum{sum}, err
			})
		}
	}
	for _, some := range batches(tiny) {
		var bytes int64
		for _, t := range some {
			bytes += t.Bytes
		}
		r.compareBy(source, bytes, some, func(ctx context.Context, conn *pgx.Conn) ([]Sum, error) {
			return checksums(ctx, conn, some, !r.targetSnapshot)
		})
	}
}

// compareBy queues one reading of bytes, and has what it finds added to the tables' sums.
func (r *run) compareBy(source bool, bytes int64, tables []survey.Table, read func(context.Context, *pgx.Conn) ([]Sum, error)) {
	r.queue.add(third, func(ctx context.Context, w *worker) (err error) {
		if err := r.Pace.Look(ctx, bytes); err != nil {
			return err
		}
		conn, begun := w.target, time.Now()
		if source {
			conn = w.source
		}
		var sums []Sum
		do := func() (err error) {
			sums, err = read(ctx, conn)
			return err
		}
		if source != r.targetSnapshot { // the side that goes on living is read in its snapshot
			err = inSnapshot(ctx, conn, r.Snapshot, do)
		} else {
			err = do()
		}
		if err != nil {
			return err
		}
		r.mu.Lock()
		for i, t := range tables {
			if source {
				r.sides[t.OID].source.add(sums[i])
			} else {
				r.sides[t.OID].target.add(sums[i])
			}
		}
		r.mu.Unlock()
		r.compared.Add(bytes / 2)
		r.progress()
		return r.Pace.Rest(ctx, time.Since(begun))
	})
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
