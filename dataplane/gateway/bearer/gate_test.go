package bearer

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestGate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gate{places: make(chan struct{}, 1)}
		require.NoError(t, g.enter(t.Context()))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, g.enter(ctx), ErrBusy, "who left waits no more")
		require.ErrorIs(t, g.enter(t.Context()), ErrBusy, "nor does anybody for ever")

		passed := make(chan error, gateWaiting)
		for range gateWaiting {
			go func() {
				err := g.enter(t.Context())
				passed <- err
				if err == nil {
					g.leave()
				}
			}()
		}
		synctest.Wait()
		require.ErrorIs(t, g.enter(t.Context()), ErrBusy, "one too many")
		g.leave()
		for range gateWaiting {
			require.NoError(t, <-passed)
		}
		synctest.Wait()
		require.Zero(t, g.waiting.Load())
		require.NoError(t, g.enter(t.Context()))
	})
}
