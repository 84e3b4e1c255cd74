package meter_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/meter"
	"github.com/freehold-db/freehold/internal/traffic"
	"github.com/freehold-db/freehold/shardmap"
)

func TestCountsByTenant(t *testing.T) {
	t.Parallel()
	m := meter.New("n1")
	require.Empty(t, m.Reports())
	m.Count("acme", 3*time.Millisecond, 200)
	m.Count("acme", 5*time.Millisecond, 503)
	m.Count("acme", time.Millisecond, 429) // its shard never saw that
	m.Count("zoo", time.Second, 404)
	reports := m.Reports()
	require.Len(t, reports, 1)
	require.Equal(t, "n1", reports[0].Node)
	acme := reports[0].Tenants["acme"]
	require.EqualValues(t, 2, acme.Requests)
	require.EqualValues(t, 1, acme.Failed)
	require.InDelta(t, 0.008, acme.Seconds, 1e-9)
	require.EqualValues(t, 1, reports[0].Tenants["zoo"].Requests)
	require.Empty(t, m.Reports(), "each is told once")
}

// However many tenants there are, memory and messages are bounded.
func TestManyTenants(t *testing.T) {
	t.Parallel()
	m := meter.New("n1")
	for i := range 150_000 {
		m.Count(shardmap.TenantID(fmt.Sprintf("t%d", i)), 0, 200)
	}
	told := 0
	for _, r := range m.Reports() {
		require.LessOrEqual(t, len(r.Tenants), traffic.MostTenants)
		told += len(r.Tenants)
	}
	require.LessOrEqual(t, told, 100_000)
	require.Greater(t, told, 90_000)
}

// A report that can't be sent is forgotten, and the next one goes its way.
func TestRunForgetsWhatIsNotSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := meter.New("n1")
		var sent []traffic.Report
		away := true
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			m.Run(ctx, func(subject string, data []byte) error {
				if away {
					return errors.New("NATS is away")
				}
				r, err := traffic.Decode(data)
				sent = append(sent, r)
				return err
			}, slog.New(slog.DiscardHandler))
		}()
		m.Count("acme", 0, 200)
		time.Sleep(traffic.Every + time.Millisecond)
		synctest.Wait()
		away = false
		m.Count("acme", 0, 200)
		time.Sleep(traffic.Every)
		synctest.Wait()
		require.Len(t, sent, 1)
		require.EqualValues(t, 1, sent[0].Tenants["acme"].Requests)
		stop()
		<-ended
	})
}

func BenchmarkCount(b *testing.B) {
	m := meter.New("n1")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.Count("acme", time.Millisecond, 200)
		}
	})
}
