package clone

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/move/data"
	"github.com/freehold-db/freehold/controlplane/move/pace"
	"github.com/freehold-db/freehold/controlplane/move/schema"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// maxCopies bounds how often a copy is begun anew because the source changed in a way that no snapshot hides.
const maxCopies = 4

// migrations is the schema of the table that says which migrations were run: it
// is part of the schema's state, so its rows are copied always.
const migrations = "migrations"

// errChanged: what was copied may be of two moments.
var errChanged = errors.New("the source's schema was changed or a table truncated during the copy")

// copy fills the new database. All of it leans on one snapshot, which lives as
// long as its connection; after a crash it starts from an empty database.
func (s *Service) copy(ctx context.Context, r *run) error {
	for {
		err := s.copyOnce(ctx, r)
		if !errors.Is(err, errChanged) {
			return err
		}
		if r.Data.Copies >= maxCopies {
			return operation.Permanent(fmt.Errorf("%w, %d times; clone when no migration is under way", err, r.Data.Copies))
		}
		r.Report(operation.Progress{Phase: "copying again", Waiting: err.Error()})
	}
}

func (s *Service) copyOnce(ctx context.Context, r *run) error {
	start := time.Now()
	r.Data.Copies++
	source, err := s.store.GetTenant(ctx, r.Data.Source) // it may have moved since
	if err != nil {
		return permanent(err)
	}
	c := &copier{s: s, r: r, from: source.Placement}
	defer c.close()
	defer c.paced(ctx)()
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"preparing", c.prepare}, {"schema", c.schema}, {"rows", c.rows}, {"constraints", c.constraints}, {"values", c.values}, {"checking", c.check},
	} {
		begun := time.Now()
		r.Report(operation.Progress{Phase: part.name, BytesTotal: r.Data.Receipt.Bytes})
		if err := part.do(ctx); err != nil {
			return c.explain(ctx, fmt.Errorf("copy: %s: %w", part.name, err))
		}
		if err := s.during(part.name); err != nil {
			return err
		}
		r.Data.Receipt.phase("copy/"+part.name, begun)
	}
	rec := &r.Data.Receipt
	rec.phase("copy", start)
	rec.From, rec.Copies, rec.SnapshotAt, rec.Verification = c.from, r.Data.Copies, &c.snapshotAt, "equal"
	rec.Tables, rec.Rows, rec.Bytes, rec.StreamedBytes = c.report.Tables, c.report.Rows, c.report.Bytes, c.report.Streamed
	return r.SetReceipt(*rec)
}

// copier is one copy under way.
type copier struct {
	s    *Service
	r    *run
	from shardmap.Placement

	src      *pgx.Conn    // holds the snapshot, in a transaction
	reads    *shard.Mover // the source
	blank    *provision.Blank
	pace     *pace.Pace
	snapshot string
	// state of the source as the snapshot sees it.
	state      string
	snapshotAt time.Time

	archive   *schema.Archive
	tables    []survey.Table
	byTable   map[uint32][]schema.Entry
	rest      []schema.Entry
	sequences []position
	views     []survey.Named
	report    data.Report
}

func (c *copier) close() {
	if c.archive != nil {
		_ = c.archive.Close() // a leftover in the temporary directory harms nobody
	}
	closeConn(c.src)
	c.reads.Close()
	c.blank.Close()
}

// prepare makes the empty database, anew if it was begun before.
func (c *copier) prepare(ctx context.Context) error {
	r, s := c.r, c.s
	src, err := s.fleet.Session(ctx, c.from.Shard, maintenance, applicationName)
	if err != nil {
		return err
	}
	defer closeConn(src)
	c.blank, err = s.provision.Blank(ctx, provision.BlankSpec{Shard: r.Data.Shard, Database: r.Data.Database, Application: applicationName, Held: r.Held,
		Create: func(ctx context.Context, dst *pgx.Conn, document secret.Login) ([]string, error) {
			return shard.CloneTarget(ctx, src, dst, c.from.Database, r.Data.Database, document, s.provision.Limits())
		}})
	if err != nil {
		return err
	}
	r.Data.Roles = c.blank.Roles
	c.reads, err = s.fleet.Mover(ctx, c.from.Shard, c.from.Database)
	return err
}

// source connects for looking at catalogs, target for filling tables.
func (c *copier) source(ctx context.Context) (*pgx.Conn, error) {
	return c.s.fleet.TableSession(ctx, c.from.Shard, c.from.Database, applicationName)
}

// reader connects for reading rows, which is not an admin's (see [shard.Mover]).
func (c *copier) reader(ctx context.Context) (*pgx.Conn, error) {
	return c.reads.Connect(ctx, applicationName)
}

func (c *copier) target(ctx context.Context) (*pgx.Conn, error) { return c.blank.Connect(ctx) }

// schema takes the snapshot, and makes the target's empty tables of what it holds.
func (c *copier) schema(ctx context.Context) error {
	r, s := c.r, c.s
	keys, err := c.look(ctx)
	if err != nil {
		return err
	}
	tools, err := s.tools.For(ctx, pg.Major(c.src), pg.Major(c.blank.Admin))
	if err != nil {
		return err
	}
	env, err := s.fleet.ToolEnv(ctx, c.from.Shard, c.from.Database, applicationName)
	if err != nil {
		return err
	}
	if c.archive, err = tools.Dump(ctx, env, c.snapshot, 10*time.Second); err != nil {
		return err
	}
	if err := c.archive.Rename(ctx, c.from.Database, r.Data.Database); err != nil {
		return err
	}
	copied := map[uint32]bool{}
	for _, t := range c.tables {
		copied[t.OID] = true
	}
	c.byTable, c.rest = c.archive.ByTable(keys.Index, keys.Constraint, copied)
	if err := shard.Blank(ctx, c.src, c.blank.Admin, c.from.Database, r.Data.Database, ""); err != nil {
		return err
	}
	return c.restore(ctx, c.archive.Pre, 1)
}

func (c *copier) restore(ctx context.Context, entries []schema.Entry, jobs int) error {
	settings := []string{"synchronous_commit=off", "maintenance_work_mem=256MB"}
	if c.pace.Gentle() {
		settings, jobs = append(settings, schema.OneProcessor...), 1
	}
	as := schema.Logins{Own: func(role string) bool { return shard.IsOwn(c.r.Data.Database, role) }}
	var err error
	if as.Admin, err = c.s.fleet.ToolEnv(ctx, c.r.Data.Shard, c.r.Data.Database, applicationName, settings...); err != nil {
		return err
	}
	if as.Owner, err = c.blank.Login.Env(ctx, applicationName, settings...); err != nil {
		return err
	}
	return c.archive.Restore(ctx, as, entries, jobs)
}
