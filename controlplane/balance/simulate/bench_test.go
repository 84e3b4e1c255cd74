package simulate_test

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/balance/simulate"
)

// BenchmarkPlan plans for fleets of a thousand to a million tenants, and plays
// the rivals on the same ones. What is planned follows from the seed alone; only
// times depend on the machine.
func BenchmarkPlan(b *testing.B) {
	for _, size := range []struct{ tenants, shards int }{{100, 10}, {1_000, 10}, {10_000, 100}, {100_000, 100}, {1_000_000, 1_000}} {
		b.Run(fmt.Sprintf("t=%d", size.tenants), func(b *testing.B) {
			if testing.Short() && size.tenants > 100_000 {
				b.Skip("a million tenants take minutes on a busy machine")
			}
			g := simulate.Fleet{Seed: 1, Tenants: size.tenants, Shards: size.shards}
			even, err := g.Make()
			require.NoError(b, err)
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			fleetMB := float64(m.HeapAlloc) / 1e6
			for _, c := range simulate.Cases {
				b.Run("case="+c.Name, func(b *testing.B) {
					f, sc := c.Happen(even, 1)
					play(b, f, sc, fleetMB)
				})
			}
			even = nil
			g.Spread = simulate.Hashed
			made := func(name string, g simulate.Fleet, sc balance.Scenario) {
				b.Run(name, func(b *testing.B) {
					f, err := g.Make()
					require.NoError(b, err)
					play(b, f, sc, fleetMB)
				})
			}
			made("case=hashed", g, balance.Scenario{})
			if size.shards >= 100 {
				g.Spread, g.Mixed = simulate.Even, true
				made("case=mixed", g, balance.Scenario{Add: size.shards / 10})
			}
		})
	}
}

func play(b *testing.B, f *balance.Fleet, sc balance.Scenario, fleetMB float64) {
	p := balance.DefaultPolicy()
	assumed, err := sc.Apply(f)
	require.NoError(b, err)
	before, err := balance.Stand(assumed, &p)
	require.NoError(b, err)
	var plan *balance.Plan
	var least, cpu time.Duration
	for range 3 {
		began, used, allocated := time.Now(), processor(), allocations()
		plan, err = balance.Make(f, &p, balance.Ask{Scenario: sc})
		require.NoError(b, err)
		if took := time.Since(began); least == 0 || took < least {
			least = took
		}
		if took := processor() - used; cpu == 0 || took < cpu {
			cpu = took
		}
		b.ReportMetric(float64(allocations()-allocated)/1e6, "plan-MB")
	}
	b.ReportMetric(fleetMB, "fleet-MB")
	b.ReportMetric(least.Seconds(), "s")
	b.ReportMetric(cpu.Seconds(), "cpu-s")
	b.ReportMetric(before.Worst, "×before")
	o, err := simulate.Judge(assumed, &p, plan)
	require.NoError(b, err)
	b.ReportMetric(o.Worst, "×worst")
	b.ReportMetric(float64(o.Moves), "moves")
	b.ReportMetric(100*float64(o.Moves)/float64(len(f.Tenants)), "moved-%")
	if before.LeastBytes > 0 {
		b.ReportMetric(o.Bytes/before.LeastBytes, "×bytes")
	}
	for i, r := range simulate.Rivals {
		o, err := r.Play(assumed, &p)
		require.NoError(b, err)
		b.ReportMetric(o.Worst, fmt.Sprintf("×rival%d", i))
	}
}

// processor is the processor time that the process took.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// allocations are the bytes allocated so far, freed ones too.
func allocations() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
