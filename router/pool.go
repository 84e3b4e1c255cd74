package router

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// Why an acquired or awaited connection came to nothing.
var (
	errHeld    = errors.New("a hold began")
	errMoved   = errors.New("placement is older than one seen before")
	errConnect = errors.New("connection refused")
)

// pool is what the router keeps of one tenant. It is meant to be small and to
// own nothing while the tenant is idle: no connection, no goroutine, no timer.
// All of it is guarded by Router.mu.
type pool struct {
	tenant shardmap.TenantID
	epoch  shardmap.Epoch // newest seen; connections of an older one are not handed out
	idle   []*conn        // last used last, and first to be used again
	queue  *queue         // requests waiting for a connection; nil: none
	hold   *hold          // nil: none
	login  *lease         // nil: not read yet
	used   time.Time      // when it was last asked for
	open   int32          // connections open or being opened
	dials  int32          // of them being opened, at epoch
	busy   int32          // requests under way
}

// queue holds the waiting requests of one pool in order of arrival.
type queue struct {
	waiting list.List     // of *waiter
	turn    *list.Element // the pool's place in Router.line
}

type waiter struct {
	place   shardmap.Placement
	granted chan grant // holds one
	elem    *list.Element
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
	free time.Time     // idle since
}

func (r *Router) pool(tenant shardmap.TenantID) *pool {
	p := r.pools[tenant]
	if p == nil {
		p = &pool{tenant: tenant}
		r.pools[tenant] = p
	}
	p.used = time.Now()
	return p
}

func (r *Router) server(id shardmap.ShardID) *server {
	s := r.servers[id]
	if s == nil {
		s = &server{}
		r.servers[id] = s
	}
	return s
}

// ready tells whether a request for place may take a connection of p now.
func (r *Router) ready(p *pool, place shardmap.Placement) error {
	switch {
	case r.closing:
		return ErrClosed
	case p.hold != nil:
		return errHeld
	case place.Epoch < p.epoch:
		return errMoved
	}
	return nil
}

// acquire returns a connection to place: an idle one, a new one, or the next
// that becomes free within AcquireFor. Which waiting tenant that is given to
// goes round in turn, so that a busy tenant cannot starve a quiet one.
func (r *Router) acquire(ctx context.Context, place shardmap.Placement) (*conn, error) {
	for {
		r.mu.Lock()
		p := r.pool(place.Tenant)
		if err := r.ready(p, place); err != nil {
			r.mu.Unlock()
			return nil, err
		}
		gone := r.advance(p, place.Epoch)
		if c := r.popIdle(p); c != nil {
			r.mu.Unlock()
			shut(gone)
			if c.wire.idleSound() {
				return c, nil
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
		if p.queue != nil && p.queue.waiting.Len() >= r.cfg.WaitingMax {
			r.mu.Unlock()
			shut(gone)
			r.stats.busy.Add(1)
			return nil, fmt.Errorf("tenant %s: %w: %d requests wait for a connection", p.tenant, ErrBusy, r.cfg.WaitingMax)
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
			return g.conn, nil
		default:
			r.stats.stale.Add(1)
			r.discard(g.conn)
		}
	}
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
	if !r.mayDial(p) {
		return nil, false
	}
	s := r.server(shard)
	if s.open >= r.cfg.ShardConns || r.open >= r.cfg.NodeConns {
		from := s
		if s.open < r.cfg.ShardConns {
			from = r.longestIdle()
		}
		if from == nil || from.idle.Len() == 0 {
			return nil, false
		}
		c := from.idle.Front().Value.(*conn)
		r.drop(c)
		r.stats.evicted.Add(1)
		victim = append(victim, c)
	}
	p.open++
	p.dials++
	s.open++
	r.open++
	return victim, true
}

// dialsAtOnce bounds the connections of one tenant that are being opened. When
// its requests come all at once, as after a hold, the first one to be open
// serves many of them in the time that one more login takes, and is open later
// the more logins it has to share the processors with.
const dialsAtOnce = 1

func (r *Router) mayDial(p *pool) bool {
	return int(p.open) < r.cfg.TenantConns && p.dials < dialsAtOnce
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
	delete(r.conns, c)
	r.uncount(c.pool, c.Placement.Shard)
}

func (r *Router) enqueue(p *pool, place shardmap.Placement) *waiter {
	if p.queue == nil {
		p.queue = &queue{}
		p.queue.turn = r.line.PushBack(p)
	}
	w := &waiter{place: place, granted: make(chan grant, 1)}
	w.elem = p.queue.waiting.PushBack(w)
	r.stats.waiting.Add(1)
	return w
}

// grant ends the wait of p's first in the queue and moves p to the end of the line.
func (r *Router) grant(p *pool, g grant) {
	w := p.queue.waiting.Remove(p.queue.waiting.Front()).(*waiter)
	w.elem = nil
	w.granted <- g
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
		shard := p.queue.waiting.Front().Value.(*waiter).place.Shard
		if r.mayDial(p) && (shard == c.Placement.Shard || r.server(shard).open < r.cfg.ShardConns) {
			return p
		}
	}
	return nil
}

// await waits for a grant, within ctx and AcquireFor.
func (r *Router) await(ctx context.Context, p *pool, w *waiter) grant {
	patience := time.NewTimer(r.cfg.AcquireFor)
	defer patience.Stop()
	var err error
	select {
	case g := <-w.granted:
		return g
	case <-patience.C:
		r.stats.busy.Add(1)
		err = fmt.Errorf("tenant %s: %w: no connection became free within %v", p.tenant, ErrBusy, r.cfg.AcquireFor)
	case <-ctx.Done():
		err = fmt.Errorf("tenant %s: wait for a connection: %w", p.tenant, ctx.Err())
	}
	r.mu.Lock()
	if w.elem != nil { // still in the queue
		p.queue.waiting.Remove(w.elem)
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
	err := r.ready(c.pool, c.Placement)
	var gone []*conn
	if err == nil {
		c.pool.busy++
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
	p := c.pool
	p.busy--
	if p.hold != nil && p.busy == 0 {
		p.hold.drain()
	}
	var gone []*conn
	if sound {
		gone = r.park(c)
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
	if r.ready(p, c.Placement) != nil {
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

// advance notes the epoch of a placement of p. At a newer one the connections
// of the older go, who waits looks again, and a hold that waited for it ends.
func (r *Router) advance(p *pool, epoch shardmap.Epoch) (gone []*conn) {
	if epoch <= p.epoch {
		return nil
	}
	p.epoch = epoch
	p.dials = 0 // those under way are to the old place, and may hang there
	gone = r.vacate(p, errMoved)
	if p.hold != nil && epoch > p.hold.epoch {
		r.lift(p)
	}
	return gone
}

// vacate takes all idle connections of p out of the books and sends its
// waiting requests back with err.
func (r *Router) vacate(p *pool, err error) (gone []*conn) {
	for p.queue != nil {
		r.grant(p, grant{err: err})
	}
	for len(p.idle) > 0 {
		c := p.idle[0]
		r.drop(c)
		gone = append(gone, c)
	}
	if len(gone) > 0 {
		gone = append(gone, r.serve()...)
	}
	return gone
}

// placementChanged is told of every placement that is news to the map.
func (r *Router) placementChanged(place shardmap.Placement) {
	r.mu.Lock()
	var gone []*conn
	if p := r.pools[place.Tenant]; p != nil {
		gone = r.advance(p, place.Epoch)
	}
	r.mu.Unlock()
	shut(gone)
}
