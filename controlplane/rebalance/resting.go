package rebalance

import (
	"context"
	"time"

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
// Plans that a person applies, and drains that a person begins, mind none of it.
func (s *Service) resting(ctx context.Context, now time.Time) (map[shardmap.TenantID]rest, error) {
	failures, err := s.store.RebalanceFailures(ctx, now.Add(-longestRest))
	if err != nil {
		return nil, err
	}
	all := make(map[shardmap.TenantID]rest)
	for _, f := range failures {
		if until := f.Last.Add(backOff(restFor, f.Failed)); now.Before(until) {
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

func keysOf(all map[shardmap.TenantID]rest) map[shardmap.TenantID]bool {
	ids := make(map[shardmap.TenantID]bool, len(all))
	for id := range all {
		ids[id] = true
	}
	return ids
}
