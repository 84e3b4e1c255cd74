package move

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/operation"
)

// BenchmarkTakenBack takes a small tenant back, under 400 operations a second,
// again and again: each time over the link that the time before left.
func BenchmarkTakenBack(b *testing.B) {
	w := newWorld(b, "a", "b")
	db, login := w.tenant("quick", "a")
	w.asOwner("a", db, trafficSchema)
	tr := w.startTraffic(db, login, 10*time.Millisecond, false, "a", "a")
	op, _ := w.soaked("quick", "b")
	here := w.startTraffic(db, login, 10*time.Millisecond, false, "b", "b")
	var pauses, attached, gaps, took []float64
	tried := 0
	for b.Loop() {
		for _, t := range []*traffic{tr, here} {
			t.mu.Lock()
			t.gap = 0
			t.mu.Unlock()
		}
		start := time.Now()
		back, rec := w.ended(w.reverse(op.ID, time.Hour))
		require.Equal(b, operation.Done, back.State, back.Error)
		require.Equal(b, Equal, rec.Verification.Final)
		op = back
		took = append(took, time.Since(start).Seconds())
		gap := time.Duration(0)
		for _, t := range []*traffic{tr, here} {
			t.mu.Lock()
			gap = max(gap, t.gap)
			t.mu.Unlock()
		}
		pauses, attached = append(pauses, float64(rec.PauseMS)), append(attached, float64(rec.AttachedPauseMS))
		gaps = append(gaps, float64(gap.Microseconds())/1000)
		tried += len(rec.Attempts)
	}
	for _, t := range []*traffic{tr, here} {
		t.cancel()
		t.wg.Wait()
		require.Empty(b, t.errs)
	}
	for name, figures := range map[string][]float64{"pause": pauses, "attached": attached, "gap": gaps} {
		b.ReportMetric(median(figures), name+"-p50-ms")
		b.ReportMetric(slices.Max(figures), name+"-max-ms")
	}
	b.ReportMetric(median(took), "whole-p50-s")
	b.ReportMetric(float64(tried)/float64(len(pauses)), "attempts/reverse")
}
