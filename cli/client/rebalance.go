package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

const rebalancePath = "/v1/rebalance"

// PlacementPolicy shows what is declared of where tenants live.
func (c *Client) PlacementPolicy(ctx context.Context) (api.PlacementPolicy, error) {
	return get[api.PlacementPolicy](ctx, c, rebalancePath+"/policy", nil)
}

// ApplyPolicy declares what a policy file says; a dry run only tells what would change.
func (c *Client) ApplyPolicy(ctx context.Context, in api.ApplyPolicy, ch Change) (api.AppliedPolicy, error) {
	return change[api.AppliedPolicy](ctx, c, http.MethodPut, rebalancePath+"/policy", in, ch)
}

// Needs shows what a tenant needs of its shard.
func (c *Client) Needs(ctx context.Context, tenant string) (api.TenantNeeds, error) {
	return get[api.TenantNeeds](ctx, c, tenantPath(tenant)+"/needs", nil)
}

// SetNeeds declares all that a tenant needs of its shard.
func (c *Client) SetNeeds(ctx context.Context, tenant string, in api.Needs, ch Change) (api.AppliedPolicy, error) {
	return change[api.AppliedPolicy](ctx, c, http.MethodPut, tenantPath(tenant)+"/needs", in, ch)
}

// Capacity shows what a shard may carry.
func (c *Client) Capacity(ctx context.Context, shard string) (api.ShardCapacity, error) {
	return get[api.ShardCapacity](ctx, c, shardPath(shard)+"/capacity", nil)
}

// SetCapacity declares all that a shard may carry.
func (c *Client) SetCapacity(ctx context.Context, shard string, in api.Amounts, ch Change) (api.AppliedPolicy, error) {
	return change[api.AppliedPolicy](ctx, c, http.MethodPut, shardPath(shard)+"/capacity", in, ch)
}

// ExplainTenant says why a tenant lives where it does, and why not elsewhere.
func (c *Client) ExplainTenant(ctx context.Context, tenant string) (api.TenantPlacement, error) {
	return get[api.TenantPlacement](ctx, c, tenantPath(tenant)+"/placement", nil)
}

// MakePlan plans for the fleet and keeps the plan.
func (c *Client) MakePlan(ctx context.Context, in api.MakePlan, ch Change) (api.RebalancePlan, error) {
	return change[api.RebalancePlan](ctx, c, http.MethodPost, rebalancePath+"/plans", in, ch)
}

// RebalancePlans lists plans that were made, newest first; an error ends the list.
func (c *Client) RebalancePlans(ctx context.Context) iter.Seq2[api.RebalancePlan, error] {
	return pages[api.RebalancePlan](ctx, c, rebalancePath+"/plans", url.Values{})
}

// RebalancePlan shows a plan with its moves.
func (c *Client) RebalancePlan(ctx context.Context, id string) (api.WholePlan, error) {
	return get[api.WholePlan](ctx, c, rebalancePath+"/plans/"+url.PathEscape(id), nil)
}

// Simulate says what a plan would come to if things were otherwise, and changes nothing.
func (c *Client) Simulate(ctx context.Context, in api.Simulate) (api.PlannedOutcome, error) {
	var out api.PlannedOutcome
	err := c.call(ctx, http.MethodPost, rebalancePath+"/simulate", nil, in, nil, true, &out)
	return out, err
}
