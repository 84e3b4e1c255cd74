package fair

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// fixed is a gate of so many places whose bounds nobody meets by accident.
func fixed(places int) Config {
	return Config{Least: places, Most: places, Waiting: 100_000, WaitingPerTenant: 10_000, QueueFor: time.Hour, QueueTarget: time.Hour}
}

// model drives a gate in simulated time, without its waiting half.
type model struct {
	*Gate
	clock   time.Duration
	serving []*Slot
}

func (m *model) arrive(t require.TestingT, f *Flow, terms Terms) (*Slot, error) {
	s := &Slot{gate: m.Gate, flow: f}
	passed, err := m.Gate.arrive(s, terms, m.clock)
	require.False(t, passed && err != nil)
	if passed {
		m.serving = append(m.serving, s)
	}
	return s, err
}

// collect moves those of waiting that were let pass to serving, in the order in
// which they are given, and returns those who wait on.
func (m *model) collect(waiting []*Slot) (left []*Slot, refused int) {
	for _, s := range waiting {
		select {
		case err := <-s.granted:
			if err != nil {
				refused++
			} else {
				m.serving = append(m.serving, s)
			}
		default:
			left = append(left, s)
		}
	}
	return left, refused
}

// Whatever comes and goes: bounds hold, nobody is lost, and at the end all who
// came were served or refused.
func TestBoundsHold(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{
			Least: rapid.IntRange(1, 4).Draw(t, "least"), Waiting: rapid.IntRange(1, 20).Draw(t, "waiting"),
			WaitingPerTenant: rapid.IntRange(1, 10).Draw(t, "waitingPerTenant"), QueueFor: 100 * time.Millisecond, QueueTarget: 10 * time.Millisecond,
		}
		cfg.Most = cfg.Least + rapid.IntRange(0, 40).Draw(t, "more")
		m := &model{Gate: New(cfg)}
		flows := make([]*Flow, rapid.IntRange(1, 5).Draw(t, "flows"))
		terms := make([]Terms, len(flows))
		for i := range flows {
			flows[i] = &Flow{}
			terms[i] = Terms{Weight: rapid.IntRange(0, 5).Draw(t, "weight"), Concurrency: rapid.IntRange(0, 5).Draw(t, "concurrency")}
		}
		var waiting []*Slot
		came, served, refused := 0, 0, 0
		check := func() {
			underWay, queued := 0, 0
			for i, f := range flows {
				underWay += f.underWay
				queued += f.queue.len
				require.LessOrEqual(t, f.queue.len, cfg.WaitingPerTenant)
				if terms[i].Concurrency > 0 {
					require.LessOrEqual(t, f.underWay, terms[i].Concurrency)
				}
				if f.queue.len > 0 && f.index == 0 {
					require.Positive(t, f.underWay, "it waits for nothing")
				}
			}
			require.Equal(t, m.underWay, underWay)
			require.Equal(t, m.waiting, queued)
			require.LessOrEqual(t, m.underWay, cfg.Most)
			require.LessOrEqual(t, m.waiting, cfg.Waiting)
			require.Equal(t, len(m.serving), underWay)
			require.Equal(t, len(waiting), queued)
		}
		finish := func(i int) {
			s := m.serving[i]
			m.serving = append(m.serving[:i], m.serving[i+1:]...)
			m.leave(s, m.clock)
			served++
		}
		settle := func() {
			var n int
			waiting, n = m.collect(waiting)
			refused += n
			check()
		}
		t.Repeat(map[string]func(*rapid.T){
			"arrive": func(t *rapid.T) {
				i := rapid.IntRange(0, len(flows)-1).Draw(t, "flow")
				came++
				f := flows[i]
				free := f.underWay == 0 && f.queue.len == 0 && m.underWay < m.capacity.now()
				s, err := m.arrive(t, f, terms[i])
				require.False(t, free && !s.held, "who has nothing under way finds a place that is free")
				if s.pressed {
					require.LessOrEqual(t, f.underWay-f.aside, f.room.now(), "greed is bounded")
					require.LessOrEqual(t, f.aside, f.underWay)
					require.GreaterOrEqual(t, f.aside, 0)
				}
				switch {
				case err != nil:
					refused++
				case !s.held:
					waiting = append(waiting, s)
				}
				settle()
			},
			"finish": func(t *rapid.T) {
				if len(m.serving) > 0 {
					finish(rapid.IntRange(0, len(m.serving)-1).Draw(t, "which"))
				}
				settle()
			},
			"yield": func(t *rapid.T) {
				if len(m.serving) > 0 {
					s := m.serving[rapid.IntRange(0, len(m.serving)-1).Draw(t, "which")]
					before := m.underWay
					s.sample = 0
					m.leave(s, m.clock)
					require.LessOrEqual(t, m.underWay, max(before, m.capacity.now()))
					for i := range m.serving {
						if m.serving[i] == s {
							m.serving = append(m.serving[:i], m.serving[i+1:]...)
							break
						}
					}
					served++
				}
				settle()
			},
			"goes away": func(t *rapid.T) {
				if len(waiting) > 0 {
					i := rapid.IntRange(0, len(waiting)-1).Draw(t, "which")
					m.forget(waiting[i])
					waiting = append(waiting[:i], waiting[i+1:]...)
					refused++
				}
				settle()
			},
			"time": func(t *rapid.T) {
				m.clock += time.Duration(rapid.IntRange(1, 300).Draw(t, "ms")) * time.Millisecond
			},
		})
		for len(m.serving) > 0 {
			finish(0)
			settle()
		}
		require.Empty(t, waiting, "nobody is left behind")
		require.Empty(t, m.line)
		require.Empty(t, m.backlog)
		require.Equal(t, came, served+refused)
	})
}

// Tenants who always have requests waiting get places by weight, however long
// their requests take: SFQ's bound is one longest request each per place.
func TestSharesFollowWeights(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		places := rapid.IntRange(4, 10).Draw(t, "places")
		m := &model{Gate: New(fixed(places))}
		n := rapid.IntRange(3, 6).Draw(t, "flows")
		flows, takes, weights := make([]Flow, n), make([]time.Duration, n), make([]int, n)
		heaviest, sum, longest := 0, 0, time.Duration(0)
		for i := range n {
			takes[i] = time.Duration(rapid.IntRange(5, 20).Draw(t, "ms")) * time.Millisecond
			weights[i] = rapid.IntRange(1, 3).Draw(t, "weight")
			heaviest, sum, longest = max(heaviest, weights[i]), sum+weights[i], max(longest, takes[i])
		}
		if float64(heaviest)/float64(sum)*float64(places) > float64(places)/2-1 {
			return // nobody has more than half while others are there
		}
		ends := map[*Slot]time.Duration{}
		waiting := make([][]*Slot, n)
		feed := func(i int) {
			for flows[i].queue.len < places {
				s, err := m.arrive(t, &flows[i], Terms{Weight: weights[i]})
				require.NoError(t, err)
				if !s.held {
					waiting[i] = append(waiting[i], s)
				}
			}
		}
		const lasts = 1500 * time.Millisecond
		for m.clock < lasts {
			for i := range n {
				if len(waiting[i]) != flows[i].queue.len {
					waiting[i], _ = m.collect(waiting[i])
				}
				feed(i)
			}
			var next *Slot
			for _, s := range m.serving {
				if _, ok := ends[s]; !ok {
					for i := range flows {
						if s.flow == &flows[i] {
							ends[s] = m.clock + takes[i]
						}
					}
				}
				if next == nil || ends[s] < ends[next] {
					next = s
				}
			}
			m.clock = ends[next]
			for i, s := range m.serving {
				if s == next {
					m.serving = append(m.serving[:i], m.serving[i+1:]...)
					break
				}
			}
			delete(ends, next)
			m.leave(next, m.clock)
		}
		for i := range n {
			fair := float64(weights[i]) / float64(sum) * float64(places) * lasts.Seconds()
			slack := 0.05*fair + 2*float64(places)*longest.Seconds()
			require.InDelta(t, fair, flows[i].spent.Seconds(), slack, "tenant %d of weights %v, times %v", i, weights, takes)
		}
	})
}

// The next place that comes free goes to who has few requests, however many wait of another.
func TestFloodStarvesNobody(t *testing.T) {
	t.Parallel()
	m := &model{Gate: New(fixed(8))}
	var flood Flow
	for range 1000 {
		_, err := m.arrive(t, &flood, Terms{})
		require.NoError(t, err)
	}
	require.Equal(t, 6, flood.underWay, "alone, a tenant may have most")
	for range 2 {
		s, err := m.arrive(t, &Flow{}, Terms{})
		require.NoError(t, err)
		require.True(t, s.held, "others find a place")
	}
	third, err := m.arrive(t, &Flow{}, Terms{})
	require.NoError(t, err)
	require.False(t, third.held)
	m.clock += time.Millisecond
	m.leave(m.serving[0], m.clock)
	require.NoError(t, <-third.granted, "the next place is not the flood's")
	for _, s := range m.serving[1:4] {
		m.clock += time.Millisecond
		m.leave(s, m.clock)
	}
	require.LessOrEqual(t, flood.underWay, 4, "it has half at most while others are there")
	s, err := m.arrive(t, &Flow{}, Terms{})
	require.NoError(t, err)
	require.True(t, s.held)
}

// In a queue that does not empty any more the oldest are refused early and the newest served first.
func TestStandingQueueIsKeptShort(t *testing.T) {
	t.Parallel()
	cfg := fixed(1)
	cfg.QueueFor, cfg.QueueTarget = 5*time.Second, 100*time.Millisecond
	m := &model{Gate: New(cfg)}
	var f Flow
	var slots []*Slot
	for range 100 {
		s, err := m.arrive(t, &f, Terms{})
		require.NoError(t, err)
		slots = append(slots, s)
		m.clock += 10 * time.Millisecond
	}
	// One second has passed; nobody was served but the first, who holds the place.
	require.LessOrEqual(t, m.waiting, 12)
	require.ErrorIs(t, <-slots[1].granted, ErrOverloaded)
	m.leave(slots[0], m.clock)
	require.NoError(t, <-slots[99].granted)
	require.True(t, slots[99].held)
}

func TestConcurrencyOfATenant(t *testing.T) {
	t.Parallel()
	cfg := fixed(10)
	cfg.WaitingPerTenant = 2
	m := &model{Gate: New(cfg)}
	var f Flow
	for i := range 5 {
		s, err := m.arrive(t, &f, Terms{Concurrency: 2})
		switch {
		case i < 4:
			require.NoError(t, err)
			require.Equal(t, i < 2, s.held)
		default:
			require.ErrorIs(t, err, ErrConcurrent)
		}
	}
	s, err := m.arrive(t, &Flow{}, Terms{})
	require.NoError(t, err)
	require.True(t, s.held, "others are not concerned")
}

// When all that may wait do, whoever has few requests still gets in.
func TestRoomForThoseWithFew(t *testing.T) {
	t.Parallel()
	cfg := fixed(1)
	cfg.Waiting = 10
	m := &model{Gate: New(cfg)}
	var flood Flow
	var slots []*Slot
	for range 11 {
		s, err := m.arrive(t, &flood, Terms{})
		require.NoError(t, err)
		slots = append(slots, s)
	}
	_, err := m.arrive(t, &flood, Terms{})
	require.ErrorIs(t, err, ErrOverloaded)
	_, err = m.arrive(t, &Flow{}, Terms{})
	require.NoError(t, err)
	require.ErrorIs(t, <-slots[1].granted, ErrOverloaded, "the flood's oldest made room")
	require.Equal(t, 10, m.waiting)
}

func TestClientsThatGoAwayAreForgotten(t *testing.T) {
	t.Parallel()
	g := New(fixed(1))
	var f Flow
	var first Slot
	require.NoError(t, g.Enter(t.Context(), &first, &f, Terms{}))
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			var s Slot
			if err := g.Enter(ctx, &s, &f, Terms{}); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			s.Leave()
		})
	}
	require.Eventually(t, func() bool { return g.Stats().Waiting == 10 }, time.Minute, time.Millisecond)
	cancel()
	all.Wait()
	require.Equal(t, Stats{Bound: 1, UnderWay: 1, Gone: 10}, g.Stats())
	first.Leave()
	first.Leave()
	require.Zero(t, g.Stats().UnderWay)
	require.True(t, g.Use(&f).Idle)
}

// A request that waits for something else gives its place to others, once.
func TestYield(t *testing.T) {
	t.Parallel()
	cfg := fixed(1)
	cfg.WaitingPerTenant = 1
	g := New(cfg)
	var f Flow
	var a, b, c Slot
	require.NoError(t, g.Enter(t.Context(), &a, &f, Terms{Concurrency: 1}))
	a.Yield()
	require.Zero(t, g.Stats().UnderWay)
	require.NoError(t, g.Enter(t.Context(), &b, &f, Terms{Concurrency: 1}))
	b.Yield()
	require.Equal(t, 1, g.Stats().UnderWay, "no more than may wait")
	a.Leave()
	require.Equal(t, 1, g.Stats().UnderWay)
	b.Yield()
	require.NoError(t, g.Enter(t.Context(), &c, &f, Terms{Concurrency: 1}))
	b.Leave()
	c.Leave()
	require.Zero(t, g.Stats().UnderWay)
	require.True(t, g.Use(&f).Idle)
}

// server is what a gate may stand before: as many requests at once as knee are
// served in base each, and more of them only take longer.
type server struct {
	knee    float64
	base    time.Duration
	slots   []*Slot
	done    float64           // seconds of work on each so far
	left    map[*Slot]float64 // done at which it is served
	waiting [3][]*Slot
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

// saturate runs a gate before such a server with as many requests waiting as
// it likes, and returns how many a second were served.
func (m *model) saturate(t *testing.T, s *server, flows []Flow, lasts time.Duration, noise func() float64) float64 {
	t.Helper()
	if s.left == nil {
		s.left = map[*Slot]float64{}
	}
	served := 0
	end := m.clock + lasts
	for m.clock < end {
		for i := range flows {
			for flows[i].queue.len < 20 {
				slot, err := m.arrive(t, &flows[i], Terms{})
				require.NoError(t, err)
				if !slot.held {
					s.waiting[i] = append(s.waiting[i], slot)
				}
			}
		}
		for _, slot := range m.serving {
			s.slots = append(s.slots, slot)
			s.left[slot] = s.done + s.base.Seconds()*noise()
		}
		m.serving = nil
		slot, took := s.next()
		m.clock += took
		served++
		m.leave(slot, m.clock)
		for i := range flows {
			if len(s.waiting[i]) != flows[i].queue.len {
				s.waiting[i], _ = m.collect(s.waiting[i])
			}
		}
	}
	return float64(served) / lasts.Seconds()
}

// The bound finds the knee of servers of any size, at next to no cost in
// throughput, and is not fooled when requests become slow by themselves.
func TestCapacityFindsTheKnee(t *testing.T) {
	t.Parallel()
	for _, knee := range []float64{6, 40} {
		t.Run(fmt.Sprint(knee), func(t *testing.T) {
			t.Parallel()
			cfg := fixed(1)
			cfg.Least, cfg.Most = 4, 500
			m := &model{Gate: New(cfg)}
			flows := make([]Flow, 3)
			state := uint64(1)
			noise := func() float64 { // exponential, from a generator of its own: the test is the same each time
				state = state*6364136223846793005 + 1442695040888963407
				return -math.Log(1 - float64(state>>11)/(1<<53))
			}
			s := &server{knee: knee, base: 20 * time.Millisecond}
			m.saturate(t, s, flows, 20*time.Second, noise)
			rate := m.saturate(t, s, flows, 20*time.Second, noise)
			t.Logf("bound %.0f, %.0f/s of %.0f", m.capacity.bound, rate, knee/s.base.Seconds())
			require.Greater(t, rate, 0.9*knee/s.base.Seconds())
			require.Less(t, m.capacity.bound, 3*knee)

			// All requests take ten times as long, and that is nobody's crowd.
			s.base *= 10
			m.saturate(t, s, flows, 10*time.Second, noise)
			slow := m.saturate(t, s, flows, 20*time.Second, noise)
			t.Logf("slow: bound %.0f, %.0f/s of %.0f", m.capacity.bound, slow, knee/s.base.Seconds())
			require.Greater(t, slow, 0.85*knee/s.base.Seconds())
		})
	}
}
