package rebalance

import (
	"context"
	"fmt"
	"slices"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/usage"
	"github.com/freehold-db/freehold/shardmap"
)

// condition is how a shard bears what it has to do.
type condition struct {
	strain string // why nothing more should be put on it; empty: it bears more
	blind  bool   // that is since it can't be measured: moves off it would find nobody either
	lost   bool   // for so long that plans do without it
}

// conditions are those of the shards that are in any trouble.
type conditions map[shardmap.ShardID]condition

// lostAfter is how long a shard may be out of reach before plans do without it:
// a run would wait for it, and keep all others from beginning.
const lostAfter = patience

// conditions reads what was measured of all shards.
func (s *Service) conditions(ctx context.Context) (conditions, error) {
	readings, err := s.store.ListShardReadings(ctx)
	if err != nil {
		return nil, err
	}
	all := conditions{}
	for _, reading := range readings {
		if why := s.bearable.Strain(reading); why != "" {
			all[reading.Shard] = condition{strain: why, blind: usage.Blind(reading, 0) != "", lost: usage.Blind(reading, lostAfter) != ""}
		}
	}
	return all, nil
}

// keeps says for which lost shard a move would wait; "" for none. Those off a shard
// that is being emptied wait as long as somebody wants it emptied.
func (c conditions) keeps(f *balance.Fleet, moves []catalog.RebalanceMove) string {
	if !c.anyLost() {
		return ""
	}
	draining := map[shardmap.ShardID]bool{}
	for i := range f.Shards {
		draining[f.Shards[i].ID] = f.Shards[i].State == balance.Draining
	}
	for _, m := range moves {
		for _, id := range []shardmap.ShardID{m.To, m.From} {
			if c[id].lost && !draining[id] {
				return fmt.Sprintf("shard %s can't be reached: %s", id, c[id].strain)
			}
		}
	}
	return ""
}

func (c conditions) anyLost() bool {
	for _, on := range c {
		if on.lost {
			return true
		}
	}
	return false
}

// without is the fleet as plans see it that do without lost shards: nobody goes there,
// and nobody is moved off one unless it is being emptied. f is not changed.
func (c conditions) without(f *balance.Fleet) *balance.Fleet {
	if !c.anyLost() {
		return f
	}
	e := &balance.Fleet{Shards: slices.Clone(f.Shards), Tenants: f.Tenants}
	for i := range e.Shards {
		if on := &e.Shards[i]; c[on.ID].lost && on.State != balance.Draining {
			on.State = balance.Down
		}
	}
	return e
}
