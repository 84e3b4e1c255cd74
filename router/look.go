package router

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	lostMax      = 3                      // times a ReadOnly request survives a lost connection
	unsentMax    = 16                     // dead connections in a row that are replaced without a pause
	firstPause   = 5 * time.Millisecond   // between two looks
	longestPause = 250 * time.Millisecond // so that a shard that is down is not hammered
	unwelcomeFor = time.Second            // that a login which is not there may still appear in
)

// looker paces the second and later attempts of one request.
type looker struct {
	login        tenantdb.Login
	until        time.Time // zero before the first look
	pause        time.Duration
	lost, unsent int
}

// again returns nil when the request may be tried again: at once when a newer
// placement is known by then, else after a pause that such news cuts short. It
// gives up after Config.RetryFor, with cause in the error.
func (l *looker) again(ctx context.Context, r *Router, place shardmap.Placement, v verdict, cause error) error {
	if l.until.IsZero() {
		l.until, l.pause = time.Now().Add(r.cfg.RetryFor), firstPause
	}
	r.stats.retries.Add(1)
	switch v {
	case unsent:
		if l.unsent++; l.unsent <= unsentMax {
			return nil
		}
	case lost:
		if l.lost++; l.lost > lostMax {
			return fmt.Errorf("tenant %s: %w: connection lost %d times: %w", place.Tenant, ErrUnreachable, l.lost, cause)
		}
	case refused:
		_, newer, err := r.shards.Refresh(ctx, place.Tenant, place.Epoch)
		if errors.Is(err, ErrUnknownTenant) {
			return err
		}
		if newer || r.renewed(ctx, place) {
			return nil
		}
		if l.login != tenantdb.REST && unwelcome(cause) && time.Until(l.until) < r.cfg.RetryFor-unwelcomeFor {
			return fmt.Errorf("tenant %s: %w (%s): %w", place.Tenant, ErrNoLogin, l.login, cause)
		}
	}
	yield(ctx)
	news, forget := r.shards.Newer(place.Tenant, place.Epoch)
	defer forget()
	pause := time.NewTimer(l.pause/2 + rand.N(l.pause/2)) //nolint:gosec // jitter
	defer pause.Stop()
	l.pause = min(2*l.pause, longestPause)
	select {
	case <-news:
	case <-pause.C:
	case <-ctx.Done():
		return fmt.Errorf("tenant %s: %w: %w", place.Tenant, ErrUnreachable, errors.Join(ctx.Err(), cause))
	}
	if time.Now().After(l.until) {
		return fmt.Errorf("tenant %s: %w: %w", place.Tenant, ErrUnreachable, cause)
	}
	return nil
}
