package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/sleep"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/shardmap"
)

// A tenant's logins change by turns: those of a new generation are let in beside
// those of the one before, which are closed later. A router goes over to the new
// one when it is told ([Router.Renew]), when it reads the secret for whatever
// reason, and when a server refuses the old one. Requests under way end on the
// connection that they have; what is idle is closed, and nothing old is kept.

const (
	lookAgain = 20 * time.Millisecond // whether connections by an older generation are left
	rereadMax = 250 * time.Millisecond
)

// take notes a tenant's secret as it was just read, and returns the newest that
// is known: who was slow to read may bring an older one.
func (r *Router) take(t *tenant, document secret.Login, database string) secret.Login {
	r.mu.Lock()
	if l := t.lease; l != nil && l.database == database && l.document.Generation > document.Generation {
		l.read = time.Now() // the store answers
		l.asked = l.read
		document = l.document
		r.mu.Unlock()
		return document
	}
	now := time.Now()
	t.lease = &lease{document: document, database: database, read: now, asked: now}
	gone := r.goOver(t, database, document.Generation)
	r.mu.Unlock()
	shut(gone)
	return document
}

// goOver notes a generation of t's logins. At a newer one the idle connections
// by the older go; those in use go when they come back.
func (r *Router) goOver(t *tenant, database string, generation int64) (gone []*conn) {
	if database == t.database && generation <= t.generation {
		return nil
	}
	t.database, t.generation = database, generation
	for _, p := range t.pools {
		if p == nil {
			continue
		}
		for i := len(p.idle) - 1; i >= 0; i-- {
			if c := p.idle[i]; c.outdated() {
				r.drop(c)
				gone = append(gone, c)
			}
		}
	}
	if len(gone) > 0 {
		gone = append(gone, r.serve()...)
	}
	return gone
}

// outdated tells whether the connection is by an older generation of its
// tenant's logins. Called under mu.
func (c *conn) outdated() bool {
	return c.Placement.Database == c.pool.of.database && c.generation < c.pool.of.generation
}

// doubt has the tenant's secret read again before it is used again: a session
// by it was refused.
func (r *Router) doubt(c *conn) {
	r.mu.Lock()
	if l := c.pool.of.lease; l != nil && l.document.Generation <= c.generation {
		l.doubted = true
	}
	r.mu.Unlock()
}

// renewed tells whether the logins of a tenant that was refused have a newer
// generation. It asks at most every rereadGap.
func (r *Router) renewed(ctx context.Context, place shardmap.Placement) bool {
	r.mu.Lock()
	t := r.tenants[place.Tenant]
	if t == nil || t.lease == nil || !t.lease.doubted || t.lease.database != place.Database || time.Since(t.lease.asked) < rereadGap {
		r.mu.Unlock()
		return false
	}
	was := t.generation
	t.lease.asked = time.Now() // one who asks is enough
	r.mu.Unlock()
	document, _, err := r.creds.Get(ctx, secret.DatabaseAuth(place.Database))
	if err != nil {
		return false // who opens a connection next says so
	}
	return r.take(t, document, place.Database).Generation > was
}

// Renew goes over to a generation of a tenant's logins, if it keeps connections
// of that tenant: it reads the secret, makes sure that the new login is let in,
// and returns when no connection by an older one is left. Until the new login is
// let in, requests go on by the old one. Errors: ctx's, what keeps the new login out.
func (r *Router) Renew(ctx context.Context, id shardmap.TenantID, generation int64) error {
	r.mu.Lock()
	t := r.tenants[id]
	r.mu.Unlock()
	place, known := r.shards.Known(id)
	if t == nil || !known {
		return nil // who comes later reads the newest
	}
	document, err := r.reread(ctx, place.Database, generation)
	if errors.Is(err, secret.ErrNotFound) {
		return nil // it is gone, and so will be its connections
	}
	if err != nil {
		return fmt.Errorf("tenant %s: new logins: %w", id, err)
	}
	r.mu.Lock()
	used := t.open > 0 && t.generation < document.Generation
	r.mu.Unlock()
	if used {
		if err := r.prove(ctx, document, place); err != nil {
			return err
		}
	}
	r.take(t, document, place.Database)
	for r.older(t) > 0 {
		if err := sleep.For(ctx, lookAgain); err != nil {
			return fmt.Errorf("tenant %s: %d connections by older logins are in use: %w", id, r.older(t), err)
		}
	}
	return nil
}

// reread reads a database's secret until it is of that generation: a store that
// is kept in several places may be a moment late in one.
func (r *Router) reread(ctx context.Context, database string, generation int64) (secret.Login, error) {
	for pause := firstPause; ; pause = min(2*pause, rereadMax) {
		document, _, err := r.creds.Get(ctx, secret.DatabaseAuth(database))
		if err == nil && document.Generation >= generation || errors.Is(err, secret.ErrNotFound) {
			return document, err
		}
		if over := sleep.For(ctx, pause); over != nil {
			return document, errors.Join(err, over)
		}
	}
}

// prove logs in by a new secret once, beside all bounds, and leaves.
func (r *Router) prove(ctx context.Context, document secret.Login, place shardmap.Placement) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.ConnectFor)
	defer cancel()
	c, err := r.dialAs(ctx, tenantdb.REST, document, place)
	if err != nil {
		return err
	}
	shut([]*conn{c})
	return nil
}

// older counts t's connections by older generations.
func (r *Router) older(t *tenant) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		if c.pool.of == t && c.outdated() {
			n++
		}
	}
	return n
}
