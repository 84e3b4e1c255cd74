package router

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/shardmap"
)

// Why an acquired or awaited connection came to nothing.
var (
	errHeld    = errors.New("a hold began")
	errMoved   = errors.New("placement is older than one seen before")
	errConnect = errors.New("connection refused")
)

// pool is what the router keeps of one login of a tenant: the connections that
// it opened, and who waits for one. All of it is guarded by Router.mu.
type pool struct {
	of    *tenant
	login tenantdb.Login
	idle  []*conn // last used last, and first to be used again
	kept  *conn   // for the end of a hold; neither idle nor in use
	queue *queue  // requests waiting for a connection; nil: none
	open  int32   // connections open or being opened
	dials int32   // of them being opened or new, at the tenant's epoch
}

// queue holds the waiting requests of one pool in order of arrival.
type queue struct {
	waiting list.List     // of *waiter
	turn    *list.Element // the pool's place in Router.line
}

type waiter struct {
	place    shardmap.Placement
	granted  chan grant // holds one
	patience *time.Timer
	elem     *list.Element
}

// waiter is one for place; [Router.await] ends with giving it back. On a busy
// node nearly every request waits a moment, and what that takes is kept.
func (r *Router) waiter(place shardmap.Placement) *waiter {
	w, _ := r.waiters.Get().(*waiter)
	if w == nil {
		w = &waiter{granted: make(chan grant, 1), patience: time.NewTimer(time.Hour)}
	}
	w.place = place
	w.patience.Reset(r.cfg.AcquireFor)
	return w
}

// grant ends a wait: with a connection, with the permission to open one
// (a seat, already counted), or with an error that sends the request back.
type grant struct {
	conn *conn
	err  error
}

// server counts the connections to one shard.
type server struct {
	open int
	idle list.List // of *conn, longest idle first
}

// conn is an open connection and its place in the books.
type conn struct {
	Conn
	wire *wire
	pool *pool
	idle *list.Element // in server.idle; nil: in use
	// generation of the login that it was opened by.
	generation int64
	new        bool      // counts as being opened still
	free       time.Time // idle since
	// led: its PgBouncer is that of an older place, and leads it to the new one.
	// From then on it is not used any more.
	led time.Time
}

func (r *Router) server(id shardmap.ShardID) *server {
	s := r.servers[id]
	if s == nil {
		s = &server{}
		r.servers[id] = s
	}
	return s
}

// acquire returns a login's connection to place: an idle one, a new one, or the
// next that becomes free within AcquireFor. Which waiting pool that is given to
// goes round in turn, so that a busy tenant cannot starve a quiet one.
func (r *Router) acquire(ctx context.Context, place shardmap.Placement, login tenantdb.Login) (*conn, error) {
	for {
		r.mu.Lock()
		t := r.tenant(place.Tenant)
		if err := r.ready(t, place); err != nil {
			r.mu.Unlock()
			return nil, err
		}
		gone := r.advance(t, place.Epoch)
		p := t.pool(login)
		if c := r.popIdle(p); c != nil {
			r.mu.Unlock()
			shut(gone)
			if c.wire.idleSound() && !c.outlived() {
				return r.lend(ctx, c)
			}
			r.stats.stale.Add(1)
			r.discard(c)
			continue
		}
		if victim, ok := r.seat(p, place.Shard); ok {
			r.mu.Unlock()
			shut(append(gone, victim...))
			return r.connect(ctx, p, place)
		}
		if int(t.waiting) >= r.cfg.WaitingMax {
			r.mu.Unlock()
			shut(gone)
			r.stats.busy.Add(1)
			return nil, fmt.Errorf("tenant %s: %w: %d requests wait for a connection", t.id, ErrBusy, r.cfg.WaitingMax)
		}
		w := r.enqueue(p, place)
		r.mu.Unlock()
		shut(gone)
		g := r.await(ctx, p, w)
		switch {
		case g.err != nil:
			return nil, g.err
		case g.conn == nil:
			return r.connect(ctx, p, place)
		case g.conn.wire.idleSound():
			return r.lend(ctx, g.conn)
		default:
			r.stats.stale.Add(1)
			r.discard(g.conn)
		}
	}
}

// lend hands out a connection that was open already, if its tenant's login is leased still.
func (r *Router) lend(ctx context.Context, c *conn) (*conn, error) {
	if err := r.leased(ctx, c); err != nil {
		r.discard(c)
		return nil, err
	}
	return c, nil
}

func (r *Router) popIdle(p *pool) *conn {
	if len(p.idle) == 0 {
		return nil
	}
	c := p.idle[len(p.idle)-1]
	p.idle[len(p.idle)-1] = nil
	p.idle = p.idle[:len(p.idle)-1]
	r.server(c.Placement.Shard).idle.Remove(c.idle)
	c.idle = nil
	return c
}

// seat counts one more connection of p, if the bounds allow it; where only an
// idle connection of some tenant is in the way, that goes (the caller closes it).
func (r *Router) seat(p *pool, shard shardmap.ShardID) (victim []*conn, ok bool) {
	if p.dials >= dialsAtOnce {
		return nil, false
	}
	s := r.server(shard)
	var c *conn
	switch {
	case int(p.of.open) >= r.cfg.TenantConns:
		if c = p.of.longestIdle(); c == nil {
			return nil, false
		}
	case s.open >= r.cfg.ShardConns || r.open >= r.cfg.NodeConns:
		from := s
		if s.open < r.cfg.ShardConns {
			from = r.longestIdle()
		}
		if from == nil || from.idle.Len() == 0 {
			return nil, false
		}
		c = from.idle.Front().Value.(*conn)
	}
	if c != nil {
		r.drop(c)
		r.stats.evicted.Add(1)
		victim = append(victim, c)
	}
	p.open++
	p.dials++
	p.of.open++
	s.open++
	r.open++
	return victim, true
}

// dialsAtOnce bounds the connections of one login that are being opened, or are
// new. When its requests come all at once, as after a hold, the first one to be
// open serves many of them in the time that one more login takes, and its first
// answer is there later the more logins it has to share the processors with: a
// server that just began reads its catalogs. A connection is new until its first
// request is over, or newFor has passed.
const (
	dialsAtOnce = 1
	newFor      = 20 * time.Millisecond
)

// startNew has a connection at its tenant's epoch count as new.
func (r *Router) startNew(c *conn) {
	c.new = true
	c.pool.dials++
	time.AfterFunc(newFor, func() {
		r.mu.Lock()
		gone := r.settle(c)
		r.mu.Unlock()
		shut(gone)
	})
}

// settle has a connection that was new be like any other, and makes room for
// the next one to be opened.
func (r *Router) settle(c *conn) (gone []*conn) {
	if !c.new {
		return nil
	}
	c.new = false
	if c.Placement.Epoch == c.pool.of.epoch {
		c.pool.dials--
	}
	return r.serve()
}

// longestIdle returns the shard with the connection that has been idle longest.
func (r *Router) longestIdle() (from *server) {
	for _, s := range r.servers {
		if f := s.idle.Front(); f != nil && (from == nil || f.Value.(*conn).free.Before(from.idle.Front().Value.(*conn).free)) {
			from = s
		}
	}
	return from
}

// unseat takes one connection of p out of the count and passes the room on.
func (r *Router) unseat(p *pool, shard shardmap.ShardID) (gone []*conn) {
	r.uncount(p, shard)
	return r.serve()
}

func (r *Router) uncount(p *pool, shard shardmap.ShardID) {
	p.open--
	p.of.open--
	r.server(shard).open--
	r.open--
	if r.closing && r.open == 0 {
		r.announceEmpty()
	}
}

// drop takes an open connection out of the books without passing the room on.
// The caller closes it after unlocking.
func (r *Router) drop(c *conn) {
	if c.idle != nil {
		r.server(c.Placement.Shard).idle.Remove(c.idle)
		c.idle = nil
		p := c.pool
		i := slices.Index(p.idle, c)
		p.idle = slices.Delete(p.idle, i, i+1) // clears the freed slot too: a closed connection is kept by nothing
		if len(p.idle) == 0 {
			p.idle = nil
		}
	}
	if c.new && c.Placement.Epoch == c.pool.of.epoch {
		c.pool.dials--
	}
	c.new = false
	delete(r.conns, c)
	r.uncount(c.pool, c.Placement.Shard)
}

func (r *Router) enqueue(p *pool, place shardmap.Placement) *waiter {
	if p.queue == nil {
		p.queue = &queue{}
		p.queue.turn = r.line.PushBack(p)
	}
	w := r.waiter(place)
	w.elem = p.queue.waiting.PushBack(w)
	p.of.waiting++
	r.stats.waiting.Add(1)
	return w
}

// grant ends the wait of p's first in the queue and moves p to the end of the line.
func (r *Router) grant(p *pool, g grant) {
	w := p.queue.waiting.Remove(p.queue.waiting.Front()).(*waiter)
	w.elem = nil
	w.granted <- g
	p.of.waiting--
	r.stats.waiting.Add(-1)
	r.line.MoveToBack(p.queue.turn)
	r.unqueue(p)
}

func (r *Router) unqueue(p *pool) {
	if p.queue.waiting.Len() == 0 {
		r.line.Remove(p.queue.turn)
		p.queue = nil
	}
}

// serve grants seats while there is room and somebody who can use it.
func (r *Router) serve() (gone []*conn) {
	for e := r.line.Front(); e != nil; {
		p := e.Value.(*pool)
		next := e.Next()
		first := p.queue.waiting.Front().Value.(*waiter)
		if victim, ok := r.seat(p, first.place.Shard); ok {
			gone = append(gone, victim...)
			r.grant(p, grant{})
			next = r.line.Front()
		}
		e = next
	}
	return gone
}

// heir returns the pool whose turn it is to profit from c being free: c's own,
// which takes c over, or another for which c has to go. nil: nobody waits.
func (r *Router) heir(c *conn) *pool {
	for e := r.line.Front(); e != nil; e = e.Next() {
		p := e.Value.(*pool)
		if p == c.pool {
			return p
		}
		if p.dials >= dialsAtOnce {
			continue
		}
		shard := p.queue.waiting.Front().Value.(*waiter).place.Shard
		switch {
		case p.of == c.pool.of:
			// Between logins of a tenant connections change hands only where
			// one has none, or the other has no use for it: each change is a login.
			if p.open == 0 || c.pool.queue == nil {
				return p
			}
		case int(p.of.open) < r.cfg.TenantConns && (shard == c.Placement.Shard || r.server(shard).open < r.cfg.ShardConns):
			return p
		}
	}
	return nil
}

// await waits for a grant, within ctx and AcquireFor.
func (r *Router) await(ctx context.Context, p *pool, w *waiter) grant {
	defer func() { // nobody else has it any more, and its channel is empty
		w.patience.Stop()
		w.place = shardmap.Placement{}
		r.waiters.Put(w)
	}()
	var err error
	select {
	case g := <-w.granted:
		return g
	case <-w.patience.C:
		r.stats.busy.Add(1)
		err = fmt.Errorf("tenant %s: %w: no connection became free within %v", p.of.id, ErrBusy, r.cfg.AcquireFor)
	case <-ctx.Done():
		err = fmt.Errorf("tenant %s: wait for a connection: %w", p.of.id, ctx.Err())
	}
	r.mu.Lock()
	if w.elem != nil { // still in the queue
		p.queue.waiting.Remove(w.elem)
		p.of.waiting--
		r.stats.waiting.Add(-1)
		r.unqueue(p)
		r.mu.Unlock()
		return grant{err: err}
	}
	r.mu.Unlock()
	return <-w.granted // granted at the last moment: take it
}

// begin counts a request as under way, unless a hold or a newer placement came
// since its connection was asked for; then the connection is given back.
func (r *Router) begin(c *conn) error {
	r.mu.Lock()
	err := r.ready(c.pool.of, c.Placement)
	var gone []*conn
	if err == nil {
		c.pool.of.busy++
	} else {
		gone = r.park(c)
	}
	r.mu.Unlock()
	shut(gone)
	return err
}

// end takes a connection back after a request.
func (r *Router) end(c *conn) {
	sound := !c.PG.IsClosed() && !c.PG.IsBusy() && c.PG.TxStatus() == 'I'
	r.mu.Lock()
	t := c.pool.of
	t.busy--
	if t.hold != nil && t.busy == 0 {
		t.hold.drain()
	}
	var gone []*conn
	if sound {
		gone = append(r.park(c), r.settle(c)...)
	} else {
		r.cleanUp(c)
		r.drop(c)
		gone = append(r.serve(), c)
	}
	r.mu.Unlock()
	shut(gone)
}

// park passes a sound connection on to who waits, or keeps it idle, or drops
// it when it must not be used again. It returns what is to be closed.
func (r *Router) park(c *conn) (gone []*conn) {
	p := c.pool
	if p.of.hold != nil && p.kept == nil && c.Placement.Epoch == p.of.epoch && !r.closing && !c.outlived() && !c.outdated() {
		p.kept = c
		return r.serve()
	}
	if r.ready(p.of, c.Placement) != nil || c.outlived() || c.outdated() {
		r.drop(c)
		return append(r.serve(), c)
	}
	switch heir := r.heir(c); heir {
	case p:
		r.grant(p, grant{conn: c})
	case nil:
		c.free = time.Now()
		c.idle = r.server(c.Placement.Shard).idle.PushBack(c)
		p.idle = append(p.idle, c)
	default:
		r.drop(c)
		r.stats.evicted.Add(1)
		return append(r.serve(), c)
	}
	return nil
}

// discard closes a connection that nobody uses and passes its room on.
func (r *Router) discard(c *conn) {
	r.mu.Lock()
	r.drop(c)
	gone := append(r.serve(), c)
	r.mu.Unlock()
	shut(gone)
}
