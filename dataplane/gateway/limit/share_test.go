package limit

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freehold-db/freehold/dataplane/gateway/limit/share"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/shardmap"
)

// fleet is some nodes on a bus, in simulated time.
type fleet struct {
	nodes []*Limiter
	rng   *rand.Rand
	loss  float64       // of messages
	delay time.Duration // of messages
	cut   bool          // nothing goes through
	bus   []message
	clock time.Duration
	next  []time.Duration // ticks
	due   []float64       // requests to come, by node
}

type message struct {
	at     time.Duration
	to     int
	report share.Report
}

const step = 2 * time.Millisecond

func newFleet(n int, rate float64, burst int) *fleet {
	f := &fleet{rng: rand.New(rand.NewPCG(1, uint64(n))), delay: 2 * time.Millisecond, due: make([]float64, n)} //nolint:gosec // the same each time
	for i := range n {
		f.nodes = append(f.nodes, New(Options{Node: fmt.Sprint("n", i), Config: Config{Nodes: n}, Defaults: access.Limits{Rate: rate, Burst: burst}}))
		f.next = append(f.next, time.Duration(i)*share.Every/time.Duration(n))
	}
	return f
}

// run lets time pass with that many requests a second at each node, and returns
// how many came and how many were let pass, by step.
func (f *fleet) run(t require.TestingT, lasts time.Duration, perSecond func(node int, at time.Duration) float64) (came, passed []int) {
	const id = shardmap.TenantID("acme")
	for end := f.clock + lasts; f.clock < end; f.clock += step {
		c, p := 0, 0
		for i, l := range f.nodes {
			if f.clock >= f.next[i] {
				f.next[i] += share.Every
				if r, ok := l.tick(f.clock); ok {
					f.send(t, r)
				}
			}
			f.due[i] += perSecond(i, f.clock) * step.Seconds()
			for ; f.due[i] >= 1; f.due[i]-- {
				var pass Pass
				entry := l.tenant(id, f.clock)
				entry.look(l, f.clock)
				c++
				if ok, _ := entry.take(l, &pass, f.clock); ok {
					p++
				}
			}
		}
		var later []message
		for _, m := range f.bus {
			if m.at > f.clock {
				later = append(later, m)
			} else {
				f.nodes[m.to].hear(m.report, f.clock)
			}
		}
		f.bus = later
		came, passed = append(came, c), append(passed, p)
	}
	return came, passed
}

func (f *fleet) send(t require.TestingT, r share.Report) {
	data, err := r.Encode()
	require.NoError(t, err)
	if r, err = share.Decode(data); err != nil {
		require.NoError(t, err)
	}
	for to := range f.nodes {
		if !f.cut && f.rng.Float64() >= f.loss {
			f.bus = append(f.bus, message{f.clock + f.delay, to, r})
		}
	}
}

func sum(v []int) (n int) {
	for _, x := range v {
		n += x
	}
	return n
}

// ideal is how many one token bucket for all would have let pass.
func ideal(rate float64, burst int, came []int) (passed int) {
	b := bucket{}
	b.become(rate, float64(burst), 0)
	for i, n := range came {
		for range n {
			if b.take(time.Duration(i) * step) {
				passed++
			}
		}
	}
	return passed
}

// worst is the most that was let pass in any second, relative to what may be: rate and burst.
func worst(rate float64, burst int, passed []int) (most float64) {
	window, n := int(time.Second/step), 0
	for i, p := range passed {
		n += p
		if i >= window {
			n -= passed[i-window]
		}
		most = max(most, float64(n)/(rate+float64(burst)))
	}
	return most
}

// loads are what the error is measured under: requests per second at node i of n, for a rate of 1.
var loads = []struct {
	name string
	of   func(i, n int, at time.Duration) float64
	// most is the error that is tolerated, either way.
	most float64
}{
	{"under", func(_, n int, _ time.Duration) float64 { return 0.9 / float64(n) }, 0.001},
	{"steady", func(_, n int, _ time.Duration) float64 { return 2 / float64(n) }, 0.02},
	{"skewed", func(i, n int, _ time.Duration) float64 {
		if n == 1 {
			return 2
		}
		if i == 0 {
			return 1.8
		}
		return 0.2 / float64(n-1)
	}, 0.04},
	{"shifting", func(i, n int, at time.Duration) float64 { // every two seconds all of it goes to the next node
		if int(at/(2*time.Second))%n == i {
			return 2
		}
		return 0
	}, 0.15},
}

// shareError is how much more, or less, than one bucket for all would n nodes let pass.
func shareError(t require.TestingT, n int, of func(i, n int, at time.Duration) float64, loss float64, lasts time.Duration) (mean, peak float64) {
	const rate, burst = 200, 100
	f := newFleet(n, rate, burst)
	f.loss = loss
	f.run(t, 3*time.Second, func(int, time.Duration) float64 { return 0 }) // until they know each other
	came, passed := f.run(t, lasts, func(i int, at time.Duration) float64 { return rate * of(i, n, at) })
	return float64(sum(passed))/float64(ideal(rate, burst, came)) - 1, worst(rate, burst, passed)
}

func TestShareError(t *testing.T) {
	t.Parallel()
	for _, load := range loads {
		for _, n := range []int{1, 2, 4, 8} {
			for _, loss := range []float64{0, 0.2} {
				mean, peak := shareError(t, n, load.of, loss, 10*time.Second)
				t.Logf("%-9s %d nodes, %2.0f%% lost: %+.1f%%, busiest second %.2f of rate and burst", load.name, n, loss*100, mean*100, peak)
				switch {
				case n == 1:
					require.Zero(t, mean, "one node is exact")
				case loss == 0:
					require.LessOrEqual(t, math.Abs(mean), load.most, "%s, %d nodes", load.name, n)
					require.LessOrEqual(t, peak, 1.6, "%s, %d nodes", load.name, n)
				}
			}
		}
	}
}

// Cut off from each other, nodes take equal parts: neither all nor nothing.
func TestCutOff(t *testing.T) {
	t.Parallel()
	const rate, burst, n = 200, 100, 4
	f := newFleet(n, rate, burst)
	even := func(int, time.Duration) float64 { return 2 * rate / n }
	f.run(t, 5*time.Second, even)
	f.cut = true
	f.run(t, share.NodeFor+time.Second, even)
	_, passed := f.run(t, 10*time.Second, even)
	require.InEpsilon(t, rate*10, sum(passed), 0.02)
	_, passed = f.run(t, 10*time.Second, func(i int, _ time.Duration) float64 {
		if i == 0 {
			return 2 * rate
		}
		return 0
	})
	require.InEpsilon(t, rate*10/n, sum(passed), 0.1)
	f.cut = false
	f.run(t, 3*time.Second, even)
	for _, l := range f.nodes {
		require.False(t, l.book.CutOff(f.clock))
		require.Equal(t, n, l.book.Nodes(f.clock))
	}
}

// A node that fell silent leaves its part to the others when its lease ends.
func TestSilentNode(t *testing.T) {
	t.Parallel()
	const rate, burst = 200, 100
	f := newFleet(3, rate, burst)
	f.run(t, 5*time.Second, func(int, time.Duration) float64 { return rate })
	f.next[2] = time.Hour
	only := func(i int, _ time.Duration) float64 {
		if i < 2 {
			return rate
		}
		return 0
	}
	f.run(t, share.NodeFor+share.Every, only)
	_, passed := f.run(t, 10*time.Second, only)
	require.InEpsilon(t, rate*10, sum(passed), 0.02)
	require.Equal(t, 2, f.nodes[0].book.Nodes(f.clock))
}

// Whatever the load, the loss and the delay: what passes is no more than the
// rate, the burst and what a report's way allows, and not much less than one
// bucket for all lets pass. What a node holds of the burst beyond a part that
// has become smaller is lost: with lost reports that may be half of it.
func TestShareBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(t, "nodes")
		rate := float64(rapid.IntRange(20, 200).Draw(t, "rate"))
		burst := int(rate) * rapid.IntRange(25, 200).Draw(t, "burst") / 100 // a bucket of one request loses some by rounding
		f := newFleet(n, rate, burst)
		f.loss = float64(rapid.IntRange(0, 30).Draw(t, "loss")) / 100
		f.delay = time.Duration(rapid.IntRange(0, 50).Draw(t, "delay")) * time.Millisecond
		at := make([]float64, n)
		total := 0.0
		for i := range at {
			at[i] = rate * float64(rapid.IntRange(0, 200).Draw(t, "load")) / 100
			total += at[i]
		}
		load := func(i int, _ time.Duration) float64 { return at[i] }
		f.run(t, 2*share.Every, func(int, time.Duration) float64 { return 0 })
		came, passed := f.run(t, 3*time.Second, load)
		exact := float64(ideal(rate, burst, came))
		require.LessOrEqual(t, float64(sum(passed)), 1.1*exact+0.5*total+float64(n))
		lost := 0.0
		if f.loss > 0 {
			lost = 0.5 * float64(burst)
		}
		require.GreaterOrEqual(t, float64(sum(passed)), 0.8*exact-lost-float64(2*n))
	})
}

// BenchmarkShareError reports the error for `make bench`, in per cent.
func BenchmarkShareError(b *testing.B) {
	for _, load := range loads {
		for _, n := range []int{1, 2, 4, 8} {
			b.Run(fmt.Sprintf("%s/n=%d", load.name, n), func(b *testing.B) {
				mean, peak := shareError(b, n, load.of, 0, 30*time.Second)
				b.ReportMetric(mean*100, "error-%")
				b.ReportMetric(peak, "×busiest")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
