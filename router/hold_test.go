package router_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/router"
	"github.com/freehold-db/freehold/shardmap"
)

func holdOf(p shardmap.Placement, id string, d time.Duration) shardmap.Hold {
	return shardmap.Hold{Tenant: p.Tenant, Epoch: p.Epoch, ID: id, For: d}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A hold lets what is under way finish, says when that is done, and keeps the
// rest back until the new placement is there.
func TestHoldDrainsAndReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(), newFake()
		p := w.settle(1, "s1", 1)
		r, m := fakeRouter(t, w, f, router.Config{})
		require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, query)) // leaves an idle connection

		var wg sync.WaitGroup
		finish := make(chan struct{})
		wg.Go(func() {
			err := r.Do(t.Context(), p.Tenant, router.ReadWrite, func(ctx context.Context, c *router.Conn) error {
				<-finish
				return query(ctx, c)
			})
			if err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		drained := r.Hold(holdOf(p, "a", 5*time.Second))
		require.False(t, isClosed(drained))
		require.Zero(t, r.Stats().Idle)

		var at2 atomic.Int32
		for range 10 {
			wg.Go(func() {
				err := r.Do(t.Context(), p.Tenant, router.ReadWrite, func(ctx context.Context, c *router.Conn) error {
					if c.Placement.Epoch == 2 {
						at2.Add(1)
					}
					return query(ctx, c)
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		require.EqualValues(t, 10, r.Stats().Held)
		close(finish)
		<-drained
		synctest.Wait()
		require.Equal(t, 1, f.connected(), "one waits for the end")
		require.EqualValues(t, 10, r.Stats().Held)

		m.Apply(w.settle(1, "s2", 2)) // the cutover committed
		wg.Wait()
		require.EqualValues(t, 10, at2.Load())
		require.Zero(t, r.Stats().Held)
	})
}

func TestHoldEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(r *router.Router, m *shardmap.Map, p shardmap.Placement)
		want time.Duration // how long the request was held
	}{
		"by its release": {func(r *router.Router, _ *shardmap.Map, p shardmap.Placement) {
			r.Release(shardmap.Release{Tenant: p.Tenant, ID: "a"})
		}, time.Second},
		"not by another's release": {func(r *router.Router, _ *shardmap.Map, p shardmap.Placement) {
			r.Release(shardmap.Release{Tenant: p.Tenant, ID: "b"})
		}, 3 * time.Second},
		"by its bound":                 {func(*router.Router, *shardmap.Map, shardmap.Placement) {}, 3 * time.Second},
		"not by the placement it knew": {func(_ *router.Router, m *shardmap.Map, p shardmap.Placement) { m.Apply(p) }, 3 * time.Second},
		"not prolonged by being asked for twice": {func(r *router.Router, _ *shardmap.Map, p shardmap.Placement) {
			r.Hold(holdOf(p, "a", 3*time.Second))
		}, 3 * time.Second},
		"replaced by a second attempt's": {func(r *router.Router, _ *shardmap.Map, p shardmap.Placement) {
			r.Hold(holdOf(p, "b", 4*time.Second))
		}, 5 * time.Second},
		"by a newer placement": {func(_ *router.Router, m *shardmap.Map, p shardmap.Placement) {
			p.Epoch++
			m.Apply(p)
		}, 1100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, f := newWorld(), newFake()
				p := w.settle(1, "s1", 1)
				r, m := fakeRouter(t, w, f, router.Config{})
				m.Apply(p)
				require.True(t, isClosed(r.Hold(holdOf(p, "a", 3*time.Second))), "nothing was under way")
				start := time.Now()
				done := make(chan error)
				go func() { done <- r.Do(t.Context(), p.Tenant, router.ReadWrite, query) }()
				time.Sleep(time.Second)
				c.end(r, m, p)
				require.NoError(t, <-done)
				require.Equal(t, c.want, time.Since(start))
			})
		})
	}
}

// A release that leads who is logged in at the old place to the new one has
// requests go on over a connection made there, one for each login, for a while.
func TestHoldGoesOnOverWhatIsLed(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(p, moved shardmap.Placement) shardmap.Release
		same bool // the connection from before goes on
	}{
		"led": {func(_, moved shardmap.Placement) shardmap.Release {
			return shardmap.Release{Placement: &moved, Follow: true}
		}, true},
		"not led": {func(_, moved shardmap.Placement) shardmap.Release { return shardmap.Release{Placement: &moved} }, false},
		"led to where it is no more": {func(p, moved shardmap.Placement) shardmap.Release {
			p.Epoch++
			return shardmap.Release{Placement: &p, Follow: true}
		}, false},
		"the cutover was given up": {func(_, _ shardmap.Placement) shardmap.Release { return shardmap.Release{} }, true},
		"led, two epochs on": {func(_, moved shardmap.Placement) shardmap.Release {
			moved.Epoch++
			return shardmap.Release{Placement: &moved, Follow: true}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, f := newWorld(), newFake()
				p := w.settle(1, "s1", 1)
				r, m := fakeRouter(t, w, f, router.Config{})
				var before, now *pgconn.PgConn
				use := func(into **pgconn.PgConn) {
					t.Helper()
					require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, func(ctx context.Context, c *router.Conn) error {
						*into = c.PG
						return query(ctx, c)
					}))
				}
				use(&before)
				require.True(t, isClosed(r.Hold(holdOf(p, "a", time.Minute))))
				release := c.end(p, w.settle(1, "s2", 2))
				release.Tenant, release.ID = p.Tenant, "a"
				if release.Placement != nil {
					m.Apply(*release.Placement)
				}
				if name == "led to where it is no more" {
					moved := p
					moved.Epoch += 2
					m.Apply(moved)
				}
				r.Release(release)
				use(&now)
				require.Equal(t, c.same, before == now)
				require.Equal(t, 1, r.Stats().Open)
				time.Sleep(1100 * time.Millisecond)
				use(&now)
				require.Equal(t, name == "the cutover was given up", before == now, "it is led for a while")
				require.Equal(t, 1, r.Stats().Open)
			})
		})
	}
}

// A release tells how long requests waited, those that left before it too, and
// whatever it was that ended the hold.
func TestHoldIsReported(t *testing.T) {
	for name, end := range map[string]func(r *router.Router, m *shardmap.Map, w *world, p shardmap.Placement){
		"by the release": func(*router.Router, *shardmap.Map, *world, shardmap.Placement) {},
		"by a placement": func(_ *router.Router, m *shardmap.Map, w *world, _ shardmap.Placement) { m.Apply(w.settle(1, "s2", 2)) },
		"taken over by another attempt": func(r *router.Router, _ *shardmap.Map, _ *world, p shardmap.Placement) {
			r.Hold(holdOf(p, "c", time.Minute))
		},
	} {
		for longest, leave := range map[time.Duration]time.Duration{4 * time.Second: time.Minute, 2500 * time.Millisecond: 2500 * time.Millisecond} {
			t.Run(fmt.Sprintf("%s, the oldest leaves after %v", name, leave), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w, f := newWorld(), newFake()
					p := w.settle(1, "s1", 1)
					r, m := fakeRouter(t, w, f, router.Config{})
					m.Apply(p)
					r.Hold(holdOf(p, "a", time.Minute))
					var wg sync.WaitGroup
					for _, after := range []time.Duration{0, 2 * time.Second} {
						wg.Go(func() {
							time.Sleep(after)
							ctx, cancel := context.WithTimeout(t.Context(), leave)
							defer cancel()
							_ = r.Do(ctx, p.Tenant, router.ReadWrite, query)
						})
					}
					time.Sleep(4 * time.Second)
					synctest.Wait()
					end(r, m, w, p)
					id := "a"
					if strings.HasPrefix(name, "taken") {
						id = "c"
						require.Equal(t, shardmap.HoldReport{ID: "a"}, r.Release(shardmap.Release{Tenant: p.Tenant, ID: "a"}), "it goes on under another name")
					}
					require.Equal(t, shardmap.HoldReport{ID: id, Held: 2, Longest: longest}, r.Release(shardmap.Release{Tenant: p.Tenant, ID: id}))
					require.Equal(t, shardmap.HoldReport{ID: id, Held: 2, Longest: longest}, r.Release(shardmap.Release{Tenant: p.Tenant, ID: id}), "asked again")
					require.Equal(t, shardmap.HoldReport{ID: "x"}, r.Release(shardmap.Release{Tenant: p.Tenant, ID: "x"}))
					wg.Wait()
				})
			})
		}
	}
	r, _ := fakeRouter(t, newWorld(), newFake(), router.Config{})
	require.Equal(t, shardmap.HoldReport{ID: "a"}, r.Release(shardmap.Release{Tenant: "unknown", ID: "a"}))
}

func TestHoldIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(), newFake()
		p := w.settle(1, "s1", 1)
		r, m := fakeRouter(t, w, f, router.Config{HeldMax: 3, HoldFor: 2 * time.Second})
		m.Apply(p)
		r.Hold(holdOf(p, "a", time.Hour)) // no message may hold a tenant for longer than the node agrees to
		time.Sleep(time.Second)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := r.Do(t.Context(), p.Tenant, router.ReadOnly, query); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		require.ErrorIs(t, r.Do(t.Context(), p.Tenant, router.ReadOnly, query), router.ErrBusy)
		start := time.Now()
		wg.Wait()
		require.Equal(t, time.Second, time.Since(start))

		r.Hold(holdOf(p, "b", time.Second))
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		err := r.Do(ctx, p.Tenant, router.ReadOnly, query)
		require.ErrorIs(t, err, router.ErrHoldExpired)
		require.ErrorIs(t, err, context.DeadlineExceeded)

		// Holds in a row hold a request for HoldFor at most.
		start = time.Now()
		stop := make(chan struct{})
		go func() {
			for id := byte('c'); ; id++ {
				select {
				case <-stop:
					return
				case <-time.After(500 * time.Millisecond):
					r.Release(shardmap.Release{Tenant: p.Tenant, ID: string(id - 1)})
					r.Hold(holdOf(p, string(id), time.Second))
				}
			}
		}()
		require.ErrorIs(t, r.Do(t.Context(), p.Tenant, router.ReadOnly, query), router.ErrHoldExpired)
		require.Equal(t, 2*time.Second, time.Since(start))
		close(stop)
		time.Sleep(2 * time.Second)
	})
}

func TestHoldOfAnOldEpochHoldsNothing(t *testing.T) {
	w, f := newWorld(), newFake()
	old := w.settle(1, "s1", 1)
	r, m := fakeRouter(t, w, f, router.Config{})
	m.Apply(w.settle(1, "s2", 2))
	require.True(t, isClosed(r.Hold(holdOf(old, "a", time.Minute))))
	require.NoError(t, r.Do(t.Context(), old.Tenant, router.ReadWrite, query))
}

// Holds, releases and placements in any order under traffic: nothing is stuck,
// nothing runs between drained and the end of the hold.
func TestHoldsUnderTraffic(t *testing.T) {
	w, f := newWorld(), newFake()
	p := w.settle(1, "s1", 1)
	r, m := fakeRouter(t, w, f, router.Config{TenantConns: 4})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var running, frozen, served atomic.Int64
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			for ctx.Err() == nil {
				err := r.Do(ctx, p.Tenant, router.ReadWrite, func(ctx context.Context, c *router.Conn) error {
					running.Add(1)
					defer running.Add(-1)
					if frozen.Load() != 0 {
						t.Error("a request ran in a drained hold")
					}
					return query(ctx, c)
				})
				if err == nil {
					served.Add(1)
				} else if ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 100 {
		place := p
		place.Epoch = shardmap.Epoch(i + 1)
		<-r.Hold(holdOf(place, "x", 10*time.Second))
		frozen.Store(1)
		require.Zero(t, running.Load())
		was := served.Load()
		frozen.Store(0)
		if i%2 == 0 {
			r.Release(shardmap.Release{Tenant: p.Tenant, ID: "x"})
			place.Epoch++
			m.Apply(place)
		} else {
			place.Epoch++
			m.Apply(place)
			r.Release(shardmap.Release{Tenant: p.Tenant, ID: "x"})
		}
		require.Eventually(t, func() bool { return served.Load() > was }, 30*time.Second, 100*time.Microsecond)
	}
	cancel()
	wg.Wait()
}

// A tenant whose server refuses connections is looked for again until RetryFor.
func TestUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWorld(), newFake()
		p := w.settle(1, "s1", 1)
		r, m := fakeRouter(t, w, f, router.Config{RetryFor: 3 * time.Second})
		f.refuse = errors.New("connection refused")
		start := time.Now()
		err := r.Do(t.Context(), p.Tenant, router.ReadWrite, query)
		require.ErrorIs(t, err, router.ErrUnreachable)
		require.ErrorIs(t, err, f.refuse)
		require.InDelta(t, 3, time.Since(start).Seconds(), 0.3)
		require.Less(t, f.dials, 40, "a dead shard was hammered")

		done := make(chan error)
		go func() { done <- r.Do(t.Context(), p.Tenant, router.ReadWrite, query) }()
		time.Sleep(time.Second)
		f.mu.Lock()
		f.refuse = nil
		f.mu.Unlock()
		m.Apply(w.settle(1, "s2", 2)) // news ends the pause at once
		start = time.Now()
		require.NoError(t, <-done)
		require.Zero(t, time.Since(start))
		require.Zero(t, r.Stats().Open-r.Stats().Idle)
	})
}
