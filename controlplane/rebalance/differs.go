package rebalance

import (
	"fmt"
	"strings"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/placement"
	"github.com/freehold-db/freehold/shardmap"
)

// mostDifferences bounds what is told.
const mostDifferences = 3

// differs says in words how the fleet is another than the one that a plan was made for.
func differs(stored catalog.RebalancePlan, made *balance.Plan, at *placement.Snapshot) string {
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	was := make(map[shardmap.ShardID]*balance.ShardChange, len(made.Shards))
	for i := range made.Shards {
		was[made.Shards[i].ID] = &made.Shards[i]
	}
	tenants := make(map[shardmap.ShardID]int, len(was))
	for i := range at.Fleet.Tenants {
		tenants[at.Fleet.Tenants[i].Shard]++
	}
	for i := range at.Fleet.Shards {
		now := &at.Fleet.Shards[i]
		before := was[now.ID]
		delete(was, now.ID)
		switch {
		case before == nil:
			say("shard %s is new", now.ID)
		case before.State != now.State:
			say("shard %s is %s and was %s", now.ID, now.State, before.State)
		case before.Before.Tenants != tenants[now.ID]:
			say("shard %s has %d tenants and had %d", now.ID, tenants[now.ID], before.Before.Tenants)
		}
	}
	for id := range was {
		say("shard %s is gone", id)
	}
	if why := misplaced(at.Fleet, kept(made.Moves)); why != "" {
		say("%s", why)
	}
	if stored.PolicyVersion != at.Version {
		say("policy, capacities or needs are at version %d and were at %d", at.Version, stored.PolicyVersion)
	}
	switch {
	case len(all) == 0:
		return "a tenant lives elsewhere, or its needs or a shard's region, class or labels changed"
	case len(all) > mostDifferences:
		all = append(all[:mostDifferences], fmt.Sprintf("and %d more", len(all)-mostDifferences))
	}
	return strings.Join(all, ", ")
}
