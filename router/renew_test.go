package router_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/router"
	"github.com/freehold-db/freehold/shardmap"
)

// turn writes the next generation of a tenant's secret, as its other turn.
func (w *world) turn(p shardmap.Placement) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	path := secret.DatabaseAuth(p.Database)
	l := w.logins[path]
	turn, err := tenantdb.TurnOf(l, p.Database)
	if err != nil {
		panic(err)
	}
	l.User, l.Generation = tenantdb.REST.UserAt(p.Database, turn.Other()), l.Generation+1
	w.logins[path] = l
	return l.Generation
}

// users has run tell which user its connection is logged in as.
func users(as *string) router.Session {
	return func(ctx context.Context, c *router.Conn) error {
		*as = c.PG.ParameterStatus("user")
		return query(ctx, c)
	}
}

func TestRenewGoesOverToTheNewLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(), newFake()
		p := w.settle(1, "s1", 1)
		r, _ := fakeRouter(t, w, f, router.Config{})
		var user string
		for _, l := range []tenantdb.Login{tenantdb.REST, tenantdb.SQLRead} {
			require.NoError(t, r.As(l).Do(t.Context(), p.Tenant, router.ReadWrite, users(&user)))
		}
		require.Equal(t, 2, r.Stats().Idle)

		renewed := make(chan error, 1)
		require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, func(ctx context.Context, c *router.Conn) error {
			generation := w.turn(p)
			go func() { renewed <- r.Renew(t.Context(), p.Tenant, generation) }()
			time.Sleep(time.Second)
			synctest.Wait()
			require.Empty(t, renewed, "a request is under way by the old login")
			require.Zero(t, r.Stats().Idle)
			require.NoError(t, r.Do(ctx, p.Tenant, router.ReadWrite, users(&user)))
			require.Equal(t, p.Database+"_auth_b", user, "meanwhile others go by the new one")
			return query(ctx, c)
		}))
		require.NoError(t, <-renewed)
		require.NoError(t, r.As(tenantdb.SQLRead).Do(t.Context(), p.Tenant, router.ReadWrite, users(&user)))
		require.Equal(t, p.Database+"_sql_ro_b", user)
		require.Equal(t, 2, r.Stats().Open)
		require.NoError(t, r.Renew(t.Context(), p.Tenant, 1), "told once more")
	})
}

// A connection that was being opened by the old login while the router went over
// is not used: nobody waits for it before that login is closed.
func TestRenewWhileAConnectionIsOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(), newFake()
		p := w.settle(1, "s1", 1)
		var r *router.Router
		began := false
		r = newRouter(t, w, router.Config{}, func(ctx context.Context, network, address string) (net.Conn, error) {
			if !began { // its login was read before
				began = true
				require.NoError(t, r.Renew(ctx, p.Tenant, w.turn(p)))
			}
			return f.dial(ctx, network, address)
		})
		var user string
		require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, users(&user)))
		require.Equal(t, p.Database+"_auth_b", user)
		require.Equal(t, 1, r.Stats().Open)
	})
}

// What is not let in by the new login goes on by the old one, and says so.
func TestRenewKeepsWhatWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(), newFake()
		p := w.settle(1, "s1", 1)
		r, _ := fakeRouter(t, w, f, router.Config{})
		var user string
		require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, users(&user)))
		generation := w.turn(p)
		refusal := errors.New("no way in")
		f.mu.Lock()
		f.refuse = refusal
		f.mu.Unlock()
		require.ErrorIs(t, r.Renew(t.Context(), p.Tenant, generation), refusal)
		require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, users(&user)))
		require.Equal(t, p.Database+"_auth_a", user)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, r.Renew(ctx, p.Tenant, generation+1), context.DeadlineExceeded, "the store does not have it")
		require.NoError(t, r.Renew(t.Context(), "tenant-2", 9), "a tenant of which nothing is kept")
	})
}

// A reader who is late does not take the router back.
func TestAnOlderSecretIsNotTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(), newFake()
		p := w.settle(1, "s1", 1)
		r, _ := fakeRouter(t, w, f, router.Config{LeaseFor: time.Minute})
		require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, query))
		old := w.logins[secret.DatabaseAuth(p.Database)]
		require.NoError(t, r.Renew(t.Context(), p.Tenant, w.turn(p)))
		w.mu.Lock()
		w.logins[secret.DatabaseAuth(p.Database)] = old // a copy of the store that is behind
		w.mu.Unlock()
		time.Sleep(2 * time.Minute)
		var user string
		require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, users(&user)))
		require.Equal(t, p.Database+"_auth_b", user)
	})
}
