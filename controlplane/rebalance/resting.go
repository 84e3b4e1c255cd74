package rebalance

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/shardmap"
)

// rest is why and until when auto mode leaves a tenant where it is.
type rest struct {
	until  time.Time
	failed int // of its moves since one arrived
	why    string
}

// resting are the tenants whose moves failed and that auto mode doesn't move yet, each for
// as long as it would rest itself after so many failed runs: else a tenant that
// can't be moved would be copied in vain again and again, and keep others waiting.
// Plans that a person applies, and drains that a person begins, mind none of it, also
// when a run of auto mode that is under way takes the drain over.
func (s *Service) resting(ctx context.Context, now time.Time) (map[shardmap.TenantID]rest, error) {
	failures, err := s.store.RebalanceFailures(ctx, now.Add(-longestRest))
	if err != nil {
		return nil, err
	}
	all := make(map[shardmap.TenantID]rest)
	for _, f := range failures {
		// A replica whose clock was ahead keeps nobody for longer.
		if until := f.Last.Add(backOff(restFor, f.Failed)); now.Before(until) && until.Sub(now) <= longestRest {
			all[f.Tenant] = rest{until: until, failed: f.Failed, why: f.Why}
		}
	}
	return all, nil
}

// firstUp is the tenant whose rest ends first.
func firstUp(all map[shardmap.TenantID]rest) (id shardmap.TenantID, first rest, some bool) {
	for t, r := range all {
		if !some || r.until.Before(first.until) || r.until.Equal(first.until) && t < id {
			id, first, some = t, r, true
		}
	}
	return id, first, some
}

// wish is what was asked of a run since it began.
type wish struct {
	// Drain are shards that a person wants it to empty.
	Drain []shardmap.ShardID `json:"drain,omitempty"`
}

func readWish(asked json.RawMessage) (w wish, err error) {
	if len(asked) == 0 {
		return w, nil
	}
	if err := json.Unmarshal(asked, &w); err != nil {
		return w, fmt.Errorf("what is asked of the run: %w", err)
	}
	return w, nil
}

// wanted takes those out of the resting who live where a person wants the run to move them off.
func (w wish) wanted(f *balance.Fleet, resting map[shardmap.TenantID]rest) {
	if len(w.Drain) == 0 || len(resting) == 0 {
		return
	}
	for i := range f.Tenants {
		if t := &f.Tenants[i]; slices.Contains(w.Drain, t.Shard) {
			delete(resting, t.ID)
		}
	}
}

func keysOf(all map[shardmap.TenantID]rest) map[shardmap.TenantID]bool {
	ids := make(map[shardmap.TenantID]bool, len(all))
	for id := range all {
		ids[id] = true
	}
	return ids
}
