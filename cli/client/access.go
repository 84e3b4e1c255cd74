package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// Plans lists by name; an error ends the list.
func (c *Client) Plans(ctx context.Context) iter.Seq2[api.ServicePlan, error] {
	return pages[api.ServicePlan](ctx, c, "/v1/plans", nil)
}

// SetPlan makes a plan, or gives it other limits.
func (c *Client) SetPlan(ctx context.Context, name string, l api.Limits, ch Change) (api.ServicePlan, error) {
	return change[api.ServicePlan](ctx, c, http.MethodPut, "/v1/plans/"+url.PathEscape(name), api.SetPlan{Limits: l}, ch)
}

// DeletePlan deletes a plan that nobody has.
func (c *Client) DeletePlan(ctx context.Context, name string, ch Change) error {
	_, err := change[struct{}](ctx, c, http.MethodDelete, "/v1/plans/"+url.PathEscape(name), nil, ch)
	return err
}

// FleetAccess shows what holds for every tenant.
func (c *Client) FleetAccess(ctx context.Context) (api.FleetAccess, error) {
	return get[api.FleetAccess](ctx, c, "/v1/fleet/access", nil)
}

// PatchFleetAccess replaces what in names.
func (c *Client) PatchFleetAccess(ctx context.Context, in api.PatchFleetAccess, ch Change) (api.FleetAccess, error) {
	return change[api.FleetAccess](ctx, c, http.MethodPatch, "/v1/fleet/access", in, ch)
}

// TenantAccess shows what a tenant has of its own.
func (c *Client) TenantAccess(ctx context.Context, tenant string) (api.TenantAccess, error) {
	return get[api.TenantAccess](ctx, c, tenantPath(tenant)+"/access", nil)
}

// PatchTenantAccess replaces what in names.
func (c *Client) PatchTenantAccess(ctx context.Context, tenant string, in api.PatchTenantAccess, ch Change) (api.TenantAccess, error) {
	return change[api.TenantAccess](ctx, c, http.MethodPatch, tenantPath(tenant)+"/access", in, ch)
}

// Keys lists a tenant's API keys by ID; an error ends the list.
func (c *Client) Keys(ctx context.Context, tenant string) iter.Seq2[api.Key, error] {
	return pages[api.Key](ctx, c, tenantPath(tenant)+"/keys", url.Values{})
}

// CreateKey makes an API key. It is not sent again by itself: each call makes another.
func (c *Client) CreateKey(ctx context.Context, tenant string, in api.CreateKey, reason string) (api.NewKey, error) {
	h := http.Header{}
	if reason != "" {
		h.Set(api.HeaderReason, reason)
	}
	var out api.NewKey
	err := c.call(ctx, http.MethodPost, tenantPath(tenant)+"/keys", nil, in, h, false, &out)
	return out, err
}

// RevokeKey has a key refused from now on.
func (c *Client) RevokeKey(ctx context.Context, tenant, key string, ch Change) (api.Key, error) {
	return change[api.Key](ctx, c, http.MethodDelete, tenantPath(tenant)+"/keys/"+url.PathEscape(key), nil, ch)
}

// RevokeTokens has a token refused, or all that were issued until now.
func (c *Client) RevokeTokens(ctx context.Context, tenant string, in api.RevokeTokens, ch Change) (api.TenantAccess, error) {
	return change[api.TenantAccess](ctx, c, http.MethodPost, tenantPath(tenant)+"/tokens/revoke", in, ch)
}

// Roles lists a tenant's own database roles by name; an error ends the list.
func (c *Client) Roles(ctx context.Context, tenant string) iter.Seq2[api.TenantRole, error] {
	return pages[api.TenantRole](ctx, c, tenantPath(tenant)+"/roles", nil)
}

// CreateRole makes a database role of a tenant's own.
func (c *Client) CreateRole(ctx context.Context, tenant string, in api.CreateRole, ch Change) (api.TenantRole, error) {
	return change[api.TenantRole](ctx, c, http.MethodPost, tenantPath(tenant)+"/roles", in, ch)
}

// DropRole drops one.
func (c *Client) DropRole(ctx context.Context, tenant, role string, ch Change) error {
	_, err := change[struct{}](ctx, c, http.MethodDelete, tenantPath(tenant)+"/roles/"+url.PathEscape(role), nil, ch)
	return err
}
