package fair

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A request that takes long does not keep the others of its tenant from being
// served, though that is greedy and somebody modest is there, or was: nobody's
// leaving says that there is room.
func TestALongRequestHoldsNobodyUp(t *testing.T) {
	for _, modestStay := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			g := New(few)
			var f, other Flow
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var long Slot
			require.NoError(t, g.Enter(ctx, &long, &f, Terms{Concurrency: 16}))
			modest := func() {
				var s Slot
				require.NoError(t, g.Enter(ctx, &s, &other, Terms{}))
				s.Leave()
			}
			modest()
			go func() {
				for modestStay && ctx.Err() == nil {
					modest()
					time.Sleep(100 * time.Millisecond)
				}
			}()
			var worst time.Duration
			var refused error
			for range 8 { // a page that asks for five things at a time, again and again
				var slots [5]Slot
				var mu sync.Mutex
				var page sync.WaitGroup
				for i := range slots {
					page.Go(func() {
						begun := time.Now()
						err := g.Enter(ctx, &slots[i], &f, Terms{Concurrency: 16})
						mu.Lock()
						worst, refused = max(worst, time.Since(begun)), errors.Join(refused, err)
						mu.Unlock()
						time.Sleep(20 * time.Millisecond)
						slots[i].Leave()
					})
				}
				page.Wait()
			}
			assert.NoError(t, refused)
			assert.LessOrEqual(t, worst, time.Second, "modest ones stay: %v", modestStay)
			long.Leave()
			stop()
			time.Sleep(time.Second) // who is there goes
		})
	}
}

// Who was given places since its requests were slow does not keep them for quick ones.
func TestSlowRequestsEarnNoPlacesForQuickOnes(t *testing.T) {
	t.Parallel()
	m := &model{Gate: New(few)}
	s := &server{knee: 2, base: time.Millisecond}
	flows := make([]Flow, 2)
	flows[1].room = &room{}
	flows[1].room.become(1000, 16)
	rates := []float64{200, 3000}
	_, _, _ = m.crowded(t, s, flows, rates, 5*time.Second)
	_, under, _ := m.crowded(t, s, flows, rates, 5*time.Second)
	require.Less(t, under[1], 2.0)
}

// A probe in which the tenant had all that it wanted says nothing of what there
// is: the next one does not wait for half a minute. One that found the server
// at its end does.
func TestWhoHadAllItWantedIsAskedAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		hit   bool
		done  int // in a second, with four at once on average; one at a time 10 would have been
		bound float64
		rests bool
	}{
		{name: "it had all it wanted", done: 40, bound: 3.75},
		{name: "it had all it wanted, and the server no more", done: 26, bound: 1.95, rests: true},
		{name: "it wants more", hit: true, done: 40, bound: 3},
		{name: "it wants more than there is", hit: true, done: 26, bound: 1.95, rests: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := room{bound: 2, probing: true, alone: 10}
			r.pass(0, 0)
			r.hit, r.done = c.hit, c.done-1
			r.left(4, 16, time.Second)
			require.InDelta(t, c.bound, r.bound, 1e-9)
			require.Equal(t, c.rests, r.rest > 0)
			require.False(t, r.probing)
		})
	}
}
