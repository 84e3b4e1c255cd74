package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// ApplyPlan has a stored plan carried out by a run.
func (c *Client) ApplyPlan(ctx context.Context, id string, ch Change) (api.Operation, error) {
	return change[api.Operation](ctx, c, http.MethodPost, rebalancePath+"/plans/"+url.PathEscape(id)+"/apply", nil, ch)
}

// RebalanceStatus shows the run under way or the last one, and auto mode.
func (c *Client) RebalanceStatus(ctx context.Context) (api.RebalanceStatus, error) {
	return get[api.RebalanceStatus](ctx, c, rebalancePath+"/status", nil)
}

// RebalanceRun shows a run and its moves under way.
func (c *Client) RebalanceRun(ctx context.Context, id string) (api.RebalanceRun, error) {
	return get[api.RebalanceRun](ctx, c, runPath(id), nil)
}

// RebalanceMoves lists the moves of a run in its order; an error ends the list.
func (c *Client) RebalanceMoves(ctx context.Context, id string) iter.Seq2[api.RebalanceMove, error] {
	return pages[api.RebalanceMove](ctx, c, runPath(id)+"/moves", url.Values{})
}

// PauseRebalance has the run under way begin no more moves.
func (c *Client) PauseRebalance(ctx context.Context, ch Change) (api.Operation, error) {
	return change[api.Operation](ctx, c, http.MethodPost, rebalancePath+"/pause", nil, ch)
}

// ResumeRebalance has a paused run go on.
func (c *Client) ResumeRebalance(ctx context.Context, ch Change) (api.Operation, error) {
	return change[api.Operation](ctx, c, http.MethodPost, rebalancePath+"/resume", nil, ch)
}

// CancelRebalance ends the run under way.
func (c *Client) CancelRebalance(ctx context.Context, in api.CancelRebalance, ch Change) (api.Operation, error) {
	return change[api.Operation](ctx, c, http.MethodPost, rebalancePath+"/cancel", in, ch)
}

// SetAutoMode has runs begin by themselves, or not.
func (c *Client) SetAutoMode(ctx context.Context, on bool, ch Change) (api.RebalanceStatus, error) {
	return change[api.RebalanceStatus](ctx, c, http.MethodPut, rebalancePath+"/auto", api.SetAutoMode{On: on}, ch)
}

// ShardDrain shows how far a shard is emptied.
func (c *Client) ShardDrain(ctx context.Context, id string) (api.ShardDrain, error) {
	return get[api.ShardDrain](ctx, c, shardPath(id)+"/drain", nil)
}

// DrainShard empties a shard by a run.
func (c *Client) DrainShard(ctx context.Context, id string, ch Change) (api.Operation, error) {
	return change[api.Operation](ctx, c, http.MethodPost, shardPath(id)+"/drain", api.DrainShard{}, ch)
}

// CheckDrain fails if a shard's tenants could not all go elsewhere, and changes nothing.
func (c *Client) CheckDrain(ctx context.Context, id string) (api.ShardDrain, error) {
	var out api.ShardDrain
	err := c.call(ctx, http.MethodPost, shardPath(id)+"/drain", nil, api.DrainShard{DryRun: true}, nil, true, &out)
	return out, err
}

// UndrainShard takes a drain back.
func (c *Client) UndrainShard(ctx context.Context, id string, ch Change) (api.Shard, error) {
	return change[api.Shard](ctx, c, http.MethodPost, shardPath(id)+"/undrain", nil, ch)
}

func runPath(id string) string { return rebalancePath + "/runs/" + url.PathEscape(id) }
