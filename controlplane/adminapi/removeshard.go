package adminapi

import "context"

// removeShard takes a drained, empty shard out of the fleet.
func (a *API) removeShard(ctx context.Context, c *call) (answer, error) {
	id, err := c.shardID()
	if err != nil {
		return answer{}, err
	}
	if _, err := a.Shards.RemoveShard(ctx, id, c.actor); err != nil {
		return answer{}, err
	}
	u, err := a.Catalog.GetShardUsage(ctx, id)
	if err != nil {
		return answer{}, err
	}
	return ok(shardDoc(u))
}
