package fair

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

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
