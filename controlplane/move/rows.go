package move

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/move/data"
	"github.com/freehold-db/freehold/controlplane/move/pace"
	"github.com/freehold-db/freehold/controlplane/move/schema"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
)

// rows copies and compares all tables, and builds their indexes, no faster
// than the servers bear.
func (c *copier) rows(ctx context.Context) error {
	started := time.Now()
	var latest atomic.Pointer[data.Progress]
	latest.Store(&data.Progress{})
	defer c.pace.Telling(ctx, pace.TellEvery, func(_ context.Context, waiting string) {
		c.progress(*latest.Load(), started, waiting)
	})()
	job := data.Job{
		Source:   reader(c.from),
		Target:   reader(c.to),
		Snapshot: c.export.Snapshot, Tables: c.tables, Streams: c.s.opt.Streams, Pace: c.pace,
		Index:    c.index,
		Progress: func(p data.Progress) { latest.Store(&p) },
	}
	var err error
	c.report, err = job.Run(ctx)
	c.comparedFor = time.Since(started) - c.report.IndexedFor
	return err
}

// reader has sessions opened that read and write tables.
func reader(m *shard.Mover) func(context.Context) (*pgx.Conn, error) {
	return func(ctx context.Context) (*pgx.Conn, error) { return m.Connect(ctx, applicationName) }
}

// progress reports how far the copy is, and what it waits for.
func (c *copier) progress(p data.Progress, started time.Time, waiting string) {
	rate := float64(p.Copied) / time.Since(started).Seconds()
	out := operation.Progress{Phase: fmt.Sprintf("rows, %d of %d tables", p.Tables, len(c.tables)), BytesDone: p.Copied, BytesTotal: p.Total, Rate: rate, Waiting: waiting}
	if p.Total > 0 {
		out.Percent = 100 * (0.75*float64(p.Copied) + 0.25*float64(p.Compared)) / float64(p.Total)
		if rate > 0 {
			out.ETA = time.Duration(float64(p.Total-p.Copied) / rate * 1e9)
		}
	}
	c.r.Report(out)
}

// index builds keys and indexes of tables whose rows are there, and has the planner know them.
func (c *copier) index(ctx context.Context, tables []survey.Table) error {
	var entries []schema.Entry
	names := ""
	for i, t := range tables {
		entries = append(entries, c.byTable[t.OID]...)
		if i > 0 {
			names += ", "
		}
		names += t.Ident()
	}
	jobs := 1
	if len(tables) == 1 { // a large one: its indexes are built at the same time
		jobs = c.s.opt.Streams
	}
	if err := c.restore(ctx, entries, jobs); err != nil {
		return err
	}
	conn, err := c.s.connect(ctx, c.r.Data.To, c.r.Data.database())
	if err != nil {
		return err
	}
	defer closeConn(conn)
	_, err = conn.Exec(ctx, "ANALYZE "+names, pgx.QueryExecModeSimpleProtocol)
	return err
}
