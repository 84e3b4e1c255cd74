package fair

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// chance is a generator of the test's own: it is the same each time.
type chance uint64

// exponential returns a number whose mean is 1.
func (c *chance) exponential() float64 {
	*c = *c*6364136223846793005 + 1442695040888963407
	return -math.Log(1 - float64(*c>>11)/(1<<53))
}

// crowded runs tenants whose requests come by the clock, perSecond of each,
// before a server, and tells how many of each were served, how much each had
// under way on average, and which part of the first one's requests found all of
// the server's processors taken. The first one's requests cost nothing.
func (m *model) crowded(t *testing.T, s *server, flows []Flow, perSecond []float64, lasts time.Duration) (served []int, under []float64, met float64) {
	t.Helper()
	if s.left == nil {
		s.left = map[*Slot]float64{}
	}
	luck := chance(1)
	next := make([]time.Duration, len(flows))
	served, under = make([]int, len(flows)), make([]float64, len(flows))
	came, crowded := 0, 0
	index := func(f *Flow) int {
		for i := range flows {
			if f == &flows[i] {
				return i
			}
		}
		panic("whose?")
	}
	for i := range next {
		next[i] = m.clock + time.Duration(luck.exponential()/perSecond[i]*float64(time.Second))
	}
	start := m.clock
	for m.clock < start+lasts {
		who, at := 0, next[0]
		for i := range next {
			if next[i] < at {
				who, at = i, next[i]
			}
		}
		var leaves *Slot
		if len(s.slots) > 0 {
			speed := min(1, s.knee/float64(len(s.slots)))
			least := math.MaxFloat64
			for _, slot := range s.slots {
				if left := s.left[slot] - s.done; left < least {
					least, leaves = left, slot
				}
			}
			if ends := m.clock + time.Duration(least/speed*float64(time.Second)); ends < at {
				at = ends
			} else {
				leaves = nil
			}
			s.done += (at - m.clock).Seconds() * speed
		}
		for i := range flows {
			under[i] += (at - m.clock).Seconds() * float64(flows[i].underWay)
		}
		m.clock = at
		if leaves != nil {
			served[index(leaves.flow)]++
			delete(s.left, leaves)
			for i := range s.slots {
				if s.slots[i] == leaves {
					s.slots = append(s.slots[:i], s.slots[i+1:]...)
					break
				}
			}
			m.leave(leaves, m.clock)
		} else {
			next[who] = m.clock + time.Duration(luck.exponential()/perSecond[who]*float64(time.Second))
			if who == 0 {
				came++
				if float64(len(s.slots)) >= s.knee {
					crowded++
				}
			}
			slot, err := m.arrive(t, &flows[who], Terms{Concurrency: 16})
			switch {
			case err != nil: // refused: too many wait
			case !slot.held:
				s.waiting[0] = append(s.waiting[0], slot)
			case who == 0:
				m.serving = m.serving[:len(m.serving)-1]
				m.leave(slot, m.clock)
				served[0]++
			}
		}
		s.waiting[0], _ = m.collect(s.waiting[0])
		for len(m.serving) > 0 {
			slot := m.serving[0]
			m.serving = m.serving[1:]
			if slot.flow == &flows[0] {
				served[0]++
				m.leave(slot, m.clock)
				s.waiting[0], _ = m.collect(s.waiting[0])
				continue
			}
			s.slots = append(s.slots, slot)
			s.left[slot] = s.done + s.base.Seconds()*luck.exponential()
		}
	}
	for i := range under {
		under[i] /= lasts.Seconds()
	}
	return served, under, float64(crowded) / float64(came)
}

// few is a gate of 64 places where so few may wait that simulations are quick.
var few = Config{Least: 64, Most: 64, Waiting: 1000, WaitingPerTenant: 30, QueueFor: 15 * time.Second, QueueTarget: 5 * time.Second}

// A tenant that always wants more leaves some of its server to others, so that
// they find a processor: also the hundredth of them.
func TestFloodLeavesRoom(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		knee        float64       // of its server
		each        time.Duration // that a request takes
		settle      time.Duration
		least, most float64 // of its requests under way, on average
	}{
		{knee: 2, each: 5 * time.Millisecond, settle: 5 * time.Second, least: 0.95, most: 1.2},
		{knee: 2, each: 50 * time.Millisecond, settle: 20 * time.Second, least: 0.95, most: 1.5},
		{knee: 4, each: 5 * time.Millisecond, settle: 5 * time.Second, least: 1.5, most: 3.2},
		{knee: 8, each: 5 * time.Millisecond, settle: 5 * time.Second, least: 4, most: 7.2},
		{knee: 1000, each: 5 * time.Millisecond, settle: 5 * time.Second, least: 11, most: 16},
	} {
		t.Run(fmt.Sprintf("%v processors, %v", c.knee, c.each), func(t *testing.T) {
			t.Parallel()
			m := &model{Gate: New(few)}
			s := &server{knee: c.knee, base: c.each}
			flows, rates := make([]Flow, 2), []float64{200, 1.5 * min(c.knee, 16) / s.base.Seconds()}
			_, _, met := m.crowded(t, s, flows, rates, c.settle)
			t.Logf("while it is found out, %.1f %% of the others meet a crowd", 100*met)
			_, under, met := m.crowded(t, s, flows, rates, 10*time.Second)
			t.Logf("%.1f at once; %.2f %% of the others meet a crowd", under[1], 100*met)
			require.GreaterOrEqual(t, under[1], c.least)
			require.LessOrEqual(t, under[1], c.most)
			require.LessOrEqual(t, met, 0.05)
		})
	}
}

// Where nobody modest is there, or all are more than the server can do, it is
// kept as busy as it can be.
func TestGreedIsServedByAll(t *testing.T) {
	t.Parallel()
	t.Run("alone", func(t *testing.T) {
		t.Parallel()
		m := &model{Gate: New(few)}
		s := &server{knee: 8, base: 5 * time.Millisecond}
		served, _, _ := m.crowded(t, s, make([]Flow, 2), []float64{1e-3, 3000}, 4*time.Second)
		require.Greater(t, served[1], 4*1550)
	})
	for _, knee := range []float64{2, 8} {
		for _, times := range []float64{0.9, 1, 2} {
			t.Run(fmt.Sprintf("%v × what %v processors can do", times, knee), func(t *testing.T) {
				t.Parallel()
				m := &model{Gate: New(few)}
				s := &server{knee: knee, base: 20 * time.Millisecond}
				rates := make([]float64, 11)
				for i := range rates {
					rates[i] = times * knee / s.base.Seconds() / 10
				}
				rates[0] = 1e-3
				served, _, _ := m.crowded(t, s, make([]Flow, len(rates)), rates, 5*time.Second)
				all := 0
				for _, n := range served[1:] {
					all += n
				}
				rate, can := float64(all)/5, min(1, times)*knee/s.base.Seconds()
				t.Logf("%.0f/s of %.0f", rate, can)
				require.Greater(t, rate, 0.85*can)
			})
		}
	}
}

// Requests so slow that nothing is learnt of them soon get more places by and by.
func TestSlowRequestsGetMoreByAndBy(t *testing.T) {
	t.Parallel()
	m := &model{Gate: New(few)}
	s := &server{knee: 1000, base: time.Second}
	flows, rates := make([]Flow, 2), []float64{200, 30}
	_, _, _ = m.crowded(t, s, flows, rates, 12*time.Second)
	_, under, _ := m.crowded(t, s, flows, rates, 5*time.Second)
	require.Greater(t, under[1], 8.0)
}

// A page that asks for many things at once has them at once; a tenant that goes
// on like that has one place, until it has kept still for a moment.
func TestRushIsNoFlood(t *testing.T) {
	t.Parallel()
	m := &model{Gate: New(few)}
	var f, other Flow
	rush := func(n int, each time.Duration) (passed int) {
		t.Helper()
		slot, err := m.arrive(t, &other, Terms{})
		require.NoError(t, err)
		require.True(t, slot.held, "others always pass")
		m.leave(slot, m.clock)
		m.serving = nil
		var waiting []*Slot
		for range n {
			slot, err := m.arrive(t, &f, Terms{Concurrency: 16})
			require.NoError(t, err)
			if !slot.held {
				waiting = append(waiting, slot)
			}
		}
		passed = len(m.serving)
		for len(m.serving) > 0 {
			m.clock += each
			for _, slot := range m.serving {
				m.leave(slot, m.clock)
			}
			m.serving = nil
			waiting, _ = m.collect(waiting)
		}
		require.Empty(t, waiting)
		return passed
	}
	for range 20 {
		require.Equal(t, 12, rush(12, 2*time.Millisecond))
		m.clock += 200 * time.Millisecond
	}
	require.Equal(t, 12, rush(12, 10*time.Millisecond))
	require.Equal(t, 1, rush(12, time.Millisecond))
	m.clock += 20 * time.Millisecond
	require.Equal(t, 1, rush(12, time.Millisecond), "that was too short")
	m.clock += time.Second
	require.Equal(t, 12, rush(12, time.Millisecond))
	for range 100 {
		rush(12, 20*time.Millisecond)
	}
	m.clock += 10 * time.Second
	require.Less(t, rush(14, time.Millisecond), 14, "who went on for long is remembered longer")
	m.clock += 20 * time.Second
	require.Equal(t, 14, rush(14, time.Millisecond))
}

// Who is held back for others' sake hears that it is its own doing, where the node has places.
func TestGreedIsRefusedAsItsOwnDoing(t *testing.T) {
	t.Parallel()
	cfg := few
	cfg.WaitingPerTenant = 1
	m := &model{Gate: New(cfg)}
	var f, other Flow
	for range 8 {
		_, err := m.arrive(t, &f, Terms{})
		require.NoError(t, err)
	}
	m.clock += 20 * time.Millisecond
	_, err := m.arrive(t, &other, Terms{})
	require.NoError(t, err)
	slot, err := m.arrive(t, &f, Terms{})
	require.NoError(t, err)
	require.False(t, slot.held)
	_, err = m.arrive(t, &f, Terms{})
	require.ErrorIs(t, err, ErrConcurrent)
}
