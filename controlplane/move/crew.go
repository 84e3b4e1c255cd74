package move

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move/schema"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/publish"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/shardmap"
)

// crew is what a cutover has ready before it holds anybody back: connections
// open, statements prepared, names looked up.
type crew struct {
	src       *pgx.Conn // source: barrier and sequences
	srcState  *pgx.Conn // source: has anything changed that the stream does not carry?
	srcGuard  *pgx.Conn // source: the worker's guard
	srcServer *pgx.Conn // source server: fence
	dst       *pgx.Conn // target: barrier
	dstSnap   *pgx.Conn // target: keeps the barrier's snapshot for the comparison after the flip
	dstGuard  *pgx.Conn // target: the worker's guard; sequences, fence
	gates     []*gate

	sequences []survey.Named // at the source
	there     []uint32       // their OIDs at the target
	read      string         // reads all of them
	views     []survey.Named
	state     sourceState

	rehearsed time.Duration // what the rehearsal took, beside its barrier
	foreseen  time.Duration // the pause that the attempt is to make

	snapshot string // exported at the target, at the barrier
	opened   bool
	led      bool        // clients at the source's PgBouncer go on at the target
	expiry   *time.Timer // lets the crew go if nobody takes it over
	fence    *ready      // up at the source
	opening  *ready      // of the target
	attempt  Attempt
	reports  publish.Reports // what nodes say of the attempt; nil: nothing, or it was heard
	pause    time.Duration   // until nodes were told
	attached time.Duration   // until attached clients went on
}

// gate is one PgBouncer through which clients reach the source.
type gate struct {
	on      shardmap.ShardID
	console *shard.Console
	routes  *shard.Routes // nil: it has no file of routes
}

func (g *gate) close() {
	if g.routes != nil {
		g.routes.Close()
	}
	if g.console != nil {
		g.console.Close()
	}
}

func (c *crew) close() {
	c.fence.wait()
	c.opening.wait()
	for _, conn := range []*pgx.Conn{c.src, c.srcState, c.srcGuard, c.srcServer, c.dst, c.dstSnap, c.dstGuard} {
		closeConn(conn)
	}
	for _, g := range c.gates {
		g.close()
	}
}

// muster opens everything and rehearses it.
func (s *Service) muster(ctx context.Context, r *run) (_ *crew, err error) {
	c := &crew{}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	from, to, db := r.Data.From.Shard, r.Data.To, r.Data.database()
	g, gctx := errgroup.WithContext(ctx)
	for _, open := range []struct {
		conn     **pgx.Conn
		on       shardmap.ShardID
		database string
	}{
		{&c.src, from, db}, {&c.srcState, from, db}, {&c.srcGuard, from, db}, {&c.srcServer, from, maintenance},
		{&c.dst, to, db}, {&c.dstSnap, to, db}, {&c.dstGuard, to, db},
	} {
		g.Go(func() (err error) {
			*open.conn, err = s.connect(gctx, open.on, open.database)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if err := claim(ctx, c.srcGuard, leaseOf(r), r.Held); err != nil {
		return nil, err
	}
	if err := claim(ctx, c.dstGuard, leaseOf(r), r.Held); err != nil {
		return nil, err
	}
	if c.gates, err = s.openGates(ctx, r); err != nil {
		return nil, err
	}
	if err := c.findSequences(ctx); err != nil {
		return nil, err
	}
	if c.views, err = survey.MaterializedViews(ctx, c.src); err != nil {
		return nil, err
	}
	return c, nil
}

// gateShards are the shards through whose PgBouncers clients may come to the
// source: its own, the target's (if the tenant lived there before), and those
// of earlier homes that are not cleared away yet.
func (s *Service) gateShards(ctx context.Context, r *run) ([]shardmap.ShardID, error) {
	shards := []shardmap.ShardID{r.Data.From.Shard, r.Data.To}
	rows, _, err := s.store.ListDatabases(ctx, catalog.DatabaseFilter{Tenant: r.Data.Tenant}, catalog.Page{Limit: 1000})
	for _, d := range rows {
		if d.Name == r.Data.database() && !slices.Contains(shards, d.Shard) {
			shards = append(shards, d.Shard)
		}
	}
	return shards, err
}

// openGates connects to the PgBouncers. The source's gets an entry if it has
// none yet, so that it can be paused before the first client comes.
func (s *Service) openGates(ctx context.Context, r *run) (gates []*gate, err error) {
	shards, err := s.gateShards(ctx, r)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			for _, g := range gates {
				g.close()
			}
			gates = nil
		}
	}()
	for _, on := range shards {
		g := &gate{on: on}
		gates = append(gates, g)
		if g.console, err = s.fleet.Console(ctx, on); err != nil {
			return gates, err
		}
		if g.routes, err = s.fleet.Routes(ctx, on); err != nil && !errors.Is(err, shard.ErrNoRoutes) {
			return gates, err
		}
		known, err := g.console.Databases(ctx)
		if err != nil {
			return gates, err
		}
		_, there := known[r.Data.database()]
		switch {
		case there:
		case on == r.Data.From.Shard && g.routes != nil:
			if err := g.routes.Set(ctx, r.Data.database(), on); err != nil {
				return gates, err
			}
		default: // nobody comes through it
			g.close()
			gates = gates[:len(gates)-1]
		}
	}
	return gates, nil
}

// findSequences pairs the sequences of both sides, by name.
func (c *crew) findSequences(ctx context.Context) error {
	var err error
	if c.sequences, err = survey.Sequences(ctx, c.src); err != nil {
		return err
	}
	there, err := survey.Sequences(ctx, c.dst)
	if err != nil {
		return err
	}
	byName := map[string]uint32{}
	for _, q := range there {
		byName[q.Name] = q.OID
	}
	c.there = make([]uint32, len(c.sequences))
	for i, q := range c.sequences {
		if c.there[i] = byName[q.Name]; c.there[i] == 0 {
			return fmt.Errorf("sequence %s: %w", q.Name, errSchemaChanged)
		}
	}
	c.read = survey.SequencesSQL(c.sequences)
	return nil
}

// sourceState changes when something changes that the stream does not carry.
type sourceState struct {
	Schema, Roles, Views string
	Prepared             bool // a transaction is prepared: it would stay behind
}

var stateSQL = `SELECT (` + schema.FingerprintSQL() + `),
(SELECT pg_catalog.md5(coalesce(pg_catalog.string_agg(line, '|' ORDER BY line), '')) FROM (
	SELECT pg_catalog.textin(pg_catalog.record_out(a)) AS line FROM pg_catalog.pg_authid a WHERE a.rolname ~ ('^' || pg_catalog.current_database() || '(_|$)') AND a.rolname !~ ('^' || pg_catalog.current_database() || '` + tenantdb.MoverPattern + `$')
	UNION ALL SELECT pg_catalog.textin(pg_catalog.record_out(m)) FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_authid a ON a.oid = m.member WHERE a.rolname ~ ('^' || pg_catalog.current_database() || '_') AND a.rolname !~ ('^' || pg_catalog.current_database() || '` + tenantdb.MoverPattern + `$')
	UNION ALL SELECT pg_catalog.textin(pg_catalog.record_out(s)) FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase WHERE d.datname = pg_catalog.current_database()
	UNION ALL SELECT d.datacl::text FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
) roles),
(SELECT coalesce(pg_catalog.string_agg(c.oid || '/' || c.relfilenode || '/' || c.relispopulated || '/' || pg_catalog.pg_stat_get_tuples_inserted(c.oid)
	|| '/' || pg_catalog.pg_stat_get_tuples_updated(c.oid) || '/' || pg_catalog.pg_stat_get_tuples_deleted(c.oid), ',' ORDER BY c.oid), '')
	FROM pg_catalog.pg_class c WHERE c.relkind = 'm'),
EXISTS (SELECT FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database())`

func readState(ctx context.Context, conn *pgx.Conn) (sourceState, error) {
	var st sourceState
	if err := conn.QueryRow(ctx, stateSQL).Scan(&st.Schema, &st.Roles, &st.Views, &st.Prepared); err != nil {
		return st, fmt.Errorf("state of the source: %w", err)
	}
	return st, nil
}

// rehearseFor bounds a rehearsal: what takes so long has broken since it was looked at.
const rehearseFor = 20 * time.Second

// rehearse runs what the critical section will run, as far as that changes
// nothing, so that nothing there is slow for being done the first time.
func (c *crew) rehearse(ctx context.Context, r *run) error {
	ctx, cancel := context.WithTimeout(ctx, rehearseFor)
	defer cancel()
	values, err := c.barrier(ctx, uuid.NewString())
	if err != nil {
		return err
	}
	start := time.Now()
	defer func() { c.rehearsed = time.Since(start) }()
	err = guarded(ctx, c.dstGuard, leaseOf(r), func(conn *pgx.Conn) error { return carry(ctx, conn, nil, values) })
	if err != nil {
		return err
	}
	if _, err := c.dstSnap.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT pg_catalog.pg_export_snapshot(); ROLLBACK", pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	for _, conn := range []*pgx.Conn{c.srcServer, c.srcGuard, c.dstGuard} {
		if err := shard.RehearseFence(ctx, conn, r.Data.database()); err != nil {
			return err
		}
	}
	return guarded(ctx, c.srcGuard, leaseOf(r), func(*pgx.Conn) error { return nil })
}
