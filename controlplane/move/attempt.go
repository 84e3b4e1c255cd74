package move

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move/protocol"
	"github.com/freehold-db/freehold/controlplane/move/stream"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/schemachange"
	"github.com/freehold-db/freehold/shardmap"
)

// stage is where a cutover is played: protocol.World on servers.
type stage struct {
	s *Service
	r *run
	c *crew // nil before Muster and in the steps after the cutover: then everything is done from scratch

	hold        shardmap.Hold
	start, last time.Time // of the attempt, of its phase
}

func (s *Service) stage(r *run) *stage { return &stage{s: s, r: r} }

func (st *stage) Held(ctx context.Context) error { return st.r.Held(ctx) }

func (st *stage) Muster(ctx context.Context) (err error) {
	st.c, err = st.s.muster(ctx, st.r)
	return err
}

func (st *stage) Dismiss() {
	st.c.close()
	st.c = nil
}

func (st *stage) Prelude(ctx context.Context) error { return st.s.prelude(ctx, st.r, st.c) }

// Lap ends a phase and stops at its failpoint.
func (st *stage) Lap(name string) error {
	if st.c != nil {
		now := time.Now()
		st.c.attempt.Phases = append(st.c.attempt.Phases, Phase{name, ms(now.Sub(st.last))})
		st.last = now
	}
	return st.s.hit("move/cutover/" + name)
}

// Hold asks the data plane to keep requests back. What comes of it changes how
// many requests meet the pause, and nothing else.
func (st *stage) Hold(ctx context.Context) error {
	a := &st.c.attempt
	*a = Attempt{At: time.Now().UTC(), ForeseenMS: ms(st.c.foreseen)}
	st.start = time.Now()
	st.last = st.start
	st.hold = shardmap.Hold{Tenant: st.r.Data.Tenant, Epoch: st.r.Data.From.Epoch, ID: uuid.NewString(), For: st.r.Data.MaxPause + flipFor}
	acks, nodes, err := st.s.publisher.Hold(ctx, st.hold, min(st.r.Data.MaxPause/8, 50*time.Millisecond))
	if err != nil {
		st.s.opt.Logger.Debug("move: nodes can't be asked to hold", "operation", st.r.Op.ID, "error", err)
	}
	for _, ack := range acks {
		if ack.Drained {
			a.NodesDrained++
		}
	}
	a.Nodes = nodes
	return nil
}

// Pause has the fence ready to be raised when it is done.
func (st *stage) Pause(ctx context.Context) error {
	st.c.fence = getReady(ctx, unguardFor, st.c.srcGuard, leaseOf(st.r), func(ctx context.Context, conn *pgx.Conn) error {
		return shard.RaiseFence(ctx, conn, st.r.Data.database())
	})
	g, ctx := errgroup.WithContext(ctx)
	for _, gate := range st.c.gates {
		g.Go(func() error {
			err := gate.console.Pause(ctx, st.r.Data.database())
			if errors.Is(err, shard.ErrNoDatabase) {
				return nil // nobody came through it, and who comes now meets the fence
			}
			return err
		})
	}
	return g.Wait()
}

func (st *stage) Fence(ctx context.Context) error { return st.c.fence.commit(ctx) }

func (st *stage) Drain(ctx context.Context) error {
	return shard.Drain(ctx, st.c.srcServer, st.r.Data.database())
}

// values are the sequences as they are at the barrier.
type values struct {
	oids   []uint32
	last   []int64
	called []bool
}

// barrier writes the token and reads the sequences in one round trip, and
// waits until the token is at the target.
func (c *crew) barrier(ctx context.Context, token string) (values, error) {
	v := values{oids: c.there, last: make([]int64, len(c.there)), called: make([]bool, len(c.there))}
	batch := &pgx.Batch{}
	batch.Queue(stream.BarrierSQL, token)
	batch.Queue(c.read).Query(func(rows pgx.Rows) error {
		var i int
		var last int64
		var called bool
		_, err := pgx.ForEachRow(rows, []any{&i, &last, &called}, func() error {
			v.last[i], v.called[i] = last, called
			return nil
		})
		return err
	})
	if err := c.src.SendBatch(ctx, batch).Close(); err != nil {
		return v, fmt.Errorf("write barrier: %w", err)
	}
	return v, stream.Arrived(ctx, c.dst, token)
}

const setvalSQL = `SELECT pg_catalog.count(pg_catalog.setval(o::pg_catalog.regclass, v, c)) FROM unnest($1::oid[], $2::bigint[], $3::bool[]) AS q(o, v, c)`

// carry gives the target what the stream does not. setval is not undone with
// its transaction, so the guard on conn is all that keeps a worker that woke up
// late from setting a tenant's sequences back.
func carry(ctx context.Context, conn *pgx.Conn, statements []string, v values) error {
	batch := &pgx.Batch{}
	if len(statements) > 0 { // identities of tables, which nobody else reads
		batch.Queue(schemachange.Unnoted)
	}
	for _, sql := range statements {
		batch.Queue(sql)
	}
	batch.Queue(setvalSQL, v.oids, v.last, v.called)
	// The commit is to flush the log, whatever the server's default, and also if
	// nothing was written, for want of sequences.
	batch.Queue("SELECT pg_catalog.set_config('synchronous_commit', 'local', true) WHERE pg_catalog.current_setting('synchronous_commit') = 'off'")
	batch.Queue("SELECT pg_catalog.pg_logical_emit_message(true, 'freehold'::text, ''::text)")
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("sequences: %w", err)
	}
	return nil
}

// Barrier proves that everything that was committed at the source is at the
// target, and that nothing has changed that the stream does not carry. What it
// writes to the target is flushed, and with it all that was applied before.
func (st *stage) Barrier(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := st.c
	var v values
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		v, err = c.barrier(gctx, uuid.NewString())
		return err
	})
	g.Go(func() error {
		now, err := readState(gctx, c.srcState)
		if err != nil {
			return err
		}
		return now.changed(c.state)
	})
	err := guarded(ctx, c.dstGuard, leaseOf(st.r), func(conn *pgx.Conn) error { // begins while the others wait
		if err := g.Wait(); err != nil {
			return err
		}
		return carry(ctx, conn, st.r.Data.atBarrier(), v)
	})
	cancel()
	_ = g.Wait() // its error is in err; its connections are free again
	return err
}

// errRolesChanged and errViewsChanged: try again, with them brought over.
var (
	errRolesChanged = errors.New("the tenant's roles or settings changed")
	errViewsChanged = errors.New("a materialized view was refreshed")
	errPrepared     = errors.New("the tenant has a prepared transaction, which only its own server can commit")
)

func (now sourceState) changed(before sourceState) error {
	switch {
	case now.Schema != before.Schema:
		return errSchemaChanged
	case now.Roles != before.Roles:
		return errRolesChanged
	case now.Views != before.Views:
		return errViewsChanged
	case now.Prepared:
		return errPrepared
	}
	return nil
}

// Settle keeps the target as it is now, before its first login: a snapshot for
// the comparison, and the position of its log for the link back: that up to
// which it is flushed, for after a crash others write beyond it.
func (st *stage) Settle(ctx context.Context) error {
	if _, err := st.c.dstSnap.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	err := st.c.dstSnap.QueryRow(ctx, "SELECT pg_catalog.pg_export_snapshot(), pg_catalog.pg_current_wal_flush_lsn()::text", pgx.QueryExecModeSimpleProtocol).
		Scan(&st.c.snapshot, &st.r.Data.BackLSN)
	if err == nil {
		// Made ready while the flip is committed, whatever ends first.
		st.c.opening = getReady(context.WithoutCancel(ctx), unguardFor, st.c.dstGuard, leaseOf(st.r), st.unfence)
	}
	return err
}

// flipFor bounds the commit; the budget was checked before it.
const flipFor = 5 * time.Second

// Flip commits the new placement.
func (st *stage) Flip(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flipFor)
	defer cancel()
	d := &st.r.Data
	err := st.r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
		p, err := st.s.store.FlipPlacement(ctx, tx, d.Tenant, d.From, d.To)
		if err != nil {
			return err
		}
		return st.s.store.AppendAudit(ctx, tx, catalog.AuditRecord{
			Actor:  catalog.Actor{Name: "system", Role: "system", Reason: st.r.Op.Reason},
			Action: "move.flip", Object: "tenant/" + string(d.Tenant), Tenant: d.Tenant, Outcome: "ok",
			Details: fmt.Appendf(nil, `{"operation":%q,"from":%q,"to":%q,"epoch":%d}`, st.r.Op.ID, d.From.Shard, d.To, p.Epoch),
		})
	})
	if errors.Is(err, catalog.ErrConflict) {
		err = protocol.Final(operation.Permanent(err))
	}
	return err
}
