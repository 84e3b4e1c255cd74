package router_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/router"
	"github.com/freehold-db/freehold/shardmap"
)

// Connections by one login stay when another is used, and are counted together.
func TestLoginsShareATenantsConnections(t *testing.T) {
	w, f := newWorld(), newFake()
	p := w.settle(1, "s1", 1)
	r, _ := fakeRouter(t, w, f, router.Config{TenantConns: 2})
	do := func(l tenantdb.Login, run router.Session) {
		t.Helper()
		require.NoError(t, r.As(l).Do(t.Context(), p.Tenant, router.ReadWrite, run))
	}
	for range 3 {
		do(tenantdb.REST, query)
		do(tenantdb.SQLRead, query)
	}
	require.Equal(t, 2, f.dials)
	require.Equal(t, 1, w.reads, "all logins follow from one secret")
	do(tenantdb.Owner, query) // at the bound the one that was idle longest makes room
	require.Equal(t, 2, r.Stats().Open)
	do(tenantdb.SQLRead, query)
	require.Equal(t, 3, f.dials)
	do(tenantdb.REST, query)
	require.Equal(t, 4, f.dials)
	require.Equal(t, 1, r.Stats().Pools)
}

// With every connection in use by one login, another's request gets the next
// that is free, and those of the first are served after it.
func TestOneLoginDoesNotStarveAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(), newFake()
		p := w.settle(1, "s1", 1)
		r, _ := fakeRouter(t, w, f, router.Config{TenantConns: 1})
		var wg sync.WaitGroup
		var mu sync.Mutex
		var order []tenantdb.Login
		request := func(l tenantdb.Login) {
			wg.Go(func() {
				err := r.As(l).Do(t.Context(), p.Tenant, router.ReadWrite, func(ctx context.Context, c *router.Conn) error {
					mu.Lock()
					order = append(order, l)
					mu.Unlock()
					return query(ctx, c)
				})
				if err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadOnly, func(ctx context.Context, c *router.Conn) error {
			for range 5 {
				request(tenantdb.REST)
			}
			request(tenantdb.SQLWrite)
			request(tenantdb.REST)
			return query(ctx, c)
		}))
		wg.Wait()
		require.Len(t, order, 7)
		require.Contains(t, order[:2], tenantdb.SQLWrite, "%v", order)
		require.Zero(t, r.Stats().Waiting)
	})
}

func TestHoldIsForAllLogins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(), newFake()
		p := w.settle(1, "s1", 1)
		r, _ := fakeRouter(t, w, f, router.Config{HoldFor: 2 * time.Second})
		for l := range tenantdb.Login(tenantdb.Logins) {
			require.NoError(t, r.As(l).Do(t.Context(), p.Tenant, router.ReadOnly, query))
		}
		require.Equal(t, tenantdb.Logins, r.Stats().Idle)
		require.NoError(t, r.As(tenantdb.SQLRead).Do(t.Context(), p.Tenant, router.ReadOnly, func(ctx context.Context, _ *router.Conn) error {
			drained := r.Hold(shardmap.Hold{Tenant: p.Tenant, ID: "a", Epoch: p.Epoch, For: time.Minute})
			select {
			case <-drained:
				t.Error("drained with a request under way")
			default:
			}
			require.Zero(t, r.Stats().Idle, "no login's connection is for anybody")
			return nil
		}))
		require.Equal(t, tenantdb.Logins, r.Stats().Open, "one of each waits for the end")
		for l := range tenantdb.Login(tenantdb.Logins) {
			if l == tenantdb.Owner { // the hold's end
				r.Release(shardmap.Release{Tenant: p.Tenant, ID: "a"})
			}
			err := r.As(l).Do(t.Context(), p.Tenant, router.ReadOnly, query)
			if l < tenantdb.Owner {
				require.ErrorIs(t, err, router.ErrHoldExpired)
			} else {
				require.NoError(t, err)
			}
		}
	})
}

// A database from before there was a login says so soon, whatever REST does meanwhile.
func TestADatabaseWithoutTheLogin(t *testing.T) {
	w := newWorld()
	p := tenant(t, w, shared(t, "a")) // has the login for REST only
	r, _ := realRouter(t, w, router.Config{RetryFor: time.Minute})
	require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadOnly, query))
	require.ErrorIs(t, r.As(tenantdb.SQLRead).Do(t.Context(), p.Tenant, router.ReadOnly, query), router.ErrNoLogin)
	require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadOnly, query))
}
