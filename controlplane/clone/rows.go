package clone

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/move/data"
	"github.com/freehold-db/freehold/controlplane/move/pace"
	"github.com/freehold-db/freehold/controlplane/move/schema"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// rows copies and compares the tables, and builds their indexes, no faster
// than the servers bear.
func (c *copier) rows(ctx context.Context) error {
	started := time.Now()
	var latest atomic.Pointer[data.Progress]
	latest.Store(&data.Progress{})
	defer c.pace.Telling(ctx, pace.TellEvery, func(_ context.Context, waiting string) {
		c.progress(*latest.Load(), started, waiting)
	})()
	job := data.Job{Source: c.reader, Target: c.target, Snapshot: c.snapshot, Tables: c.tables, Streams: c.s.opt.Streams, Pace: c.pace,
		Index: c.index, Progress: func(p data.Progress) { latest.Store(&p) }}
	var err error
	c.report, err = job.Run(ctx)
	return err
}

// paced has the copy go as fast as was asked, and as its servers bear, until stopped.
func (c *copier) paced(ctx context.Context) (stop func()) {
	c.pace = pace.New()
	unfollow := c.pace.Follow(ctx, pace.Wish{MaxRate: &c.r.Data.MaxRate, Mode: c.r.Data.Pace}, c.r.Asked)
	unwatch := c.pace.Watching(ctx, c.servers(), "", applicationName, c.s.opt.Bearable)
	return func() { unwatch(); unfollow() }
}

// servers are those whose load sets the pace.
func (c *copier) servers() []pace.Server {
	var servers []pace.Server
	for _, on := range []shardmap.ShardID{c.from.Shard, c.r.Data.Shard} {
		servers = append(servers, pace.Server{Name: string(on), Connect: func(ctx context.Context) (*pgx.Conn, error) {
			return c.s.fleet.Session(ctx, on, maintenance, applicationName)
		}})
	}
	return servers
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
	if err := c.restore(ctx, entries, 1); err != nil {
		return err
	}
	conn, err := c.target(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	_, err = conn.Exec(ctx, "ANALYZE "+names, pgx.QueryExecModeSimpleProtocol)
	return err
}

// constraints makes what is left of the schema: foreign keys, triggers, policies, comments.
func (c *copier) constraints(ctx context.Context) error {
	return c.restore(ctx, c.rest, c.s.opt.Streams)
}

// position is where a sequence stands.
type position struct {
	name   string
	last   int64
	called bool
}

// readSequences reads where the sequences stand. They are in no snapshot: what
// is read after it was taken is at least what its rows have used.
func (c *copier) readSequences(ctx context.Context) error {
	all, err := survey.Sequences(ctx, c.src)
	if err != nil {
		return err
	}
	// Not in the snapshot's transaction, which would keep a lock on each for as long as it lasts.
	conn, err := c.source(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	rows, err := conn.Query(ctx, survey.SequencesSQL(all), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return fmt.Errorf("read sequences: %w", err)
	}
	var i int
	var p position
	_, err = pgx.ForEachRow(rows, []any{&i, &p.last, &p.called}, func() error {
		p.name = all[i].Name
		c.sequences = append(c.sequences, p)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read sequences: %w", err)
	}
	return nil
}

// values sets the sequences and fills the materialized views.
func (c *copier) values(ctx context.Context) error {
	batch := &pgx.Batch{}
	for _, p := range c.sequences {
		if !c.r.Data.SchemaOnly || strings.HasPrefix(p.name, migrations+".") { // the others begin anew, as their tables do
			batch.Queue("SELECT pg_catalog.setval($1::pg_catalog.regclass, $2, $3)", p.name, p.last, p.called)
		}
	}
	if err := c.blank.Admin.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("set sequences: %w", err)
	}
	if len(c.views) == 0 {
		return nil
	}
	conn, err := c.s.fleet.Session(ctx, c.r.Data.Shard, c.r.Data.Database, applicationName) // REFRESH needs views
	if err != nil {
		return err
	}
	defer closeConn(conn)
	// Functions in a view's query may lean on the search_path of sessions of this database, and policies bind its owner there, too.
	if _, err := conn.Exec(ctx, `SET search_path = "$user", public; SET row_security = on`, pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	for _, v := range c.views {
		if _, err := conn.Exec(ctx, "REFRESH MATERIALIZED VIEW "+v.Name, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("refresh %s: %w", v.Name, err)
		}
	}
	return nil
}
