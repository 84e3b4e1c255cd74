package router

import (
	"time"

	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/shardmap"
)

// tenant is what the router keeps of one tenant. It is meant to be small and to
// own nothing while the tenant is idle: no connection, no goroutine, no timer.
// Its bounds, its holds and its epoch are for all of its logins together. All of
// it is guarded by Router.mu.
type tenant struct {
	id    shardmap.TenantID
	epoch shardmap.Epoch // newest seen; connections of an older one are not handed out
	pools [tenantdb.Logins]*pool
	hold  *hold               // nil: none
	seen  shardmap.HoldReport // of the last hold that ended
	lease *lease              // nil: not read yet
	// generation of the logins to a database of it is the newest seen; connections
	// by an older one are not handed out.
	generation int64
	database   string
	used       time.Time // when it was last asked for
	open       int32     // connections open or being opened
	busy       int32     // requests under way
	waiting    int32     // requests in its pools' queues
}

func (r *Router) tenant(id shardmap.TenantID) *tenant {
	t := r.tenants[id]
	if t == nil {
		t = &tenant{id: id}
		r.tenants[id] = t
	}
	t.used = time.Now()
	return t
}

func (t *tenant) pool(login tenantdb.Login) *pool {
	p := t.pools[login]
	if p == nil {
		p = &pool{of: t, login: login}
		t.pools[login] = p
	}
	return p
}

// longestIdle returns the tenant's connection that has been idle longest; nil: none is.
func (t *tenant) longestIdle() (c *conn) {
	for _, p := range t.pools {
		if p != nil && len(p.idle) > 0 && (c == nil || p.idle[0].free.Before(c.free)) {
			c = p.idle[0]
		}
	}
	return c
}

// ready tells whether a request for place may take a connection of t now.
func (r *Router) ready(t *tenant, place shardmap.Placement) error {
	switch {
	case r.closing:
		return ErrClosed
	case t.hold != nil:
		return errHeld
	case place.Epoch < t.epoch:
		return errMoved
	}
	return nil
}

// advance notes the epoch of a placement of t. At a newer one the connections
// of the older go, who waits looks again, and a hold that waited for it ends soon.
func (r *Router) advance(t *tenant, epoch shardmap.Epoch) (gone []*conn) {
	if epoch <= t.epoch {
		return nil
	}
	t.epoch = epoch
	for _, p := range t.pools {
		if p != nil {
			p.dials = 0 // those under way are to the old place, and may hang there
		}
	}
	gone = r.vacate(t, errMoved)
	if t.hold != nil && epoch > t.hold.epoch {
		t.expectRelease()
	}
	return gone
}

// vacate takes all idle connections of t out of the books and sends its
// waiting requests back with err.
func (r *Router) vacate(t *tenant, err error) (gone []*conn) {
	for _, p := range t.pools {
		if p == nil {
			continue
		}
		for p.queue != nil {
			r.grant(p, grant{err: err})
		}
		for len(p.idle) > 0 {
			c := p.idle[0]
			r.drop(c)
			gone = append(gone, c)
		}
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
	if t := r.tenants[place.Tenant]; t != nil {
		gone = r.advance(t, place.Epoch)
	}
	r.mu.Unlock()
	shut(gone)
}
