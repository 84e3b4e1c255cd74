package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// A tenant's login is leased from the secret store: after LeaseFor it is read
// again, beside the requests, which go on. While the store is away the lease
// goes on for leaseGrace times LeaseFor. Then it has ended, and no connection of
// the tenant's is used, old or new, until the store gives the login again.

const (
	rereadGap  = 250 * time.Millisecond // between two reads of a login after refusals
	leaseGrace = 12                     // leases that a login stays good for when the store is away
	renewals   = 16                     // logins read again at a time
)

// lease is a tenant's secret as it was read; all of its logins follow from it.
type lease struct {
	document secret.Login
	database string
	read     time.Time // when the store gave it
	asked    time.Time // when the store was last asked for it
	doubted  bool      // a server refused it since
}

// document returns the secret of a tenant's database: from the lease, or read
// again when that is due or a server refused a login.
func (r *Router) document(ctx context.Context, t *tenant, database string) (secret.Login, error) {
	r.mu.Lock()
	l := t.lease
	if l != nil && l.database != database {
		l = nil
	}
	var age time.Duration
	again := false
	if l != nil {
		age = time.Since(l.read)
		again = l.doubted && time.Since(l.asked) >= rereadGap
		if again {
			l.asked = time.Now()
		}
	}
	r.mu.Unlock()
	if l != nil && age < r.cfg.LeaseFor && !again {
		return l.document, nil
	}
	fresh, _, err := r.creds.Get(ctx, secret.DatabaseAuth(database))
	if err != nil {
		gone := errors.Is(err, secret.ErrNotFound)
		if l != nil && !gone && age < leaseGrace*r.cfg.LeaseFor {
			return l.document, nil
		}
		if gone {
			r.mu.Lock()
			t.lease = nil // not to be used again, whatever happens to the store
			r.mu.Unlock()
		}
		return secret.Login{}, fmt.Errorf("tenant %s: %w: login: %w", t.id, ErrUnreachable, err)
	}
	return r.take(t, fresh, database), nil
}

// leased tells whether a connection that is open already may be used. It has a
// lease that is due renewed beside the request, and waits for the store only
// when there is none, or it has ended.
func (r *Router) leased(ctx context.Context, c *conn) error {
	t, database := c.pool.of, c.Placement.Database
	r.mu.Lock()
	l, now := t.lease, time.Now()
	switch {
	case l == nil, l.database != database, now.Sub(l.read) >= leaseGrace*r.cfg.LeaseFor:
		r.mu.Unlock()
		ctx, cancel := context.WithTimeout(ctx, r.cfg.ConnectFor)
		defer cancel()
		_, err := r.document(ctx, t, database)
		return err
	case now.Sub(l.read) >= r.cfg.LeaseFor && now.Sub(l.asked) >= r.cfg.LeaseFor/leaseGrace && r.renewing < renewals && !r.closing:
		l.asked = now
		r.renewing++
		r.side.Go(func() { r.renewLease(t, c.Placement) })
	}
	r.mu.Unlock()
	return nil
}

func (r *Router) renewLease(t *tenant, place shardmap.Placement) {
	ctx, cancel := context.WithTimeout(r.life, r.cfg.ConnectFor)
	defer cancel()
	_, _ = r.document(ctx, t, place.Database) // who needs it and can't have it says so
	r.mu.Lock()
	r.renewing--
	r.mu.Unlock()
}
