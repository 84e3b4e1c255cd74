package move

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/move/data"
	"github.com/freehold-db/freehold/controlplane/move/pace"
	"github.com/freehold-db/freehold/controlplane/move/schema"
	"github.com/freehold-db/freehold/controlplane/move/stream"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/schemachange"
)

const (
	// maxCopies bounds how often a copy is begun anew because the tenant's schema changed.
	maxCopies = 4
	// slotFor bounds the wait for transactions that were open when the slot was asked for.
	slotFor = 30 * time.Minute
)

// copy fills the target. An exported snapshot lives as long as its connection,
// so all that leans on it is one step, which after a crash starts from an empty target.
func (s *Service) copy(ctx context.Context, r *run) error {
	for {
		err := s.copyOnce(ctx, r)
		if !errors.Is(err, errTablesChanged) || r.Data.Copies >= maxCopies {
			return err
		}
	}
}

func (s *Service) copyOnce(ctx context.Context, r *run) error {
	start := time.Now()
	r.Data.Copies++
	c := &copier{s: s, r: r}
	defer c.close()
	p, stop := s.paced(ctx, r) // from now on, so that it is known who works there before the rows are copied
	defer stop()
	c.pace = p
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"preparing", c.prepare}, {"slot", c.slot}, {"schema", c.schema}, {"rows", c.rows}, {"constraints", c.constraints},
	} {
		begun := time.Now()
		r.Report(operation.Progress{Phase: part.name, BytesTotal: r.Data.Receipt.Bytes})
		if err := part.do(ctx); err != nil {
			return fmt.Errorf("copy: %s: %w", part.name, err)
		}
		r.Data.Receipt.phase("copy/"+part.name, begun)
	}
	rec := &r.Data.Receipt
	rec.phase("copy", start)
	rec.Copies, rec.Tables, rec.Rows, rec.Bytes, rec.StreamedBytes = r.Data.Copies, c.report.Tables, c.report.Rows, c.report.Bytes, c.report.Streamed
	rec.CopyMBPerS = float64(c.report.Bytes) / 1e6 / (time.Since(c.snapshotAt) - c.comparedFor).Seconds()
	rec.CompareMS = ms(c.comparedFor)
	rec.Verification.Copy = Equal
	if err := c.compareObjects(ctx); err != nil {
		return fmt.Errorf("copy: objects: %w", err)
	}
	if err := c.vouch(ctx); err != nil {
		return fmt.Errorf("copy: stamp: %w", err)
	}
	return r.SetReceipt(*rec)
}

// copier is one copy under way.
type copier struct {
	s        *Service
	r        *run
	src, dst *pgx.Conn // inside the database, at both ends
	from, to *shard.Mover
	pace     *pace.Pace

	published  []survey.Table
	export     *stream.Slot
	snapshotAt time.Time
	archive    *schema.Archive
	tables     []survey.Table
	byTable    map[uint32][]schema.Entry // keys and indexes
	rest       []schema.Entry            // what else comes after the rows
	stamps     stamps
	report     data.Report
	// comparedFor is the time after everything was there in which it was only compared.
	comparedFor time.Duration
}

func (c *copier) close() {
	if c.export != nil {
		c.export.Release()
	}
	if c.archive != nil {
		_ = c.archive.Close() // a leftover in the temporary directory harms nobody
	}
	closeConn(c.src)
	closeConn(c.dst)
	c.from.Close()
	c.to.Close()
}

// prepare clears what a copy before left, and publishes the tables.
func (c *copier) prepare(ctx context.Context) error {
	r, s := c.r, c.s
	if err := s.dropSubscription(ctx, r); err != nil {
		return err
	}
	if err := s.dropSource(ctx, r); err != nil {
		return err
	}
	src, dst, err := s.servers(ctx, r)
	if err != nil {
		return err
	}
	defer closeConn(src)
	defer closeConn(dst)
	err = s.owning(ctx, r, dst, func() error {
		c.dst, err = s.connect(ctx, r.Data.To, r.Data.database())
		if err != nil && !isGone(err) { // a worker before us may have died between dropping and making it
			return err
		}
		if err == nil {
			if used, err := filled(ctx, c.dst); err != nil || !used {
				return err
			}
			closeConn(c.dst)
		}
		if err := shard.CreateTarget(ctx, src, dst, r.Data.database()); err != nil {
			return err
		}
		c.dst, err = s.connect(ctx, r.Data.To, r.Data.database())
		return err
	})
	if err != nil {
		return err
	}
	if c.src, err = s.connect(ctx, r.Data.From.Shard, r.Data.database()); err != nil {
		return err
	}
	if c.from, err = s.fleet.Mover(ctx, r.Data.From.Shard, r.Data.database()); err != nil {
		return err
	}
	if c.to, err = s.fleet.Mover(ctx, r.Data.To, r.Data.database()); err != nil {
		return err
	}
	if err := s.guardDDL(ctx, r); err != nil {
		return err
	}
	return patiently(ctx, func() error {
		if c.published, err = survey.Tables(ctx, c.src); err != nil {
			return err
		}
		return stream.Publish(ctx, c.src, r.Data.Link, c.published)
	})
}

// filled tells a target that a copy was begun in from a fresh one.
func filled(ctx context.Context, dst *pgx.Conn) (yes bool, err error) {
	err = dst.QueryRow(ctx, `SELECT pg_catalog.to_regclass('freehold.move_begun') IS NOT NULL`).Scan(&yes)
	return yes, err
}

// slot makes the replication slot and with it the snapshot that is copied.
func (c *copier) slot(ctx context.Context) error {
	cfg, err := c.s.fleet.AdminConfig(ctx, c.r.Data.From.Shard, c.r.Data.database())
	if err != nil {
		return err
	}
	cfg.RuntimeParams["application_name"] = applicationName
	cfg.RuntimeParams["statement_timeout"] = "0"
	ctx, cancel := context.WithTimeout(ctx, slotFor)
	defer cancel()
	stop := c.s.whileWaiting(ctx, c.r, c.r.Data.From.Shard, operation.Progress{Phase: "slot"}, writersSQL)
	c.export, err = stream.CreateSlot(ctx, cfg, c.r.Data.Link)
	stop()
	c.snapshotAt = time.Now()
	return err
}

// errTablesChanged: tables came or went between the publication and the snapshot.
var errTablesChanged = errors.New("the tenant's tables changed while the copy was prepared")

// schema reads what the snapshot holds, and makes the target's empty tables.
func (c *copier) schema(ctx context.Context) error {
	r, s := c.r, c.s
	var keys survey.Owned
	err := snapshotted(ctx, c.src, c.export.Snapshot, func(tx pgx.Tx) (err error) {
		if c.tables, err = survey.Tables(ctx, tx); err != nil {
			return err
		}
		if keys, err = survey.Keys(ctx, tx); err != nil {
			return err
		}
		if c.stamps.copied, err = readStamp(ctx, tx); err != nil {
			return err
		}
		r.Data.Fingerprint, err = schema.Fingerprint(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	if !sameTables(c.published, c.tables) {
		return errTablesChanged
	}
	env, err := s.toolEnv(ctx, r.Data.From.Shard, r.Data.database())
	if err != nil {
		return err
	}
	tools, err := s.tools.For(ctx, pg.Major(c.src), pg.Major(c.dst))
	if err != nil {
		return err
	}
	if c.archive, err = tools.Dump(ctx, env, c.export.Snapshot, 10*time.Second); err != nil {
		return err
	}
	c.sort(keys)
	if err := c.blank(ctx); err != nil {
		return err
	}
	if err := c.restore(ctx, c.archive.Pre, 1); err != nil {
		return err
	}
	now, atEnd := stream.Restoring(c.published)
	r.Data.AtEnd = atEnd
	_, err = c.dst.PgConn().Exec(ctx, strings.Join(now, ";")).ReadAll()
	return err
}

func snapshotted(ctx context.Context, conn *pgx.Conn, snapshot string, fn func(tx pgx.Tx) error) error {
	lit, err := pg.Literal(snapshot)
	if err != nil {
		return err
	}
	return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET TRANSACTION SNAPSHOT "+lit, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		return fn(tx)
	})
}

func sameTables(a, b []survey.Table) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].OID != b[i].OID || a[i].Ident() != b[i].Ident() {
			return false
		}
	}
	return true
}

// sort parts what is built per table from the rest.
func (c *copier) sort(keys survey.Owned) {
	copied := map[uint32]bool{}
	for _, t := range c.tables {
		copied[t.OID] = true
	}
	c.byTable, c.rest = c.archive.ByTable(keys.Index, keys.Constraint, copied)
}

// blank takes away what the template brought for the tenant's roles, so that
// the archive finds a database as initdb would have made it, but for the
// platform's own schema and what was revoked in pg_catalog. A table there marks
// the database as begun, until the move is cleaned up.
func (c *copier) blank(ctx context.Context) error {
	db := c.r.Data.database()
	return shard.Blank(ctx, c.src, c.dst, db, db, "CREATE TABLE freehold.move_begun ();"+schemachange.Mute+";")
}

// constraints makes what is left of the schema: foreign keys, triggers, policies, comments.
func (c *copier) constraints(ctx context.Context) error {
	c.export.Release()
	if err := c.restore(ctx, c.rest, c.s.opt.Streams); err != nil {
		return err
	}
	if _, err := c.dst.PgConn().Exec(ctx, schemachange.Unmute).ReadAll(); err != nil {
		return err
	}
	var err error
	if c.stamps.made, err = readStamp(ctx, c.dst); err != nil {
		return err
	}
	c.r.Report(operation.Progress{Phase: "copied", Percent: 100, BytesDone: c.report.Bytes, BytesTotal: c.report.Bytes})
	return nil
}

// restore makes what the archive holds. An index can't be held back once it is
// begun: beside others it is given one processor from the start.
func (c *copier) restore(ctx context.Context, entries []schema.Entry, jobs int) error {
	settings := []string{"synchronous_commit=off", "maintenance_work_mem=256MB"}
	if c.pace.Gentle() {
		settings, jobs = append(settings, schema.OneProcessor...), 1
	}
	as := schema.Logins{Own: func(role string) bool { return shard.IsOwn(c.r.Data.database(), role) }}
	var err error
	if as.Admin, err = c.s.toolEnv(ctx, c.r.Data.To, c.r.Data.database(), settings...); err != nil {
		return err
	}
	if as.Owner, err = c.to.Env(ctx, applicationName, settings...); err != nil {
		return err
	}
	return c.archive.Restore(ctx, as, entries, jobs)
}

func (s *Service) undoCopy(ctx context.Context, r *run) error {
	if err := s.stillAtSource(ctx, r); err != nil {
		return err
	}
	return errors.Join(s.unlink(ctx, r), s.freeDDL(ctx, r))
}

func (s *Service) checkCopy(_ context.Context, r *run) (string, error) {
	return fmt.Sprintf("makes a publication and a slot on %s, copies the schema and about %.1f MB of %d tables in %d streams from one snapshot, builds indexes, and compares every table",
		r.Data.From.Shard, float64(r.Data.Receipt.Bytes)/1e6, r.Data.Receipt.Tables, s.opt.Streams), nil
}
