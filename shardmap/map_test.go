package shardmap_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freehold-db/freehold/internal/leaktest"
	"github.com/freehold-db/freehold/shardmap"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m.Run)) }

const acme shardmap.TenantID = "acme"

func at(tenant shardmap.TenantID, epoch shardmap.Epoch) shardmap.Placement {
	return shardmap.Placement{
		Tenant: tenant, Shard: shardmap.ShardID(fmt.Sprintf("s%d", epoch%7)),
		Database: "t_0123456789abcdef", Epoch: epoch, State: shardmap.Active,
	}
}

// loader is a stand-in for the world outside.
type loader struct {
	placement func(ctx context.Context, tenant shardmap.TenantID, than shardmap.Epoch) (shardmap.Placement, error)
	shard     func(id shardmap.ShardID) (shardmap.Shard, error)
	loads     atomic.Int64
}

func (l *loader) LoadPlacement(ctx context.Context, tenant shardmap.TenantID, than shardmap.Epoch) (shardmap.Placement, error) {
	l.loads.Add(1)
	return l.placement(ctx, tenant, than)
}

func (l *loader) LoadShard(_ context.Context, id shardmap.ShardID) (shardmap.Shard, error) {
	l.loads.Add(1)
	return l.shard(id)
}

func answers(p shardmap.Placement, err error) *loader {
	return &loader{placement: func(context.Context, shardmap.TenantID, shardmap.Epoch) (shardmap.Placement, error) { return p, err }}
}

func TestMissIsLoadedOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		l := &loader{placement: func(context.Context, shardmap.TenantID, shardmap.Epoch) (shardmap.Placement, error) {
			<-release
			return at(acme, 3), nil
		}}
		m := shardmap.NewMap(shardmap.MapConfig{}, l)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				p, err := m.Get(t.Context(), acme)
				if err != nil || p != at(acme, 3) {
					t.Errorf("got %v, %v", p, err)
				}
			})
		}
		// One caller who gives up takes nobody with him.
		gone, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := m.Get(gone, acme); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(release)
		wg.Wait()
		require.EqualValues(t, 1, l.loads.Load())
	})
}

func TestUnknownIsRememberedShortly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := answers(shardmap.Placement{}, fmt.Errorf("404: %w", shardmap.ErrUnknownTenant))
		m := shardmap.NewMap(shardmap.MapConfig{NegativeFor: time.Second}, l)
		for range 3 {
			_, err := m.Get(t.Context(), acme)
			require.ErrorIs(t, err, shardmap.ErrUnknownTenant)
		}
		require.EqualValues(t, 1, l.loads.Load())
		time.Sleep(1100 * time.Millisecond)
		_, err := m.Get(t.Context(), acme)
		require.ErrorIs(t, err, shardmap.ErrUnknownTenant)
		require.EqualValues(t, 2, l.loads.Load())

		require.True(t, m.Apply(at(acme, 1)), "news overrides the negative entry")
		p, err := m.Get(t.Context(), acme)
		require.NoError(t, err)
		require.Equal(t, at(acme, 1), p)
	})
}

func TestNobodyToAsk(t *testing.T) {
	down := errors.New("connection refused")
	m := shardmap.NewMap(shardmap.MapConfig{}, answers(shardmap.Placement{}, down))
	_, err := m.Get(t.Context(), acme)
	require.ErrorIs(t, err, shardmap.ErrUnresolved)
	require.ErrorIs(t, err, down)

	// What is known stays known, also after a refusal that nobody could explain.
	m.Apply(at(acme, 4))
	_, newer, err := m.Refresh(t.Context(), acme, 4)
	require.ErrorIs(t, err, shardmap.ErrUnresolved)
	require.False(t, newer)
	p, err := m.Get(t.Context(), acme)
	require.NoError(t, err)
	require.Equal(t, at(acme, 4), p)
}

func TestLoadIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := shardmap.NewMap(shardmap.MapConfig{LoadTimeout: time.Second}, &loader{
			placement: func(ctx context.Context, _ shardmap.TenantID, _ shardmap.Epoch) (shardmap.Placement, error) {
				<-ctx.Done()
				return shardmap.Placement{}, ctx.Err()
			},
		})
		start := time.Now()
		_, err := m.Get(t.Context(), acme)
		require.ErrorIs(t, err, shardmap.ErrUnresolved)
		require.Equal(t, time.Second, time.Since(start))
	})
}

func TestRefresh(t *testing.T) {
	var asked shardmap.Epoch
	l := &loader{placement: func(_ context.Context, _ shardmap.TenantID, than shardmap.Epoch) (shardmap.Placement, error) {
		asked = than
		return at(acme, 6), nil
	}}
	m := shardmap.NewMap(shardmap.MapConfig{}, l)
	m.Apply(at(acme, 5))

	p, newer, err := m.Refresh(t.Context(), acme, 4)
	require.NoError(t, err)
	require.True(t, newer, "the map knew better than the refused epoch")
	require.Equal(t, at(acme, 5), p)
	require.Zero(t, l.loads.Load())

	p, newer, err = m.Refresh(t.Context(), acme, 5)
	require.NoError(t, err)
	require.True(t, newer)
	require.Equal(t, at(acme, 6), p)
	require.Equal(t, shardmap.Epoch(5), asked)

	_, newer, err = m.Refresh(t.Context(), acme, 6)
	require.NoError(t, err)
	require.False(t, newer)
}

// A tenant that was asked about comes in even when the map is full.
func TestFullMap(t *testing.T) {
	m := shardmap.NewMap(shardmap.MapConfig{Size: 2}, answers(shardmap.Placement{}, shardmap.ErrUnknownTenant))
	require.True(t, m.Apply(at("a", 1)))
	require.True(t, m.Apply(at("b", 1)))
	m.Apply(at("c", 1))
	require.Equal(t, 2, m.Len())
	_, err := m.Get(t.Context(), "a")
	require.NoError(t, err, "a tenant nobody asked for displaced one in use")
	_, err = m.Get(t.Context(), "c")
	require.ErrorIs(t, err, shardmap.ErrUnknownTenant)
	m.Apply(at("c", 1))
	_, err = m.Get(t.Context(), "c")
	require.NoError(t, err)
}

// News that arrives while a look-up is under way answers those who wait, and
// the look-up's older answer changes nothing.
func TestNewsOvertakesLoad(t *testing.T) {
	for name, late := range map[string]struct {
		p   shardmap.Placement
		err error
	}{
		"older":   {at(acme, 1), nil},
		"unknown": {shardmap.Placement{}, shardmap.ErrUnknownTenant},
		"broken":  {shardmap.Placement{}, errors.New("down")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				m := shardmap.NewMap(shardmap.MapConfig{}, &loader{placement: func(context.Context, shardmap.TenantID, shardmap.Epoch) (shardmap.Placement, error) {
					<-release
					return late.p, late.err
				}})
				got := make(chan shardmap.Placement, 1)
				go func() {
					p, err := m.Get(t.Context(), acme)
					if err != nil {
						t.Error(err)
					}
					got <- p
				}()
				synctest.Wait()
				m.Apply(at(acme, 2))
				require.Equal(t, at(acme, 2), <-got)
				close(release)
				synctest.Wait()
				p, err := m.Get(t.Context(), acme)
				require.NoError(t, err)
				require.Equal(t, at(acme, 2), p)
			})
		})
	}
}

func TestNewerWakes(t *testing.T) {
	m := shardmap.NewMap(shardmap.MapConfig{}, answers(shardmap.Placement{}, errors.New("down")))
	m.Apply(at(acme, 2))
	news, stop := m.Newer(acme, 1)
	<-news
	stop()
	news, stop = m.Newer(acme, 2)
	defer stop()
	m.Apply(at(acme, 2))
	select {
	case <-news:
		t.Fatal("woken by nothing new")
	default:
	}
	m.Apply(at(acme, 3))
	<-news
}

func TestInvalidNewsIsNotTaken(t *testing.T) {
	good := at(acme, 9)
	for _, spoil := range []func(*shardmap.Placement){
		func(p *shardmap.Placement) { p.Tenant = "../x" },
		func(p *shardmap.Placement) { p.Shard = "" },
		func(p *shardmap.Placement) { p.Database = "postgres" },
		func(p *shardmap.Placement) { p.Epoch = 0 },
		func(p *shardmap.Placement) { p.State = "?" },
	} {
		p := good
		spoil(&p)
		m := shardmap.NewMap(shardmap.MapConfig{}, answers(p, nil))
		require.False(t, m.Apply(p))
		_, err := m.Get(t.Context(), acme)
		require.ErrorIs(t, err, shardmap.ErrUnresolved)
	}
	m := shardmap.NewMap(shardmap.MapConfig{}, answers(at("other", 1), nil))
	_, err := m.Get(t.Context(), acme)
	require.ErrorIs(t, err, shardmap.ErrUnresolved, "an answer about another tenant was believed")
}

func TestShards(t *testing.T) {
	s1 := shardmap.Shard{ID: "s1", Host: "127.0.0.1", Port: 6432, Version: 2}
	l := &loader{shard: func(id shardmap.ShardID) (shardmap.Shard, error) {
		if id != "s1" {
			return shardmap.Shard{}, shardmap.ErrUnknownShard
		}
		return s1, nil
	}}
	m := shardmap.NewMap(shardmap.MapConfig{}, l)
	for range 2 {
		got, err := m.Shard(t.Context(), "s1")
		require.NoError(t, err)
		require.Equal(t, s1, got)
	}
	require.EqualValues(t, 1, l.loads.Load())
	_, err := m.Shard(t.Context(), "s2")
	require.ErrorIs(t, err, shardmap.ErrUnknownShard)

	newer := s1
	newer.Version, newer.Port = 3, 7432
	require.True(t, m.ApplyShard(newer))
	require.False(t, m.ApplyShard(s1), "an older address came back")
	require.False(t, m.ApplyShard(shardmap.Shard{ID: "s3", Version: 1}))
	got, err := m.RefreshShard(t.Context(), "s1")
	require.NoError(t, err)
	require.Equal(t, newer, got, "an older answer replaced the newer address")
}

// Whatever the order, doubling or loss of news and answers, a reader never
// sees a tenant go back, and in the end the greatest epoch that arrived stands.
func TestNeverGoesBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var current atomic.Uint64 // what the look-up answers next; 0: nobody to ask
		l := &loader{placement: func(context.Context, shardmap.TenantID, shardmap.Epoch) (shardmap.Placement, error) {
			if e := current.Load(); e > 0 {
				return at(acme, shardmap.Epoch(e)), nil
			}
			return shardmap.Placement{}, errors.New("down")
		}}
		m := shardmap.NewMap(shardmap.MapConfig{}, l)
		var greatest, seen shardmap.Epoch
		see := func(p shardmap.Placement) {
			if p.Epoch < seen {
				rt.Fatalf("went back from %d to %d", seen, p.Epoch)
			}
			seen = p.Epoch
		}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			e := rapid.Uint64Range(1, 9).Draw(rt, "epoch")
			switch rapid.SampledFrom([]string{"apply", "get", "refresh", "down"}).Draw(rt, "kind") {
			case "apply":
				m.Apply(at(acme, shardmap.Epoch(e)))
				greatest = max(greatest, shardmap.Epoch(e))
			case "get":
				current.Store(e)
				p, err := m.Get(context.Background(), acme)
				if err != nil {
					rt.Fatal(err)
				}
				see(p)
				greatest = max(greatest, p.Epoch)
			case "refresh":
				current.Store(e)
				p, newer, err := m.Refresh(context.Background(), acme, seen)
				if err != nil {
					rt.Fatal(err)
				}
				if newer != (p.Epoch > seen) {
					rt.Fatalf("newer=%v for %d after %d", newer, p.Epoch, seen)
				}
				greatest = max(greatest, p.Epoch)
				if newer {
					see(p)
				}
			case "down":
				current.Store(0)
				_, _ = m.Get(context.Background(), acme)
			}
		}
		if greatest > 0 {
			p, err := m.Get(context.Background(), acme)
			if err != nil || p.Epoch != greatest {
				rt.Fatalf("ended with %d (%v), want %d", p.Epoch, err, greatest)
			}
		}
	})
}

// The same with everything at once, for the race detector.
func TestConcurrentNews(t *testing.T) {
	const epochs = 300
	var current atomic.Uint64
	l := &loader{placement: func(context.Context, shardmap.TenantID, shardmap.Epoch) (shardmap.Placement, error) {
		return at(acme, shardmap.Epoch(1+current.Load()/2)), nil // always late
	}}
	m := shardmap.NewMap(shardmap.MapConfig{Size: 4}, l)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for e := shardmap.Epoch(1); e <= epochs; e++ {
				m.Apply(at(acme, e))
				current.Store(uint64(e))
			}
		})
		wg.Go(func() {
			var seen shardmap.Epoch
			for range epochs {
				p, _, err := m.Refresh(context.Background(), acme, seen)
				if err != nil || p.Epoch < seen {
					t.Errorf("%v after %d: %v", p, seen, err)
					return
				}
				seen = p.Epoch
			}
		})
	}
	wg.Wait()
	p, err := m.Get(t.Context(), acme)
	require.NoError(t, err)
	require.Equal(t, shardmap.Epoch(epochs), p.Epoch)
}

func TestHitAllocatesNothing(t *testing.T) {
	m := shardmap.NewMap(shardmap.MapConfig{}, answers(shardmap.Placement{}, errors.New("down")))
	m.Apply(at(acme, 1))
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, err := m.Get(context.Background(), acme); err != nil {
			t.Fatal(err)
		}
	}))
}

func BenchmarkHit(b *testing.B) {
	m := shardmap.NewMap(shardmap.MapConfig{}, answers(shardmap.Placement{}, errors.New("down")))
	tenants := make([]shardmap.TenantID, 10_000)
	for i := range tenants {
		tenants[i] = shardmap.TenantID(fmt.Sprintf("tenant-%d", i))
		m.Apply(at(tenants[i], 1))
	}
	ctx := context.Background()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := m.Get(ctx, tenants[i%len(tenants)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
