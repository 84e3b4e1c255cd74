package ledger

import (
	"fmt"
	"slices"
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// Latency is the given percentile of a tenant's good answers that came between
// from and to, counted from when each request was due. It fails with
// [ErrNothingMeasured] when none came. It may be asked while the traffic runs.
func (c *Client) Latency(tenant shardmap.TenantID, from, to time.Time, percent int) (time.Duration, error) {
	var within []time.Duration
	if b := c.bookOf(tenant); b != nil {
		b.mu.Lock()
		for i, at := range b.good { // latencies has the same order
			if at.After(from) && at.Before(to) {
				within = append(within, b.latencies[i])
			}
		}
		b.mu.Unlock()
	}
	if len(within) == 0 {
		return 0, fmt.Errorf("%w: of tenant %s between %s and %s", ErrNothingMeasured, tenant, from.Format(time.TimeOnly), to.Format(time.TimeOnly))
	}
	slices.Sort(within)
	return time.Duration(at(within, percent)), nil
}
