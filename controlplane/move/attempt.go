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
	"github.com/freehold-db/freehold/controlplane/move/stream"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/shardmap"
)

// critical is one pass through the critical section, from the first request
// held back to the flip.
type critical struct {
	s     *Service
	r     *run
	c     *crew
	hold  shardmap.Hold
	start time.Time
	last  time.Time
	acks  int
	nodes int
	// pausing: PgBouncers may be paused by us.
	pausing bool
}

// lap ends a phase and stops at its failpoint.
func (k *critical) lap(name string) error {
	now := time.Now()
	k.c.attempt.Phases = append(k.c.attempt.Phases, Phase{name, ms(now.Sub(k.last))})
	k.last = now
	return k.s.hit("move/cutover/" + name)
}

// errOverrun: the pause budget was used up before the flip.
var errOverrun = errors.New("the pause budget is used up")

// run holds everybody back, makes sure that all is at the target, and flips
// the placement. Until it returns nil nothing is decided: the caller must
// reopen the source, unless the catalog says that the flip was committed.
func (k *critical) run(ctx context.Context) error {
	bounded, cancel := context.WithTimeoutCause(ctx, k.r.Data.MaxPause, errOverrun)
	defer cancel()
	k.start = time.Now()
	k.last = k.start
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"hold", k.holdNodes}, {"paused", k.pause}, {"fenced", k.fence}, {"barrier", k.passBarrier}, {"before-flip", k.settle},
	} {
		err := step.do(bounded)
		if err == nil {
			err = k.lap(step.name)
		}
		if err == nil && bounded.Err() != nil {
			err = context.Cause(bounded)
		}
		if err != nil {
			if errors.Is(context.Cause(bounded), errOverrun) && ctx.Err() == nil {
				return fmt.Errorf("%w at %q after %v", errOverrun, step.name, time.Since(k.start).Round(time.Millisecond))
			}
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return k.flip(ctx)
}

// holdNodes asks the data plane to keep requests back. It is a hint: what
// comes of it changes how many requests meet the pause, and nothing else.
func (k *critical) holdNodes(ctx context.Context) error {
	acks, nodes, err := k.s.publisher.Hold(ctx, k.hold, min(k.r.Data.MaxPause/8, 50*time.Millisecond))
	if err != nil {
		k.s.opt.Logger.Debug("move: nodes can't be asked to hold", "operation", k.r.Op.ID, "error", err)
	}
	for _, a := range acks {
		if a.Drained {
			k.acks++
		}
	}
	k.nodes = nodes
	k.c.attempt.NodesDrained, k.c.attempt.Nodes = k.acks, k.nodes
	return nil
}

// pause has every PgBouncer on the way finish what runs and keep the rest.
func (k *critical) pause(ctx context.Context) error {
	k.pausing = true
	g, ctx := errgroup.WithContext(ctx)
	for _, gate := range k.c.gates {
		g.Go(func() error {
			err := gate.console.Pause(ctx, k.r.Data.database())
			if errors.Is(err, shard.ErrNoDatabase) {
				return nil // nobody came through it, and who comes now meets the fence
			}
			return err
		})
	}
	return g.Wait()
}

// fence keeps every login out of the source: from here on the truth is safe.
func (k *critical) fence(ctx context.Context) error {
	err := guarded(ctx, k.c.srcGuard, leaseOf(k.r), func(conn *pgx.Conn) error {
		return shard.RaiseFence(ctx, conn, k.r.Data.database())
	})
	if err != nil {
		return err
	}
	return shard.Drain(ctx, k.c.srcServer, k.r.Data.database())
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

// passBarrier proves that everything that was committed at the source is at the
// target, and that nothing has changed that the stream does not carry.
func (k *critical) passBarrier(ctx context.Context) error {
	var v values
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		v, err = k.c.barrier(gctx, uuid.NewString())
		return err
	})
	g.Go(func() error {
		now, err := readState(gctx, k.c.srcState)
		if err != nil {
			return err
		}
		return now.changed(k.c.state)
	})
	if err := g.Wait(); err != nil {
		return err
	}
	batch := &pgx.Batch{} // one transaction, flushed, and with it all that was applied before
	for _, sql := range k.r.Data.AtEnd {
		batch.Queue(sql)
	}
	batch.Queue(setvalSQL, v.oids, v.last, v.called)
	if err := k.c.dst.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("sequences: %w", err)
	}
	return nil
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

// settle keeps the target as it is now, before its first login, for the comparison.
func (k *critical) settle(ctx context.Context) error {
	if _, err := k.c.dstSnap.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	return k.c.dstSnap.QueryRow(ctx, "SELECT pg_catalog.pg_export_snapshot()", pgx.QueryExecModeSimpleProtocol).Scan(&k.c.snapshot)
}

// flipFor bounds the commit; the budget was checked before it.
const flipFor = 5 * time.Second

// flip commits the new placement.
func (k *critical) flip(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flipFor)
	defer cancel()
	d := &k.r.Data
	err := k.r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
		p, err := k.s.store.FlipPlacement(ctx, tx, d.Tenant, d.From, d.To)
		if err != nil {
			return err
		}
		return k.s.store.AppendAudit(ctx, tx, catalog.AuditRecord{
			Actor:  catalog.Actor{Name: "system", Role: "system", Reason: k.r.Op.Reason},
			Action: "move.flip", Object: "tenant/" + string(d.Tenant), Tenant: d.Tenant, Outcome: "ok",
			Details: fmt.Appendf(nil, `{"operation":%q,"from":%q,"to":%q,"epoch":%d}`, k.r.Op.ID, d.From.Shard, d.To, p.Epoch),
		})
	})
	if errors.Is(err, catalog.ErrConflict) {
		err = operation.Permanent(err)
	}
	return err
}
