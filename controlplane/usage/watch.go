package usage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move/pace"
	"github.com/freehold-db/freehold/internal/sleep"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	// maintenance is the database of a shard that no tenant is in.
	maintenance = "postgres"
	// saveFor bounds what is asked of the catalog after it.
	saveFor = 15 * time.Second
	// keepEvery is after how many looks tenants' figures are saved.
	keepEvery = 6
	// longestWait is between tries at a shard that can't be measured.
	longestWait = 30 * time.Second
	// sizesFor is what reading sizes may take of a look, about; sizesFirst how many are read the first time.
	sizesFor   = 250 * time.Millisecond
	sizesFirst = 50
	sizesMost  = 2000
)

// watch measures one shard for as long as it has the right to.
type watch struct {
	*Service
	shard shardmap.ShardID
	state state
	looks int

	conn       *pgx.Conn
	processors int
	statements string // the schema of pg_stat_statements; empty: it is not there
	dropped    int64  // statements that it has dropped to make room
	sizes      int    // how many sizes to read at once
}

func (s *Service) newWatch(id shardmap.ShardID) *watch {
	return &watch{Service: s, shard: id, sizes: sizesFirst, state: state{shard: id, databases: map[string]*database{}}}
}

// run looks again and again until ctx ends, or somebody else has the right to.
func (w *watch) run(ctx context.Context) {
	defer w.disconnect()
	defer w.leave(ctx)
	said := ""
	for failed := 0; ctx.Err() == nil; {
		err := w.once(ctx)
		switch {
		case ctx.Err() != nil || errors.Is(err, catalog.ErrConflict):
			return
		case err == nil:
			failed, said = 0, ""
		default:
			failed++
			if text := err.Error(); text != said { // say it once, not every time
				w.opt.Logger.WarnContext(ctx, "shard is not measured", "shard", w.shard, "error", err)
				said = text
			}
		}
		wait := w.opt.Every
		switch {
		case failed > 0:
			wait = max(wait, min(wait<<min(failed, 10), longestWait))
		case w.state.all.seconds == 0: // with nothing to compare, there is nothing to say yet
			wait /= 4
		}
		_ = sleep.For(ctx, wait*9/10+rand.N(wait/5+1)) //nolint:gosec // jitter
	}
}

// once looks at the shard and saves what it saw, or why it saw nothing.
// Errors: catalog.ErrConflict (another replica has the right by now).
func (w *watch) once(ctx context.Context) error {
	looked := w.look(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if looked != nil {
		w.disconnect()
	}
	ctx, cancel := context.WithTimeout(ctx, saveFor)
	defer cancel()
	return errors.Join(looked, w.save(ctx, looked))
}

// look asks the server.
func (w *watch) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.opt.LookFor)
	defer cancel()
	if err := w.connect(ctx); err != nil {
		return err
	}
	l, err := w.read(ctx, w.conn)
	if err != nil {
		return err
	}
	w.state.take(l, w.inbox.take(w.state.databases))
	return w.readSizes(ctx)
}

// readSizes reads as many as fit into sizesFor, as far as the last time tells.
func (w *watch) readSizes(ctx context.Context) error {
	oids := w.state.toSize(w.sizes, (keepEvery-1)*w.opt.Every, time.Now())
	if len(oids) == 0 {
		return nil
	}
	start := time.Now()
	sizes, err := readSizes(ctx, w.conn, oids)
	if err != nil {
		return err
	}
	w.state.size(sizes, time.Now())
	if took := time.Since(start); took > sizesFor {
		w.sizes = max(1, w.sizes/2)
	} else if len(oids) == w.sizes && took < sizesFor/2 {
		w.sizes = min(2*w.sizes, sizesMost)
	}
	return nil
}

// save keeps what was seen. Tenants are saved every keepEvery looks, and as soon as there is something to say at all.
func (w *watch) save(ctx context.Context, looked error) error {
	if looked != nil {
		return w.store.SaveShardReading(ctx, w.shard, w.opt.Keeper, catalog.ShardFigures{}, looked.Error(), w.right())
	}
	if w.looks++; w.looks <= 2 || w.looks%keepEvery == 0 {
		if err := w.settle(ctx); err != nil {
			return err
		}
		changed := w.state.changed()
		if err := w.store.SaveTenantReadings(ctx, w.shard, w.opt.Keeper, changed); err != nil {
			return err
		}
		w.state.saved(changed)
	}
	if w.state.all.seconds == 0 {
		return nil
	}
	return w.store.SaveShardReading(ctx, w.shard, w.opt.Keeper, w.state.figures(), "", w.right())
}

// settle asks who lives in the shard's databases.
func (w *watch) settle(ctx context.Context) error {
	tenants, err := w.store.TenantDatabases(ctx, w.shard)
	if err != nil {
		return err
	}
	var known []catalog.TenantReading
	if come := w.state.newcomers(tenants); len(come) > 0 {
		if known, err = w.store.TenantReadings(ctx, come); err != nil {
			return err
		}
	}
	w.state.settle(tenants, known)
	return nil
}

// connect opens the session that looks are made with, if it is not open.
func (w *watch) connect(ctx context.Context) (err error) {
	if w.conn != nil && !w.conn.IsClosed() {
		return nil
	}
	if w.conn, err = w.fleet.Session(ctx, w.shard, maintenance, application); err != nil {
		w.conn = nil
		return err
	}
	// A statement that nobody waits for any more is not to go on.
	if _, err := w.conn.Exec(ctx, fmt.Sprintf("SET statement_timeout = %d", w.opt.LookFor.Milliseconds())); err != nil {
		return err
	}
	w.processors, w.dropped = pace.Processors(ctx, w.conn), -1
	return w.conn.QueryRow(ctx, statementsSQL).Scan(&w.statements)
}

// disconnect ends it, however the server is.
func (w *watch) disconnect() {
	if w.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = w.conn.Close(ctx) // the server notices either way
	w.conn = nil
}

// leave gives the right back, so that another replica need not wait for its end.
func (w *watch) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = w.store.LeaveShardUsage(ctx, w.shard, w.opt.Keeper) // or it ends by itself
}
