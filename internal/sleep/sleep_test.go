package sleep_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/sleep"
)

func TestFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		require.NoError(t, sleep.For(t.Context(), time.Hour))
		require.Equal(t, time.Hour, time.Since(start))
		require.NoError(t, sleep.For(t.Context(), -time.Hour))

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.ErrorIs(t, sleep.For(ctx, time.Hour), context.DeadlineExceeded)
		require.Equal(t, time.Hour+time.Minute, time.Since(start))
		require.ErrorIs(t, sleep.For(ctx, 0), context.DeadlineExceeded)
	})
}
