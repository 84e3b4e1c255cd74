package move

import (
	"math/rand/v2"
	"time"
)

// jitter spreads retries of many moves.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d) //nolint:gosec // no secret
}
