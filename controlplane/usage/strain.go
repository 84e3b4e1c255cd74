package usage

import (
	"fmt"
	"time"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move/pace"
)

// blindFor is how long a shard may fail to be measured before it counts as strained.
const blindFor = 2 * time.Minute

// fewest is of how many requests a minute it counts how long they take: of
// fewer it is the slowest that is seen, as of somebody's nightly report.
const fewest = 20

// Bounds are what a shard may show before nothing more should be put on it.
type Bounds struct {
	pace.Bounds
	// P95 of its tenants' requests; 0: no bound.
	P95 time.Duration
}

// Strain says by which of its figures a shard shows more than it may; "" if by
// none. Its reading is from [catalog.Store.GetShardReading], which costs the
// shard nothing. A shard that nobody has measured yet shows nothing.
func (b Bounds) Strain(r catalog.ShardReading) string {
	if r.MeasuredAt == nil {
		return ""
	}
	if why := Blind(r, blindFor); why != "" {
		return why
	}
	load := pace.Load{Active: r.Active, Processors: r.Processors, WAL: r.WALShare, Lag: r.Lag, Behind: r.Behind}
	if why := b.Bounds.Strain(string(r.Shard), load); why != "" {
		return why
	}
	if took := time.Duration(r.P95 * float64(time.Second)); b.P95 > 0 && took > b.P95 && r.Requests*60 >= fewest {
		return fmt.Sprintf("requests of tenants on %s take %s (95 of 100 take less; at most %s)", r.Shard, took.Round(time.Millisecond), b.P95)
	}
	return ""
}

// Blind says why a shard can't be measured, and for how long that has been so; "" if it
// can, or was within the time that is given. Whoever can't be measured can't be reached.
func Blind(r catalog.ShardReading, within time.Duration) string {
	if r.Trouble == "" || r.MeasuredAt == nil || r.Age <= max(within, blindFor) {
		return ""
	}
	return fmt.Sprintf("%s could not be measured for %s: %s", r.Shard, r.Age.Round(time.Second), r.Trouble)
}
