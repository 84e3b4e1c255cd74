package client

import (
	"context"
	"iter"
	"net/url"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// TopTenants lists what tenants use, most of the figure sort first (empty: load); of one
// shard unless it is empty. An error ends the list.
func (c *Client) TopTenants(ctx context.Context, sort, shard string) iter.Seq2[api.TenantUsage, error] {
	q := url.Values{}
	set(q, "sort", sort)
	set(q, "shard", shard)
	return pages[api.TenantUsage](ctx, c, "/v1/usage/tenants", q)
}

// TopShards lists what shards carry, most of the figure sort first (empty: load). An error ends the list.
func (c *Client) TopShards(ctx context.Context, sort string) iter.Seq2[api.ShardUsage, error] {
	q := url.Values{}
	set(q, "sort", sort)
	return pages[api.ShardUsage](ctx, c, "/v1/usage/shards", q)
}

// TenantUsage shows what one tenant uses.
func (c *Client) TenantUsage(ctx context.Context, id string) (api.TenantUsage, error) {
	return get[api.TenantUsage](ctx, c, tenantPath(id)+"/usage", nil)
}

// ShardUsage shows what one shard carries.
func (c *Client) ShardUsage(ctx context.Context, id string) (api.ShardUsage, error) {
	return get[api.ShardUsage](ctx, c, shardPath(id)+"/usage", nil)
}
