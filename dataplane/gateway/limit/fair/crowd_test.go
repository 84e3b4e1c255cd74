package fair

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A tenant that always wants more gets as many places as serve it well while
// somebody else is there, and hardly less done with them; alone, or before a
// server that does more of them in the same time, it keeps what it may have.
func TestFloodIsServedByFew(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		knee   float64 // of its server
		others bool
		crowd  float64 // of its requests under way, at most
		least  float64 // and at least
	}{
		"two processors":       {knee: 2, others: true, crowd: 5},
		"six":                  {knee: 6, others: true, crowd: 13},
		"no end of them":       {knee: 1000, others: true, crowd: 17, least: 14},
		"two, and nobody else": {knee: 2, crowd: 17, least: 15},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &model{Gate: New(fixed(64))}
			s := &server{knee: c.knee, base: 5 * time.Millisecond}
			mean, rate := m.flood(t, s, c.others, 2*time.Second, 4*time.Second)
			t.Logf("%.1f at once, %.0f/s", mean, rate)
			require.LessOrEqual(t, mean, c.crowd)
			require.GreaterOrEqual(t, mean, c.least)
			require.Greater(t, rate, 0.8*min(c.knee, 16)/s.base.Seconds())
		})
	}
}

// flood has one tenant that always has requests waiting, and maybe another with
// 20 a second, whose requests take no time. After a while it is measured how
// many of the first are under way, and how many a second are served.
func (m *model) flood(t *testing.T, s *server, others bool, settle, lasts time.Duration) (underWay, perSecond float64) {
	t.Helper()
	s.left = map[*Slot]float64{}
	var flood, other Flow
	var crowd float64 // seconds
	served, seen, state := 0, time.Duration(0), uint64(1)
	for m.clock < settle+lasts {
		if others && m.clock-seen >= 50*time.Millisecond {
			seen = m.clock
			slot, err := m.arrive(t, &other, Terms{})
			require.NoError(t, err)
			require.True(t, slot.held, "there is always a place for it")
			m.serving = m.serving[:len(m.serving)-1]
			m.leave(slot, m.clock)
		}
		for flood.queue.len < 20 {
			slot, err := m.arrive(t, &flood, Terms{Concurrency: 16})
			require.NoError(t, err)
			if !slot.held {
				s.waiting[0] = append(s.waiting[0], slot)
			}
		}
		s.waiting[0], _ = m.collect(s.waiting[0])
		for _, slot := range m.serving {
			state = state*6364136223846793005 + 1442695040888963407
			s.slots = append(s.slots, slot)
			s.left[slot] = s.done - s.base.Seconds()*math.Log(1-float64(state>>11)/(1<<53))
		}
		m.serving = nil
		slot, took := s.next()
		m.clock += took
		if m.clock > settle {
			crowd += took.Seconds() * float64(flood.underWay)
			served++
		}
		m.leave(slot, m.clock)
		s.waiting[0], _ = m.collect(s.waiting[0])
	}
	return crowd / lasts.Seconds(), float64(served) / lasts.Seconds()
}

// Clients who ask again as soon as they have their answers, many more of them
// than places, all have their turn: a queue that never empties is no flood.
func TestCrowdIsServedInTurn(t *testing.T) {
	t.Parallel()
	cfg := fixed(32)
	cfg.QueueTarget = 5 * time.Second
	m := &model{Gate: New(cfg)}
	var f Flow
	var waiting []*Slot
	come := func() {
		s, err := m.arrive(t, &f, Terms{Concurrency: 16})
		require.NoError(t, err)
		if !s.held {
			waiting = append(waiting, s)
		}
	}
	for range 64 {
		come()
	}
	for m.clock < 1500*time.Millisecond {
		m.clock += 100 * time.Microsecond
		s := m.serving[0]
		m.serving = m.serving[1:]
		m.leave(s, m.clock)
		come()
		var refused int
		waiting, refused = m.collect(waiting)
		require.Zero(t, refused)
		require.Less(t, m.clock-waiting[0].arrived, 10*time.Millisecond, "48 wait, and 16 are served in 1.6 ms")
	}
}

// next is the request that is served next, and when.
func (s *server) next() (*Slot, time.Duration) {
	speed := min(1, s.knee/float64(len(s.slots)))
	first, took := 0, math.MaxFloat64
	for i, slot := range s.slots {
		if left := s.left[slot] - s.done; left < took {
			first, took = i, left
		}
	}
	slot := s.slots[first]
	s.done += took
	delete(s.left, slot)
	s.slots = append(s.slots[:first], s.slots[first+1:]...)
	return slot, time.Duration(took / speed * float64(time.Second))
}
