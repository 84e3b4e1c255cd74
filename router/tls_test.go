package router_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/pki"
	"github.com/freehold-db/freehold/router"
)

// Before 1.24, PgBouncer makes all its connections by TLS anew at a RELOAD, as
// moves cause one, and gives up those that are just being made. That costs
// requests time and nothing else, however many RELOADs there are: each is
// served once.
func TestReloadsByTLSFailNoRequest(t *testing.T) {
	w := newWorld()
	s := site{pgtest.SharedSecureShard(t, "secure"), "secure", t}
	p := tenant(t, w, s)
	patient := router.Config{AcquireFor: time.Minute, RetryFor: time.Minute, ConnectFor: time.Minute} // however busy the machine is
	r, _ := routerBy(t, w, patient, s.Channel)

	var served atomic.Int64
	var clients sync.WaitGroup
	stop := make(chan struct{})
	var slowest atomic.Int64
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
				began, id := time.Now(), served.Add(1)
				err := r.Do(ctx, p.Tenant, router.ReadWrite, func(ctx context.Context, c *router.Conn) error {
					return batch(ctx, c.PG, p.Database+"_rw", fmt.Sprintf("INSERT INTO note VALUES (%d, 'x')", id))
				})
				cancel()
				if err != nil {
					t.Errorf("a request failed: %v", err)
					return
				}
				for took := int64(time.Since(began)); ; {
					was := slowest.Load()
					if took <= was || slowest.CompareAndSwap(was, took) {
						break
					}
				}
			}
		})
	}
	for i := range 12 {
		s.console("RELOAD")
		if i%2 == 0 { // every other one comes while connections are being made anew
			before := served.Load()
			pgtest.Eventually(t, "requests are served after a RELOAD", func() bool { return t.Failed() || served.Load() > before+20 })
		}
	}
	close(stop)
	clients.Wait()
	require.Equal(t, int(served.Load()), s.notes(p), "a write was lost, or ran twice")
	t.Logf("%d requests, the slowest took %v", served.Load(), time.Duration(slowest.Load()))
}

// A node shows who it is and believes no other's PgBouncer; where one of the
// two fails, nothing is executed.
func TestNodeAndPgBouncerVerifyEachOther(t *testing.T) {
	w := newWorld()
	s := site{pgtest.SharedSecureShard(t, "secure"), "secure", t}
	p := tenant(t, w, s)
	foreign, err := pki.Open(t.TempDir())
	require.NoError(t, err)
	anonymous, stranger := s.Security, s.Security
	anonymous.CertFile, anonymous.KeyFile = "", ""
	stranger.CAFile = foreign.Root()
	for name, security := range map[string]pg.TLS{"plain text": {}, "without a certificate": anonymous, "another root": stranger} {
		channel, err := security.Open(slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		r, _ := routerBy(t, w, router.Config{RetryFor: 300 * time.Millisecond}, channel)
		calls := 0
		err = r.Do(t.Context(), p.Tenant, router.ReadWrite, insert(1, &calls))
		require.ErrorIs(t, err, router.ErrUnreachable, name)
		require.Zero(t, calls, name)
	}
	r, _ := routerBy(t, w, router.Config{}, s.Channel)
	calls := 0
	require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, insert(1, &calls)))
	require.Equal(t, 1, s.notes(p))
	// A session that was ended while it was idle is noticed inside TLS, too.
	s.console("KILL " + p.Database)
	s.console("RESUME " + p.Database)
	require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, insert(2, &calls)))
	require.Equal(t, 2, s.notes(p))
}
