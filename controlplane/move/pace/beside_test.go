package pace

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Beside others a copy does so many things at once and no more, and goes on as
// if alone when nobody was there for a while.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New()
		ctx, stop := context.WithCancel(t.Context())
		var working, most atomic.Int64
		done := make(chan error)
		for range 4 {
			go func() {
				for {
					end, err := p.Turn(ctx)
					if err != nil {
						done <- err
						return
					}
					n := working.Add(1)
					for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					}
					time.Sleep(10 * time.Millisecond)
					working.Add(-1)
					end()
				}
			}()
		}
		atMost := func() int64 {
			time.Sleep(100 * time.Millisecond) // what was under way ends
			most.Store(0)
			time.Sleep(time.Second)
			return most.Load()
		}
		require.EqualValues(t, 4, atMost(), "alone")
		p.see("s1", 1)
		require.EqualValues(t, 1, atMost())
		p.see("s1", 2)
		require.EqualValues(t, 2, atMost())
		p.SetMode(Full)
		require.EqualValues(t, 4, atMost(), "asked to mind nobody")
		p.SetMode(Considerate)
		require.EqualValues(t, 2, atMost())
		p.see("s1", 2)
		p.see("", 0)
		require.EqualValues(t, 2, atMost(), "they may be back at once")
		time.Sleep(calmAfter)
		p.see("", 0)
		require.EqualValues(t, 4, atMost(), "they are gone")
		p.see("s1", 1)
		stop()
		for range 4 {
			require.ErrorIs(t, <-done, context.Canceled)
		}
	})
}

// Beside others a stream rests as long as it works, whatever the size of its
// pieces, and neither for what it was made to wait for nor when it is alone.
func TestStreamsRest(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		each := time.Duration(rapid.IntRange(1, 20_000).Draw(rt, "piece takes")) * time.Microsecond
		beside, mode := rapid.Bool().Draw(rt, "others"), rapid.SampledFrom([]Mode{"", Considerate, Full}).Draw(rt, "mode")
		synctest.Test(t, func(t *testing.T) {
			p := New()
			p.SetMode(mode)
			if beside {
				p.see("s1", 1)
			}
			s := p.Stream()
			begun, worked := time.Now(), time.Duration(0)
			for range 200 {
				time.Sleep(each)
				worked += each
				require.NoError(t, s.Take(context.Background(), 100))
			}
			rested := time.Since(begun) - worked
			if !beside || mode == Full {
				require.Zero(t, rested)
				require.Empty(t, p.Waiting())
				return
			}
			require.InDelta(t, worked, rested, float64(worthARest+each))
			if rested > 0 {
				require.Contains(t, p.Waiting(), "for others who work on s1")
			}
		})
	})
	synctest.Test(t, func(t *testing.T) {
		p := New()
		p.SetMax(1 << 20)
		p.see("s1", 1)
		s := p.Stream()
		begun := time.Now()
		for range 100 {
			require.NoError(t, s.Take(context.Background(), 1<<20))
		}
		require.InDelta(t, 100, time.Since(begun).Seconds(), 1, "what a rate has it wait for is no work")
	})
}

// A copy goes as it is asked to from the moment it begins, follows what is asked
// later, and stays as it was while that can't be read.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type answer struct {
			asked json.RawMessage
			err   error
		}
		var said atomic.Pointer[answer]
		say := func(asked string, err error) { said.Store(&answer{json.RawMessage(asked), err}) }
		say("", nil)
		p, most := New(), int64(1<<20)
		stop := func() func() {
			return p.Follow(t.Context(), Wish{MaxRate: &most}, func(context.Context) (json.RawMessage, error) { return said.Load().asked, said.Load().err })
		}
		now := func() (float64, Mode) {
			time.Sleep(2 * wishEvery)
			synctest.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			return float64(p.asked.Limit()), p.mode
		}
		unfollow := stop()
		at, mode := now()
		require.EqualValues(t, most, at)
		require.Empty(t, mode)
		say(`{"max_rate":5000000}`, nil)
		at, _ = now()
		require.EqualValues(t, 5e6, at)
		say(`{"max_rate":1}`, errors.New("the catalog is away"))
		at, _ = now()
		require.EqualValues(t, 5e6, at)
		say(`{"max_rate":0,"pace":"full"}`, nil)
		at, mode = now()
		require.Greater(t, at, 1e300)
		require.Equal(t, Full, mode)
		say(`{"pace":"full"}`, nil)
		at, _ = now()
		require.EqualValues(t, most, at)
		unfollow()

		p = New() // another worker's
		unfollow = stop()
		p.mu.Lock()
		require.Equal(t, Full, p.mode, "at once")
		p.mu.Unlock()
		unfollow()
	})
}

// A rate that is changed while a copy takes its bytes never fails it, nor does
// one so low that what it takes at once is more than a moment's.
func TestTheRateChangesUnderWay(t *testing.T) {
	t.Parallel()
	p := New()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		for ctx.Err() == nil {
			p.SetMax(1 << 40)
			p.SetMax(1 << 50)
			p.SetMax(64 << 10)
			p.SetMax(0)
		}
	}()
	until := time.Now().Add(200 * time.Millisecond)
	for time.Now().Before(until) {
		require.NoError(t, p.Take(t.Context(), 32<<10))
	}
	stop()
	<-changed
}
