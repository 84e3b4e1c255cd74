package client

import (
	"context"
	"net/http"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// RemoveShard takes a drained, empty shard out of the fleet.
func (c *Client) RemoveShard(ctx context.Context, id string, ch Change) (api.Shard, error) {
	return change[api.Shard](ctx, c, http.MethodDelete, shardPath(id), nil, ch)
}
