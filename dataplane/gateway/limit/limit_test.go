package limit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/gateway/limit/share"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/natsserver"
	"github.com/freehold-db/freehold/shardmap"
)

func enter(l *Limiter, id shardmap.TenantID) (*Pass, error) {
	p := &Pass{}
	l.Look(p, id)
	if err := l.Admit(p); err != nil {
		return p, err
	}
	return p, l.Enter(context.Background(), p)
}

func reason(err error) Reason {
	var r *Refused
	if errors.As(err, &r) {
		return r.Reason
	}
	return ""
}

// A tenant's own limits go before its plan's, those before the node's, and a change is seen.
func TestLimitsOfTenants(t *testing.T) {
	t.Parallel()
	var plan atomic.Pointer[access.Limits]
	plan.Store(&access.Limits{Rate: 0.01, Burst: 2})
	l := New(Options{
		Of: func(id shardmap.TenantID) access.Limits {
			if id == "acme" {
				return *plan.Load()
			}
			return access.Limits{}
		},
		Defaults: access.Limits{Rate: 0.01, Burst: 5, MaxRows: 7},
	})
	for id, burst := range map[shardmap.TenantID]int{"acme": 2, "rival": 5} {
		for range burst {
			p, err := enter(l, id)
			require.NoError(t, err)
			require.Equal(t, 7, p.Limits.MaxRows)
			p.Leave()
		}
		p, err := enter(l, id)
		require.Equal(t, RateLimited, reason(err))
		require.Zero(t, p.Left)
		require.Equal(t, []string{fmt.Sprintf(`"tenant";q=%d;w=%d`, burst, burst*100)}, p.Policy)
		require.Positive(t, p.Reset)
	}
	plan.Store(&access.Limits{Rate: 1e6, Burst: 100})
	require.Eventually(t, func() bool {
		p, err := enter(l, "acme")
		p.Leave()
		return err == nil
	}, time.Minute, 10*time.Millisecond)
}

func TestConcurrencyIsATenants(t *testing.T) {
	t.Parallel()
	l := New(Options{Config: Config{TenantConcurrency: 2, WaitingPerTenant: 1}})
	a, err := enter(l, "acme")
	require.NoError(t, err)
	b, err := enter(l, "acme")
	require.NoError(t, err)
	waiting := make(chan error, 1)
	go func() {
		p, err := enter(l, "acme")
		p.Leave()
		waiting <- err
	}()
	require.Eventually(t, func() bool { return l.gate.Stats().Waiting == 1 }, time.Minute, time.Millisecond)
	_, err = enter(l, "acme")
	require.Equal(t, TooManyConcurrent, reason(err))
	var refused *Refused
	require.ErrorAs(t, err, &refused)
	require.GreaterOrEqual(t, refused.RetryAfter, time.Second)
	other, err := enter(l, "rival")
	require.NoError(t, err)
	other.Leave()
	a.Leave()
	require.NoError(t, <-waiting)
	b.Leave()
	require.Zero(t, l.gate.Stats().UnderWay)
}

// What is remembered of tenants ends with them, and who was busy is said without a label.
func TestSurvey(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	l := New(Options{Defaults: access.Limits{Rate: 0.01, Burst: 1}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	for _, id := range []shardmap.TenantID{"acme", "acme", "rival"} {
		p, _ := enter(l, id)
		p.Leave()
	}
	l.survey(t.Context(), l.now())
	require.Contains(t, log.String(), "tenant=acme")
	require.Contains(t, log.String(), "refused=1")
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(l)
	families, err := registry.Gather()
	require.NoError(t, err)
	found := map[string]float64{}
	for _, f := range families {
		require.NotContains(t, f.String(), "acme", "no tenant is a label")
		found[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
	}
	require.InDelta(t, 2, found["freehold_limits_tenants"], 0)
	require.Positive(t, found["freehold_limits_top_part"])
	for at := time.Minute; at < 10*time.Minute; at += time.Minute { // their buckets fill up
		l.tick(at)
		l.survey(t.Context(), at)
	}
	require.Empty(t, l.tenants)
}

// Two nodes and a real NATS between them: what one sees, the other leaves; and
// with NATS gone each takes its even part.
func TestSharesOverNATS(t *testing.T) {
	t.Parallel()
	server, err := natsserver.Start(t.Context(), natsserver.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	stop := sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = server.Stop(ctx)
	})
	t.Cleanup(stop)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	nodes := make([]*Limiter, 2)
	for i := range nodes {
		nc, err := nats.Connect(server.URL(), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1), nats.Timeout(20*time.Second))
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		nodes[i] = New(Options{Node: fmt.Sprint("n", i), Defaults: access.Limits{Rate: 100, Burst: 100}})
		running.Go(func() { nodes[i].Run(ctx, share.NewLink(nc, fmt.Sprint("n", i), slog.Default())) })
	}
	part := func(l *Limiter) float64 {
		entry := l.tenant("acme", l.now())
		entry.mu.Lock()
		defer entry.mu.Unlock()
		return entry.bucket.share()
	}
	ask := func(l *Limiter, n int) {
		for range n {
			p, _ := enter(l, "acme")
			p.Leave()
		}
	}
	require.Eventually(t, func() bool {
		ask(nodes[0], 10)
		ask(nodes[1], 10)
		a, b := part(nodes[0]), part(nodes[1])
		return a > 0.2 && a < 0.8 && a+b > 0.9 && a+b < 1.1
	}, time.Minute, 10*time.Millisecond, "they share")
	require.Eventually(t, func() bool {
		ask(nodes[0], 10)
		return part(nodes[0]) > 0.9
	}, time.Minute, 10*time.Millisecond, "what the other does not want any more is the first one's")
	stop()
	require.Eventually(t, func() bool {
		ask(nodes[0], 10)
		return part(nodes[0]) == 0.5
	}, time.Minute, 10*time.Millisecond, "cut off, each has half")
}

// BenchmarkAdmit is what limits cost a request that passes at once.
func BenchmarkAdmit(b *testing.B) {
	l := New(Options{Defaults: access.Limits{Rate: 1e9, Burst: 1e9}})
	ctx := context.Background()
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var p Pass
			l.Look(&p, "acme")
			if err := errors.Join(l.Admit(&p), l.Enter(ctx, &p)); err != nil {
				b.Fatal(err)
			}
			p.Leave()
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				var p Pass
				l.Look(&p, "acme")
				if err := errors.Join(l.Admit(&p), l.Enter(ctx, &p)); err != nil {
					b.Error(err)
				}
				p.Leave()
			}
		})
	})
}

// A tenant's bodies take no more memory than it may have, and all of them no
// more than the node has; what is given back is there again, of the rate, too.
func TestMemoryOfBodies(t *testing.T) {
	t.Parallel()
	l := New(Options{Config: Config{BodyMemory: 150, BodyMemoryPerTenant: 100}, Defaults: access.Limits{Rate: 1e-6, Burst: 3}})
	admit := func(id shardmap.TenantID) *Pass {
		p := &Pass{}
		l.Look(p, id)
		require.NoError(t, l.Admit(p))
		return p
	}
	a, b, c := admit("acme"), admit("acme"), admit("rival")
	require.NoError(t, l.Hold(a, 60))
	require.NoError(t, l.Hold(a, 20))
	require.Equal(t, TooManyConcurrent, reason(l.Hold(b, 21)))
	require.NoError(t, l.Hold(c, 70))
	require.Equal(t, Overloaded, reason(l.Hold(c, 1)))
	require.NoError(t, l.Hold(admit("rival"), 0), "its rate was given back: this is the third of three")
	admit("rival")
	l.Release(a)
	l.Release(a)
	require.NoError(t, l.Hold(b, 80))
	l.Release(b)
	l.Release(c)
	require.Zero(t, l.bodies.held.Load())
}

// An answer gives its place back when it begins: how many of them a node holds
// for clients that don't take them is bounded by what they hold.
func TestMemoryOfAnswers(t *testing.T) {
	const some = leastAnswer
	l := New(Options{Config: Config{BodyMemory: 5 * some, BodyMemoryPerTenant: 3 * some}})
	enter := func(id shardmap.TenantID) (*Pass, error) {
		p := &Pass{}
		l.Look(p, id)
		require.NoError(t, l.Admit(p))
		err := l.Enter(t.Context(), p)
		p.Leave()
		return p, err
	}
	answer := func(id shardmap.TenantID, bytes int) *Pass {
		p, err := enter(id)
		require.NoError(t, err)
		l.HoldAnswer(p, bytes)
		return p
	}
	refused := func(id shardmap.TenantID) {
		t.Helper()
		_, err := enter(id)
		var r *Refused
		require.ErrorAs(t, err, &r)
		require.Equal(t, TooManyConcurrent, r.Reason)
		require.Positive(t, r.RetryAfter)
	}
	for range 100 {
		answer("acme", some-1) // not counted
	}
	first, second := answer("acme", 2*some), answer("acme", some)
	refused("acme")
	l.Release(first)
	third := answer("acme", 2*some)
	refused("acme")
	l.HoldAnswer(second, some) // one may be written in parts
	l.Release(second)

	rival := answer("rival", 3*some)
	refused("rival")
	l.Release(third)
	small, other := answer("acme", some), answer("other", some)
	refused("acme") // nor is there any left of the node's
	refused("other")
	answer("quiet", some-1) // has no part in that
	for _, p := range []*Pass{small, other, rival, rival} {
		l.Release(p)
	}
	require.Zero(t, l.answers.held.Load())
	answer("rival", some)
}
