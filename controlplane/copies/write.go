package copies

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/move/data"
	"github.com/freehold-db/freehold/controlplane/move/pace"
	"github.com/freehold-db/freehold/controlplane/move/schema"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/envelope"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/shardmap"
)

// maxTries bounds how often a copy is begun anew because the source changed in a way that no snapshot hides.
const maxTries = 4

var errChanged = errors.New("the schema was changed or a table truncated while it was copied")

// writeCopy writes the sealed file. It leans on one snapshot, which lives as
// long as its connection: after a crash it starts anew, in a file of another name.
func (s *Service) writeCopy(ctx context.Context, r *exportRun) error {
	started := time.Now()
	for {
		err := s.writeOnce(ctx, r)
		if err == nil {
			r.Data.Receipt.MS = since(started)
			return r.SetReceipt(r.Data.Receipt)
		}
		if !errors.Is(err, errChanged) {
			return permanent(err)
		}
		if r.Data.Tries++; r.Data.Tries >= maxTries {
			return operation.Permanent(fmt.Errorf("%w, %d times; export when no migration is under way", err, r.Data.Tries))
		}
		r.Report(operation.Progress{Phase: "writing the copy again", Waiting: err.Error()})
	}
}

func (s *Service) writeOnce(ctx context.Context, r *exportRun) error {
	t, err := s.store.GetTenant(ctx, r.Op.Tenant)
	if err != nil {
		return err
	}
	row, err := s.store.GetDatabase(ctx, t.Placement.Shard, t.Placement.Database)
	if err != nil {
		return err
	}
	fleet, err := s.store.ID(ctx)
	if err != nil {
		return err
	}
	d, err := s.shelf.begin(r.Data.Copy, word(r.Token()))
	if err != nil {
		return err
	}
	defer d.drop()
	h := envelope.Header{Fleet: fleet, Tenant: string(t.ID), Copy: r.Data.Copy, Key: string(t.ID), Content: content, CreatedAt: time.Now().UTC().Truncate(time.Second)}
	sealed, err := envelope.Seal(ctx, d, s.keys, h)
	if err != nil {
		return err
	}
	w, err := newWriter(sealed)
	if err != nil {
		return err
	}
	dump := &dump{s: s, r: r, from: t.Placement, w: w}
	dump.manifest.Tenant, dump.manifest.SchemaVersion = t.ID, row.SchemaVersion
	defer dump.close()
	if err := dump.run(ctx); err != nil {
		return err
	}
	if err := sealed.Close(); err != nil {
		return err
	}
	if err := r.Held(ctx); err != nil {
		return err
	}
	if err := d.finish(); err != nil {
		return err
	}
	m := &dump.manifest
	r.Data.File = d.name
	r.Data.Receipt = ExportReceipt{Tenant: t.ID, Copy: r.Data.Copy, Key: h.Key, From: t.Placement.Shard, Bytes: d.bytes, SHA256: d.sum(),
		LSN: m.LSN, TakenAt: m.TakenAt, SchemaVersion: m.SchemaVersion, Tables: len(m.Tables), Rows: dump.rows, Notes: dump.notes}
	return nil
}

// dump is one reading of a database.
type dump struct {
	s    *Service
	r    *exportRun
	from shardmap.Placement
	w    *writer

	login    *shard.Mover
	conn     *pgx.Conn // holds the snapshot, in a transaction
	snapshot string
	state    string
	manifest Manifest
	sums     []sum // in the order of the manifest's tables
	rows     int64
	bytes    int64 // of the tables, at the source
	notes    []string
}

func (d *dump) close() {
	closeConn(d.conn)
	d.login.Close()
}

// run writes everything, and makes sure at the end that it is of one moment.
func (d *dump) run(ctx context.Context) error {
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"looking", d.look}, {"schema", d.schema}, {"rows", d.tables}, {"checking", d.check},
	} {
		d.r.Report(operation.Progress{Phase: part.name, BytesTotal: d.bytes})
		if err := part.do(ctx); err != nil {
			return d.explain(ctx, fmt.Errorf("copy: %s: %w", part.name, err))
		}
	}
	return nil
}

// look begins the snapshot and reads in it what the manifest says.
func (d *dump) look(ctx context.Context) (err error) {
	admin, err := d.s.fleet.TableSession(ctx, d.from.Shard, d.from.Database, applicationName)
	if err != nil {
		return err
	}
	defer closeConn(admin)
	m := &d.manifest
	m.Database = d.from.Database
	if m.Server, err = survey.ReadServer(ctx, admin, d.from.Database); err != nil {
		return err
	}
	if m.Portrait, err = shard.ReadPortrait(ctx, admin, d.from.Database); err != nil {
		return err
	}
	if err := d.refuse(ctx, admin); err != nil {
		return err
	}
	if d.login, err = d.s.fleet.Mover(ctx, d.from.Shard, d.from.Database); err != nil {
		return err
	}
	if d.conn, err = d.login.Connect(ctx, applicationName); err != nil {
		return err
	}
	// The transaction ends with its connection.
	if _, err := d.conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	if err := d.conn.QueryRow(ctx, "SELECT pg_catalog.pg_export_snapshot(), pg_catalog.now()").Scan(&d.snapshot, &m.TakenAt); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	m.TakenAt = m.TakenAt.UTC()
	if err := admin.QueryRow(ctx, "SELECT pg_catalog.pg_current_wal_insert_lsn()::text").Scan(&m.LSN); err != nil {
		return fmt.Errorf("position of the log: %w", err)
	}
	if d.state, err = schema.State(ctx, admin); err != nil {
		return err
	}
	if m.Extensions, err = survey.Extensions(ctx, d.conn); err != nil {
		return err
	}
	if m.Tables, err = survey.Tables(ctx, d.conn); err != nil {
		return err
	}
	for _, t := range m.Tables {
		d.bytes += t.Bytes
	}
	if m.Views, err = survey.MaterializedViews(ctx, d.conn); err != nil {
		return err
	}
	if m.Sequences, err = sequences(ctx, admin); err != nil {
		return err
	}
	return d.w.json(manifestName, m)
}

// sequences reads where they stand. They are in no snapshot.
func sequences(ctx context.Context, conn *pgx.Conn) (list []Sequence, err error) {
	all, err := survey.Sequences(ctx, conn)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	rows, err := conn.Query(ctx, survey.SequencesSQL(all), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, fmt.Errorf("read sequences: %w", err)
	}
	var i int
	var q Sequence
	_, err = pgx.ForEachRow(rows, []any{&i, &q.Last, &q.Called}, func() error {
		q.Name = all[i].Name
		list = append(list, q)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read sequences: %w", err)
	}
	return list, nil
}

// means says what a move's findings mean for a copy; those that are not here mean nothing for it.
var means = map[string]survey.Level{
	"large-objects": survey.Refuse, "event-trigger": survey.Refuse, "foreign-data": survey.Refuse, "tablespace": survey.Refuse,
	"security-label": survey.Refuse, "foreign-role": survey.Refuse, "extension-table": survey.Refuse, "superusers-relation": survey.Refuse, "no-rights": survey.Refuse,
	"publication": survey.Warn, "subscription": survey.Warn,
}

// refuse finds what a copy would not hold.
func (d *dump) refuse(ctx context.Context, conn *pgx.Conn) error {
	var marked bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname LIKE 'freehold\_move\_%')`).Scan(&marked); err != nil {
		return fmt.Errorf("look for a move: %w", err)
	}
	if marked {
		return operation.Wait(2*time.Second, "the end of a move, which has marked the tenant's tables")
	}
	found, err := survey.Inside(ctx, conn, "")
	if err != nil {
		return err
	}
	var refused []survey.Finding
	d.notes = nil
	for _, f := range found {
		switch means[f.Code] {
		case survey.Refuse:
			refused = append(refused, f)
		case survey.Warn:
			d.notes = append(d.notes, f.String())
		}
	}
	if len(refused) > 0 {
		return &RefusedError{"the export", refused}
	}
	return nil
}

func (d *dump) programs(ctx context.Context) (schema.Tools, error) {
	return d.s.tools.For(ctx, pg.Major(d.conn), pg.Major(d.conn))
}

// schema dumps what catalogs say, which runs nothing of the tenant's.
func (d *dump) schema(ctx context.Context) error {
	tools, err := d.programs(ctx)
	if err != nil {
		return err
	}
	env, err := d.s.fleet.ToolEnv(ctx, d.from.Shard, d.from.Database, applicationName)
	if err != nil {
		return err
	}
	archive, err := tools.Dump(ctx, env, d.snapshot, lockWait)
	if err != nil {
		return err
	}
	defer archive.Close() //nolint:errcheck // a leftover in the temporary directory harms nobody
	f, err := archive.Open()
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return d.w.schema(f, info.Size())
}

// rowsBuffer gathers rows before they are sealed, and waited for, in bytes.
const rowsBuffer = 256 << 10

// tables reads each table in the snapshot, its rows and then their checksum, as
// a login that may do what the tenant may, and no faster than the server bears. Its lock on a table lasts no longer
// than the reading of that one.
func (d *dump) tables(ctx context.Context) error {
	conn, err := d.login.Connect(ctx, applicationName)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	if err := data.Fixed(ctx, conn); err != nil {
		return err
	}
	snapshot, err := pg.Literal(d.snapshot)
	if err != nil {
		return err
	}
	p := pace.New()
	defer p.Watching(ctx, []pace.Server{{Name: string(d.from.Shard), Connect: func(ctx context.Context) (*pgx.Conn, error) {
		return d.s.fleet.Session(ctx, d.from.Shard, maintenance, applicationName)
	}}}, "", applicationName, d.s.opt.Bearable)()
	stream := p.Stream()
	out := &progress{w: d.w, take: func(n int) error { return stream.Take(ctx, n) }}
	for i, t := range d.manifest.Tables {
		out.report = func(n int64) {
			d.r.Report(operation.Progress{Phase: fmt.Sprintf("rows, %d of %d tables", i, len(d.manifest.Tables)), BytesDone: n, BytesTotal: d.bytes, Percent: share(n, d.bytes), Waiting: p.Waiting()})
		}
		for _, sql := range []string{"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "SET TRANSACTION SNAPSHOT " + snapshot} {
			if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
		}
		if err := d.table(ctx, conn, t, out); err != nil {
			return fmt.Errorf("%s: %w", t.Ident(), err)
		}
		if _, err := conn.Exec(ctx, "COMMIT", pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
	}
	return nil
}

func (d *dump) table(ctx context.Context, conn *pgx.Conn, t survey.Table, out io.Writer) error {
	rows := bufio.NewWriterSize(out, rowsBuffer) // they come one by one
	if _, err := conn.PgConn().CopyTo(ctx, rows, "COPY "+t.Ident()+columns(t)+" TO STDOUT"); err != nil {
		return err
	}
	if err := rows.Flush(); err != nil {
		return err
	}
	if err := d.w.nextTable(); err != nil {
		return err
	}
	found, err := data.Whole(ctx, conn, t)
	if err != nil {
		return err
	}
	d.rows += found.Rows
	d.sums = append(d.sums, sum{found.Rows, found.Hash.String()})
	return nil
}

// columns is the list of a table's columns that are copied; without any it is left out.
func columns(t survey.Table) string {
	if len(t.Columns) == 0 {
		return ""
	}
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = pg.Ident(c)
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// share is how far n of total is; rows as text take another room than on disk, so it is a guess.
func share(n, total int64) float64 {
	if total <= 0 {
		return 0
	}
	return min(95, 95*float64(n)/float64(total))
}

// progress reports what passes, once it may.
type progress struct {
	w      io.Writer
	n      int64
	take   func(n int) error
	report func(n int64)
}

func (p *progress) Write(b []byte) (int, error) {
	if err := p.take(len(b)); err != nil {
		return 0, err
	}
	n, err := p.w.Write(b)
	p.n += int64(n)
	p.report(p.n)
	return n, err
}

// check makes sure that nothing came in between, and writes the end.
func (d *dump) check(ctx context.Context) error {
	changed, err := d.changed(ctx)
	if err != nil {
		return err
	}
	if changed {
		return errChanged
	}
	return d.w.close(d.sums)
}

func (d *dump) changed(ctx context.Context) (bool, error) {
	conn, err := d.s.fleet.TableSession(ctx, d.from.Shard, d.from.Database, applicationName)
	if err != nil {
		return false, err
	}
	defer closeConn(conn)
	now, err := schema.State(ctx, conn)
	return now != d.state, err
}

// explain says of a copy that failed whether it did because the source changed.
func (d *dump) explain(ctx context.Context, err error) error {
	var refused *RefusedError
	if d.state == "" || ctx.Err() != nil || errors.Is(err, errChanged) || errors.Is(err, operation.ErrLeaseLost) || errors.As(err, &refused) {
		return err
	}
	if yes, lookErr := d.changed(ctx); lookErr == nil && yes {
		return fmt.Errorf("%w: %w", errChanged, err)
	}
	return err
}
