package rest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/access"
)

// A function cannot give itself more time than its tenant and the request have.
func TestTimesAreBounded(t *testing.T) {
	t.Parallel()
	own := Identity{Limits: access.Limits{StatementFor: 3 * time.Second}}
	for value, want := range map[string]string{"4s": "3000", "2s": "2000", "2 s": "2000", "1500": "1500", "1.5min": "3000", "0": "3000", "500us": "1", "1d": "3000", "0x7fffffff": "3000", "-1": "3000", "3 weeks": "3000"} {
		require.Equal(t, want, string(bounded(t.Context(), own, value)), value)
	}
	require.Equal(t, "0", string(bounded(t.Context(), Identity{}, "0")))
	require.Equal(t, "3600000", string(bounded(t.Context(), Identity{}, "1h")))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.LessOrEqual(t, len(bounded(ctx, Identity{}, "0")), len("60000"))
	require.Equal(t, "10", string(bounded(ctx, Identity{}, "10ms")))
	past, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	require.Equal(t, "1", string(bounded(past, Identity{}, "10ms")), "not none")
}
