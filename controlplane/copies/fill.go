package copies

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/move/data"
	"github.com/freehold-db/freehold/controlplane/move/schema"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
)

// fill makes the database of the copy. After a crash it starts from an empty one.
func (s *Service) fill(ctx context.Context, r *importRun) error {
	started := time.Now()
	_, sealed, done, err := s.open(ctx, r)
	if err != nil {
		return permanent(err)
	}
	defer done()
	plain, err := sealed.Open(ctx, s.keys)
	if err != nil {
		return permanent(explain(err))
	}
	c, err := newReader(cancelable{ctx, plain})
	if err != nil {
		return permanent(explain(err))
	}
	defer c.close()
	f := &filler{s: s, r: r, copy: c}
	defer f.close()
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"preparing", f.prepare}, {"schema", f.schema}, {"rows", f.rows}, {"indexes and constraints", f.constraints}, {"views", f.views}, {"comparing", f.compare},
	} {
		r.Report(operation.Progress{Phase: part.name})
		if err := part.do(ctx); err != nil {
			return permanent(explain(fmt.Errorf("import: %s: %w", part.name, err)))
		}
	}
	r.Data.Receipt.Verification, r.Data.Receipt.MS = "equal", since(started)
	return r.SetReceipt(r.Data.Receipt)
}

// filler is one filling of a database.
type filler struct {
	s    *Service
	r    *importRun
	copy *reader
	end  end

	blank   *provision.Blank
	archive *schema.Archive
}

func (f *filler) close() {
	if f.archive != nil {
		_ = f.archive.Close() // a leftover in the temporary directory harms nobody
	}
	f.blank.Close()
}

// prepare makes the empty database, anew if it was begun before, on a shard
// that can take what the copy holds.
func (f *filler) prepare(ctx context.Context) error {
	r, s, m := f.r, f.s, f.copy.manifest
	if err := f.fits(ctx); err != nil {
		return err
	}
	var err error
	f.blank, err = s.provision.Blank(ctx, provision.BlankSpec{Shard: r.Data.Shard, Database: r.Data.Database, Application: applicationName, Held: r.Held,
		Create: func(ctx context.Context, conn *pgx.Conn, document secret.Login) ([]string, error) {
			return m.Portrait.After(ctx, conn, r.Data.Database, document, s.provision.Limits())
		}})
	if err != nil {
		return err
	}
	r.Data.Roles = f.blank.Roles
	return nil
}

// lacks says what a move's findings about two servers mean for an import;
// those that are not here are about streaming.
var lacks = map[string]bool{"version": true, "locale": true, "extension": true}

// fits refuses a shard whose server can't take the copy.
func (f *filler) fits(ctx context.Context) error {
	dst, err := f.s.fleet.Session(ctx, f.r.Data.Shard, maintenance, applicationName)
	if err != nil {
		return err
	}
	defer closeConn(dst)
	m := f.copy.manifest
	there, err := survey.ReadServer(ctx, dst, shard.TemplateBase)
	if err != nil {
		return err
	}
	found := survey.Between(m.Server, there)
	missing, err := survey.Missing(ctx, dst, m.Extensions)
	if err != nil {
		return err
	}
	var refused []survey.Finding
	for _, one := range append(found, missing...) {
		if one.Level == survey.Refuse && lacks[one.Code] {
			refused = append(refused, one)
		}
	}
	if len(refused) > 0 {
		return &RefusedError{"the import", refused}
	}
	return nil
}

// connect connects for filling tables, if it is this worker's database still.
func (f *filler) connect(ctx context.Context) (*pgx.Conn, error) {
	if err := f.r.Held(ctx); err != nil {
		return nil, err
	}
	return f.blank.Connect(ctx)
}

// settings are those of sessions that fill: a crash starts anew.
var settings = []string{"synchronous_commit=off", "maintenance_work_mem=256MB"}

// schema makes the empty tables, with names of the new database's own.
func (f *filler) schema(ctx context.Context) error {
	tools, err := f.tools(ctx)
	if err != nil {
		return err
	}
	in, err := f.copy.schema()
	if err != nil {
		return err
	}
	if f.archive, err = tools.Load(ctx, in); err != nil {
		return err
	}
	m := f.copy.manifest
	if err := f.archive.Rename(ctx, m.Database, f.r.Data.Database); err != nil {
		return err
	}
	if err := m.Portrait.Blank(ctx, f.blank.Admin, f.r.Data.Database); err != nil {
		return err
	}
	return f.restore(ctx, f.archive.Pre, 1)
}

func (f *filler) tools(ctx context.Context) (schema.Tools, error) {
	return f.s.tools.For(ctx, f.copy.manifest.Server.Version/10000, pg.Major(f.blank.Admin))
}

func (f *filler) restore(ctx context.Context, entries []schema.Entry, jobs int) error {
	conn, err := f.connect(ctx)
	if err != nil {
		return err
	}
	closeConn(conn) // the tools have connections of their own
	as := schema.Logins{Own: func(role string) bool { return shard.IsOwn(f.r.Data.Database, role) }}
	if as.Admin, err = f.s.fleet.ToolEnv(ctx, f.r.Data.Shard, f.r.Data.Database, applicationName, settings...); err != nil {
		return err
	}
	if as.Owner, err = f.blank.Login.Env(ctx, applicationName, settings...); err != nil {
		return err
	}
	return f.archive.Restore(ctx, as, entries, jobs)
}

// rows fills the tables, and sets the sequences. Whatever of the tenant's code
// that runs, it runs as a login that may do what the tenant may.
func (f *filler) rows(ctx context.Context) error {
	conn, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	m := &f.copy.manifest
	if err := data.Fixed(ctx, conn); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "SET synchronous_commit = off", pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	for i, t := range m.Tables {
		f.r.Report(operation.Progress{Phase: fmt.Sprintf("rows, %d of %d tables", i, len(m.Tables)), Percent: 80 * float64(i) / float64(len(m.Tables))})
		if _, err := conn.PgConn().CopyFrom(ctx, f.copy, "COPY "+t.Ident()+columns(t)+" FROM STDIN"); err != nil {
			return fmt.Errorf("%s: %w", t.Ident(), err)
		}
		if err := f.copy.nextTable(); err != nil {
			return err
		}
	}
	if f.end, err = f.copy.end(); err != nil { // all of it was read, and proven
		return err
	}
	batch := &pgx.Batch{}
	for _, q := range m.Sequences {
		batch.Queue("SELECT pg_catalog.setval($1::pg_catalog.regclass, $2, $3)", q.Name, q.Last, q.Called)
	}
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("set sequences: %w", err)
	}
	return nil
}

// constraints makes what is left of the schema: indexes, keys, triggers, policies, comments.
func (f *filler) constraints(ctx context.Context) error {
	return f.restore(ctx, f.archive.Post, f.s.jobs)
}

// views fills the materialized views, and has the planner know the tables.
func (f *filler) views(ctx context.Context) error {
	conn, err := f.s.fleet.Session(ctx, f.r.Data.Shard, f.r.Data.Database, applicationName) // REFRESH needs views, and runs as their owner
	if err != nil {
		return err
	}
	defer closeConn(conn)
	// Functions in a view's query may lean on the search_path of sessions of this database.
	if _, err := conn.Exec(ctx, `SET search_path = "$user", public; SET row_security = on`, pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	for _, v := range f.copy.manifest.Views {
		if _, err := conn.Exec(ctx, "REFRESH MATERIALIZED VIEW "+v.Name, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("refresh %s: %w", v.Name, err)
		}
	}
	return nil
}

// compare reads every table and compares it with what the export read.
func (f *filler) compare(ctx context.Context) error {
	conn, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	if err := data.Fixed(ctx, conn); err != nil {
		return err
	}
	for i, t := range f.copy.manifest.Tables {
		f.r.Report(operation.Progress{Phase: fmt.Sprintf("comparing, %d of %d tables", i, len(f.copy.manifest.Tables)), Percent: 90})
		found, err := data.Whole(ctx, conn, t)
		if err != nil {
			return err
		}
		want := f.end.Sums[i]
		if found.Rows != want.Rows || found.Hash.String() != want.Hash {
			return operation.Permanent(fmt.Errorf("%s has %s, and the export read %d rows, hash %s", t.Ident(), found, want.Rows, want.Hash))
		}
		if _, err := conn.Exec(ctx, "ANALYZE "+t.Ident(), pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
	}
	return f.blank.Filled(ctx)
}
