package diff

import (
	"context"
	"time"

	"github.com/freehold-db/freehold/internal/sleep"
)

// pace has a comparison rest as long as it works, and keep to a rate if there is one.
type pace struct {
	rate int64 // bytes per second; 0: none
}

func newPace(rate int64) *pace { return &pace{rate: rate} }

// longestRest bounds one rest.
const longestRest = time.Minute

// rest waits after work that took so long and read so much.
func (p *pace) rest(ctx context.Context, took time.Duration, bytes int64) error {
	d := took
	if p.rate > 0 {
		d = time.Duration(float64(bytes)/float64(p.rate)*float64(time.Second)) - took
	}
	if d <= 0 {
		return ctx.Err()
	}
	return sleep.For(ctx, min(d, longestRest))
}
