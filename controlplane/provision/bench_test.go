package provision_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/shardmap"
)

// BenchmarkCreateWarm measures tenants from the pool, from the request until
// the tenant is ready: catalog, audit and operation record included. The pool is filled beforehand, untimed.
func BenchmarkCreateWarm(b *testing.B) {
	w := newWorld(b, provision.Options{WarmPool: b.N}, "a")
	stop := w.run(w.Run)
	deadline := time.Now().Add(5 * time.Minute)
	for w.ready("a") < b.N {
		require.True(b, time.Now().Before(deadline), "the pool fills too slowly")
		time.Sleep(50 * time.Millisecond)
	}
	stop()
	took := make([]time.Duration, b.N)
	for i := range b.N {
		start := time.Now()
		op, err := w.Create(w.ctx(), provision.CreateSpec{ID: shardmap.TenantID(fmt.Sprintf("warm-%d", i))}, tester, fmt.Sprint(i))
		took[i] = time.Since(start)
		require.NoError(b, err)
		require.Equal(b, operation.Done, op.State)
	}
	report(b, took)
}

// BenchmarkCreateCold measures tenants made on the spot, until the operation is done.
func BenchmarkCreateCold(b *testing.B) {
	w := newWorld(b, provision.Options{}, "a")
	w.run(w.engine.Run)
	took := make([]time.Duration, b.N)
	for i := range b.N {
		start := time.Now()
		op, err := w.Create(w.ctx(), provision.CreateSpec{ID: shardmap.TenantID(fmt.Sprintf("cold-%d", i))}, tester, "")
		require.NoError(b, err)
		for !op.State.Final() {
			time.Sleep(time.Millisecond)
			op, err = w.engine.Get(w.ctx(), op.ID)
			require.NoError(b, err)
		}
		took[i] = time.Since(start)
		require.Equal(b, operation.Done, op.State, op.Error)
	}
	report(b, took)
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	ms := func(p float64) float64 { return float64(took[int(p*float64(len(took)-1))].Microseconds()) / 1000 }
	b.ReportMetric(ms(0.5), "p50-ms")
	b.ReportMetric(ms(0.95), "p95-ms")
}
