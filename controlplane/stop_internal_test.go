package controlplane

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A part that hangs is left behind; the process must be able to end.
func TestStopIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		s := &Server{http: &http.Server{}, log: slog.New(slog.DiscardHandler), end: func() {}} //nolint:gosec // never listens
		s.side.Go(func() { <-hang })
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		err := s.Stop(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 3*time.Second+lastWait, time.Since(began))
		require.Equal(t, err, s.Stop(ctx), "stopping again does nothing")
		close(hang)
	})
}
