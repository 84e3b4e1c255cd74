package router_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/router"
)

// Over one connection that is never idle for long: its tenant's lease is
// renewed beside the requests, goes on while the store is away, ends for that
// tenant alone, and is there again when the store is.
func TestLeaseOfABusyConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(), newFake()
		p, other := w.settle(1, "s1", 1), w.settle(2, "s1", 1)
		r, _ := fakeRouter(t, w, f, router.Config{LeaseFor: time.Minute, IdleAfter: time.Hour})
		ask := func() error { return r.Do(t.Context(), p.Tenant, router.ReadOnly, query) }
		set := func(err error) {
			synctest.Wait()
			w.mu.Lock()
			w.sealed, w.reads = err, 0
			w.mu.Unlock()
		}
		reads := func() int {
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.reads
		}
		require.NoError(t, ask())
		set(nil)
		for range 600 { // ten minutes
			time.Sleep(time.Second)
			require.NoError(t, ask())
		}
		require.InDelta(t, 10, reads(), 1, "once a lease")
		require.EqualValues(t, 1, r.Stats().Open)

		set(secret.ErrUnavailable)
		for range 600 {
			time.Sleep(time.Second)
			require.NoError(t, ask(), "leased still")
		}
		require.LessOrEqual(t, reads(), 130, "asked every now and then")
		set(nil)
		require.NoError(t, r.Do(t.Context(), other.Tenant, router.ReadOnly, query))
		set(secret.ErrUnavailable)
		time.Sleep(5 * time.Minute)
		require.ErrorIs(t, ask(), router.ErrUnreachable, "ended, though its connection is there")
		require.ErrorIs(t, ask(), secret.ErrUnavailable)
		require.NoError(t, r.Do(t.Context(), other.Tenant, router.ReadOnly, query), "whose lease goes on")
		set(nil)
		require.NoError(t, ask(), "by itself")
	})
}

// A login that is taken back is not used again, over no connection.
func TestLoginTakenBackOfABusyConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(), newFake()
		p := w.settle(1, "s1", 1)
		r, _ := fakeRouter(t, w, f, router.Config{LeaseFor: time.Minute, IdleAfter: time.Hour})
		ask := func() error { return r.Do(t.Context(), p.Tenant, router.ReadOnly, query) }
		require.NoError(t, ask())
		w.mu.Lock()
		delete(w.logins, secret.DatabaseAuth(p.Database))
		w.mu.Unlock()
		time.Sleep(61 * time.Second)
		require.NoError(t, ask(), "found out beside it")
		synctest.Wait()
		require.ErrorIs(t, ask(), router.ErrUnreachable)
		require.ErrorIs(t, ask(), router.ErrUnreachable)
	})
}
