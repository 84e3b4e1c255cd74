package router_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/router"
	"github.com/freehold-db/freehold/shardmap"
)

func TestConnectionIsUsedAgain(t *testing.T) {
	w, f := newWorld(), newFake()
	p := w.settle(1, "s1", 1)
	r, _ := fakeRouter(t, w, f, router.Config{})
	for range 5 {
		require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, query))
	}
	require.Equal(t, 1, f.dials)
	require.Equal(t, 1, r.Stats().Idle)
}

func TestWhatTheFunctionReturnsIsHandedBack(t *testing.T) {
	w, f := newWorld(), newFake()
	p := w.settle(1, "s1", 1)
	r, _ := fakeRouter(t, w, f, router.Config{})
	own, calls := errors.New("not today"), 0
	err := r.Do(t.Context(), p.Tenant, router.ReadOnly, func(context.Context, *router.Conn) error { calls++; return own })
	require.Same(t, own, err)
	require.Equal(t, 1, calls)
}

func TestStates(t *testing.T) {
	w, f := newWorld(), newFake()
	p := w.settle(1, "s1", 1)
	r, m := fakeRouter(t, w, f, router.Config{})
	require.ErrorIs(t, r.Do(t.Context(), "nobody", router.ReadOnly, query), router.ErrUnknownTenant)
	for epoch, c := range map[shardmap.Epoch]struct {
		state shardmap.State
		want  error
	}{2: {shardmap.Suspended, router.ErrSuspended}, 3: {shardmap.Deleted, router.ErrDeleted}} {
		q := p
		q.Tenant, q.Epoch, q.State = shardmap.TenantID(fmt.Sprintf("in-state-%d", epoch)), epoch, c.state
		m.Apply(q)
		require.ErrorIs(t, r.Do(t.Context(), q.Tenant, router.ReadOnly, query), c.want)
	}
	w.down = errors.New("no route to host")
	require.ErrorIs(t, r.Do(t.Context(), "stranger", router.ReadOnly, query), router.ErrUnresolved)
	require.Zero(t, f.dials)
}

// The bounds hold at every moment, whoever asks for whatever, everybody is
// served in the end, and nothing is left over.
func TestBounds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w, f := newWorld(), newFake()
		cfg := router.Config{
			NodeConns:   rapid.IntRange(1, 6).Draw(rt, "node"),
			ShardConns:  rapid.IntRange(1, 4).Draw(rt, "shard"),
			TenantConns: rapid.IntRange(1, 3).Draw(rt, "tenant"),
			AcquireFor:  20 * time.Second,
		}
		const tenants, shards = 6, 2
		var places []shardmap.Placement
		for i := range tenants {
			places = append(places, w.settle(i, shardmap.ShardID(fmt.Sprintf("s%d", i%shards)), 1))
		}
		requests := rapid.SliceOfN(rapid.IntRange(0, tenants-1), 1, 80).Draw(rt, "requests")
		logins := rapid.SliceOfN(rapid.Uint8Range(0, tenantdb.Logins-1), len(requests), len(requests)).Draw(rt, "logins")
		m := shardmap.NewMap(shardmap.MapConfig{}, w)
		r := router.New(m, w, cfg, router.WithDialer(f.dial))
		var inShard [shards]atomic.Int32
		var inTenant [tenants]atomic.Int32
		var wg sync.WaitGroup
		for n, i := range requests {
			login := tenantdb.Login(logins[n])
			wg.Go(func() {
				err := r.As(login).Do(context.Background(), places[i].Tenant, router.ReadWrite, func(ctx context.Context, c *router.Conn) error {
					if c.Placement.Tenant != places[i].Tenant {
						t.Errorf("%s got a connection of %s", places[i].Tenant, c.Placement.Tenant)
					}
					if got, want := c.PG.ParameterStatus("user"), login.User(places[i].Database); got != want {
						t.Errorf("a request by %s got a connection by %s", want, got)
					}
					if got := inTenant[i].Add(1); int(got) > cfg.TenantConns {
						t.Errorf("%d requests of one tenant, bound %d", got, cfg.TenantConns)
					}
					defer inTenant[i].Add(-1)
					if got := inShard[i%shards].Add(1); int(got) > cfg.ShardConns {
						t.Errorf("%d requests at one shard, bound %d", got, cfg.ShardConns)
					}
					defer inShard[i%shards].Add(-1)
					if got := r.Stats().Open; got > cfg.NodeConns {
						t.Errorf("%d connections, bound %d", got, cfg.NodeConns)
					}
					if n%5 == 0 {
						runtime.Gosched()
					}
					if n%11 == 0 {
						return c.PG.Close(ctx) // a connection that does not come back
					}
					return query(ctx, c)
				})
				if err != nil {
					t.Errorf("request %d: %v", n, err)
				}
			})
		}
		wg.Wait()
		if s := r.Stats(); s.Waiting != 0 || s.Open != s.Idle {
			rt.Fatalf("left over: %+v", s)
		}
		if err := r.Close(context.Background()); err != nil {
			rt.Fatal(err)
		}
		f.started.Wait()
		if f.total != 0 || r.Stats().Open != 0 {
			rt.Fatalf("%d connections left", f.total)
		}
	})
}

// A tenant that keeps every connection busy does not starve one that comes late.
func TestFairWaiting(t *testing.T) {
	w, f := newWorld(), newFake()
	busy, quiet := w.settle(1, "s1", 1), w.settle(2, "s1", 1)
	r, _ := fakeRouter(t, w, f, router.Config{NodeConns: 2, TenantConns: 2, AcquireFor: 10 * time.Second})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var served atomic.Int64
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if r.Do(ctx, busy.Tenant, router.ReadOnly, query) == nil {
					served.Add(1)
				}
			}
		})
	}
	require.Eventually(t, func() bool { return served.Load() > 100 }, 30*time.Second, time.Millisecond)
	var others []int64 // served while the quiet one waited
	for range 10 {
		before := served.Load()
		require.NoError(t, r.Do(t.Context(), quiet.Tenant, router.ReadOnly, query))
		others = append(others, served.Load()-before)
	}
	slices.Sort(others) // the median: a busy machine may leave our goroutine standing now and then; starving it would be a hundred thousand
	require.Less(t, others[len(others)/2], int64(20_000), "the quiet tenant had to wait for too many others")
	cancel()
	wg.Wait()
}

func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(), newFake()
		p := w.settle(1, "s1", 1)
		r, _ := fakeRouter(t, w, f, router.Config{TenantConns: 1, AcquireFor: time.Second})
		err := r.Do(t.Context(), p.Tenant, router.ReadOnly, func(ctx context.Context, _ *router.Conn) error {
			start := time.Now()
			require.ErrorIs(t, r.Do(ctx, p.Tenant, router.ReadOnly, query), router.ErrBusy)
			require.Equal(t, time.Second, time.Since(start))
			ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			require.ErrorIs(t, r.Do(ctx, p.Tenant, router.ReadOnly, query), context.DeadlineExceeded)
			return nil
		})
		require.NoError(t, err)
		require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadOnly, query))
	})
}

// Known tenants are served while the secret store is away, for as long as their
// leases reach; a login that is gone from the store is not used again.
func TestSecretStoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(), newFake()
		p, unknown := w.settle(1, "s1", 1), w.settle(2, "s1", 1)
		r, _ := fakeRouter(t, w, f, router.Config{LeaseFor: time.Minute, IdleAfter: time.Second})
		fresh := func() error { // on a connection of its own
			time.Sleep(2 * time.Second)
			return r.Do(t.Context(), p.Tenant, router.ReadOnly, query)
		}
		require.NoError(t, fresh())
		w.sealed = secret.ErrUnavailable
		require.NoError(t, fresh())
		time.Sleep(10 * time.Minute)
		require.NoError(t, fresh(), "kept beyond its lease while nobody can be asked")
		require.ErrorIs(t, r.Do(t.Context(), unknown.Tenant, router.ReadOnly, query), router.ErrUnreachable)
		w.sealed = secret.ErrNotFound
		require.ErrorIs(t, fresh(), router.ErrUnreachable)
		w.sealed = secret.ErrUnavailable
		require.ErrorIs(t, fresh(), router.ErrUnreachable, "taken back is taken back")
		w.sealed = nil
		require.NoError(t, fresh())
		w.sealed = secret.ErrUnavailable
		time.Sleep(13 * time.Minute)
		require.ErrorIs(t, fresh(), router.ErrUnreachable, "leases end")
		require.Zero(t, r.Stats().Waiting)
	})
}

func TestWaitingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(), newFake()
		p, other := w.settle(1, "s1", 1), w.settle(2, "s1", 1)
		r, _ := fakeRouter(t, w, f, router.Config{TenantConns: 1, WaitingMax: 3})
		var wg sync.WaitGroup
		err := r.Do(t.Context(), p.Tenant, router.ReadOnly, func(ctx context.Context, _ *router.Conn) error {
			for range 3 {
				wg.Go(func() {
					if err := r.Do(t.Context(), p.Tenant, router.ReadOnly, query); err != nil {
						t.Error(err)
					}
				})
			}
			synctest.Wait()
			start := time.Now()
			require.ErrorIs(t, r.Do(ctx, p.Tenant, router.ReadOnly, query), router.ErrBusy)
			require.Zero(t, time.Since(start), "told at once")
			require.NoError(t, r.Do(ctx, other.Tenant, router.ReadOnly, query), "nobody else is concerned")
			return nil
		})
		require.NoError(t, err)
		wg.Wait()
		require.EqualValues(t, 1, r.Stats().Busy)
	})
}

// A server's message beyond the bound is never read into memory, and asking
// for it again would not make it smaller.
func TestMessagesAreBounded(t *testing.T) {
	w, f := newWorld(), newFake()
	p := w.settle(1, "s1", 1)
	r, _ := fakeRouter(t, w, f, router.Config{MaxMessage: 1000})
	require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadOnly, query))
	f.row = make([]byte, 990)
	require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadOnly, query))
	f.row = make([]byte, 1001)
	calls := 0
	counted := func(ctx context.Context, c *router.Conn) error { calls++; return query(ctx, c) }
	require.ErrorIs(t, r.Do(t.Context(), p.Tenant, router.ReadOnly, counted), router.ErrTooLarge)
	require.Equal(t, 1, calls)
	require.ErrorIs(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, counted), router.ErrOutcomeUnknown)
	f.row = nil
	require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadOnly, query))
}

// At the node's bound an idle connection of another tenant makes room.
func TestIdleMakesRoom(t *testing.T) {
	w, f := newWorld(), newFake()
	r, _ := fakeRouter(t, w, f, router.Config{NodeConns: 3})
	for i := range 20 {
		p := w.settle(i, shardmap.ShardID(fmt.Sprintf("s%d", i%4)), 1)
		require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, query))
		require.LessOrEqual(t, r.Stats().Open, 3)
	}
	require.EqualValues(t, 17, r.Stats().Evicted)
}

func TestIdleIsReaped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(), newFake()
		p := w.settle(1, "s1", 1)
		r, _ := fakeRouter(t, w, f, router.Config{IdleAfter: time.Minute})
		require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, query))
		time.Sleep(50 * time.Second)
		require.Equal(t, 1, r.Stats().Idle)
		time.Sleep(30 * time.Second)
		require.Zero(t, r.Stats().Open)
		synctest.Wait()
		require.Zero(t, f.connected())
		require.Equal(t, 1, r.Stats().Pools)
		time.Sleep(20 * time.Minute)
		require.Zero(t, r.Stats().Pools)
		require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, query))
	})
}

// Connections of an older placement are not handed out again, nor those that
// were in use when it changed.
func TestNewPlacement(t *testing.T) {
	w, f := newWorld(), newFake()
	p := w.settle(1, "s1", 1)
	r, m := fakeRouter(t, w, f, router.Config{})
	require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, func(ctx context.Context, _ *router.Conn) error {
		if err := r.Do(ctx, p.Tenant, router.ReadWrite, query); err != nil { // a second connection, idle now
			return err
		}
		moved := w.settle(1, "s2", 2)
		m.Apply(moved)
		require.Equal(t, 1, r.Stats().Open, "the idle connection of the older epoch stayed")
		return r.Do(ctx, p.Tenant, router.ReadWrite, func(_ context.Context, c *router.Conn) error {
			require.Equal(t, moved, c.Placement)
			return nil
		})
	}))
	require.Equal(t, 1, r.Stats().Open)
	require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, func(_ context.Context, c *router.Conn) error {
		require.EqualValues(t, 2, c.Placement.Epoch)
		return nil
	}))
}

// Of requests that come all at once the first connection serves one before
// another is opened, unless that takes long.
func TestOneNewConnectionAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(), newFake()
		p := w.settle(1, "s1", 1)
		r, _ := fakeRouter(t, w, f, router.Config{TenantConns: 3})
		var wg sync.WaitGroup
		answer := make(chan struct{})
		for range 10 {
			wg.Go(func() {
				if err := r.Do(t.Context(), p.Tenant, router.ReadWrite, func(ctx context.Context, c *router.Conn) error {
					<-answer
					return query(ctx, c)
				}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		require.Equal(t, 1, r.Stats().Open)
		answer <- struct{}{}
		synctest.Wait()
		require.Equal(t, 2, r.Stats().Open, "the first one has answered")
		time.Sleep(15 * time.Millisecond)
		require.Equal(t, 2, r.Stats().Open)
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, 3, r.Stats().Open, "the second one takes its time")
		close(answer)
		wg.Wait()
		require.Equal(t, 3, f.dials)
	})
}

func TestPanicLosesNothing(t *testing.T) {
	w, f := newWorld(), newFake()
	p := w.settle(1, "s1", 1)
	r, _ := fakeRouter(t, w, f, router.Config{TenantConns: 1})
	require.Panics(t, func() {
		_ = r.Do(t.Context(), p.Tenant, router.ReadWrite, func(ctx context.Context, c *router.Conn) error {
			c.PG.Exec(ctx, "select 1") // under way
			panic("bug")
		})
	})
	require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, query))
	require.Equal(t, 2, f.dials)
}

func TestClose(t *testing.T) {
	w, f := newWorld(), newFake()
	p := w.settle(1, "s1", 1)
	m := shardmap.NewMap(shardmap.MapConfig{}, w)
	r := router.New(m, w, router.Config{}, router.WithDialer(f.dial))
	in, out, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		done <- r.Do(t.Context(), p.Tenant, router.ReadWrite, func(ctx context.Context, c *router.Conn) error {
			close(in)
			<-out
			return query(ctx, c)
		})
	}()
	<-in
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, r.Close(ctx), context.DeadlineExceeded)
	require.ErrorIs(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, query), router.ErrClosed)
	close(out)
	require.ErrorIs(t, <-done, router.ErrOutcomeUnknown)
	require.NoError(t, r.Close(t.Context()))
	f.started.Wait()
}

// Ten thousand tenants that were served once cost no connection, no goroutine
// and little memory.
func TestIdleTenantsAreCheap(t *testing.T) {
	const tenants = 10_000
	w, f := newWorld(), newFake()
	for i := range tenants {
		w.settle(i, "s1", 1)
	}
	r, m := fakeRouter(t, w, f, router.Config{IdleAfter: time.Millisecond, NodeConns: 4})
	before, goroutines := heap(), runtime.NumGoroutine()
	for i := range tenants {
		require.NoError(t, r.Do(t.Context(), shardmap.TenantID(fmt.Sprintf("tenant-%d", i)), router.ReadOnly, query))
	}
	require.Eventually(t, func() bool { return r.Stats().Open == 0 && f.connected() == 0 }, 30*time.Second, time.Millisecond)
	f.started.Wait()
	var grown int64
	require.Eventually(t, func() bool { // the pipes' deadlines keep them for a second
		grown = int64(heap()) - int64(before)
		return grown < 10<<20
	}, 30*time.Second, 100*time.Millisecond)
	t.Logf("%d bytes of heap per tenant, shard map included", grown/tenants)
	require.Eventually(t, func() bool { // which is asked in a goroutine of its own
		return runtime.NumGoroutine() <= goroutines+1
	}, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, tenants, r.Stats().Pools)
	require.Equal(t, tenants, m.Len())
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}
