package timing_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/timing"
)

func TestTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		times := timing.Start()
		after := func(d time.Duration, s timing.Stage) {
			time.Sleep(d)
			times.Mark(s)
		}
		after(1500*time.Microsecond, timing.JWT)
		after(time.Second, timing.Queue)
		after(40*time.Microsecond, timing.Plan)
		after(time.Second, timing.Queue)
		require.Equal(t, "jwt;dur=1.5, queue;dur=2000.0, parse;dur=0.0, plan;dur=0.0, transaction;dur=0.0, response;dur=0.0", times.Header())
		require.Same(t, times, timing.From(context.WithValue(t.Context(), timing.Key{}, times)))
	})
	timing.From(t.Context()).Mark(timing.JWT) // measures nothing
}
