package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// SignIn tells where people sign in. It needs no token.
func (c *Client) SignIn(ctx context.Context) (api.SignIn, error) {
	return get[api.SignIn](ctx, c, "/signin", nil)
}

// SetLabels gives a tenant these labels and no others.
func (c *Client) SetLabels(ctx context.Context, tenant string, labels map[string]string, ch Change) (api.Tenant, error) {
	return change[api.Tenant](ctx, c, http.MethodPut, tenantPath(tenant)+"/labels", api.Labels{Labels: labels}, ch)
}

// AccessTokens lists machines' tokens, newest first; an error ends the list.
func (c *Client) AccessTokens(ctx context.Context) iter.Seq2[api.AccessToken, error] {
	return pages[api.AccessToken](ctx, c, "/v1/access-tokens", url.Values{})
}

// CreateAccessToken makes one. It is not sent again by itself: each call makes another.
func (c *Client) CreateAccessToken(ctx context.Context, in api.CreateAccessToken, reason string) (out api.NewAccessToken, err error) {
	err = c.once(ctx, "/v1/access-tokens", in, reason, &out)
	return out, err
}

// RevokeAccessToken has a token, and those made with it, refused from now on.
func (c *Client) RevokeAccessToken(ctx context.Context, id string, ch Change) (api.AccessToken, error) {
	return change[api.AccessToken](ctx, c, http.MethodDelete, "/v1/access-tokens/"+url.PathEscape(id), nil, ch)
}

// Bindings lists the roles of people and groups, newest first; an error ends the list.
func (c *Client) Bindings(ctx context.Context) iter.Seq2[api.Binding, error] {
	return pages[api.Binding](ctx, c, "/v1/bindings", url.Values{})
}

// CreateBinding binds a person or a group to a role somewhere.
func (c *Client) CreateBinding(ctx context.Context, in api.CreateBinding, ch Change) (api.Binding, error) {
	return change[api.Binding](ctx, c, http.MethodPost, "/v1/bindings", in, ch)
}

// RemoveBinding removes one.
func (c *Client) RemoveBinding(ctx context.Context, id string, ch Change) error {
	_, err := change[struct{}](ctx, c, http.MethodDelete, "/v1/bindings/"+url.PathEscape(id), nil, ch)
	return err
}

// AskBreakGlass asks for access to a tenant's database. It is not sent again by itself.
func (c *Client) AskBreakGlass(ctx context.Context, tenant string, in api.GrantAccess, reason string) (out api.OpenedBreakGlass, err error) {
	err = c.once(ctx, tenantPath(tenant)+"/break-glass", in, reason, &out)
	return out, err
}

// OpenBreakGlass makes the login of one's own approved request. It is not sent again by itself.
func (c *Client) OpenBreakGlass(ctx context.Context, id, reason string) (out api.OpenedBreakGlass, err error) {
	err = c.once(ctx, breakGlassPath(id)+"/open", struct{}{}, reason, &out)
	return out, err
}

// BreakGlass lists people's accesses, newest first; of one tenant unless it is
// empty, and only those that have not ended if live. An error ends the list.
func (c *Client) BreakGlass(ctx context.Context, tenant string, live bool) iter.Seq2[api.BreakGlass, error] {
	q := url.Values{}
	set(q, "tenant", tenant)
	setBool(q, "live", live)
	return pages[api.BreakGlass](ctx, c, "/v1/break-glass", q)
}

// GetBreakGlass shows one.
func (c *Client) GetBreakGlass(ctx context.Context, id string) (api.BreakGlass, error) {
	return get[api.BreakGlass](ctx, c, breakGlassPath(id), nil)
}

// ApproveBreakGlass consents to another's request.
func (c *Client) ApproveBreakGlass(ctx context.Context, id string, ch Change) (api.BreakGlass, error) {
	return change[api.BreakGlass](ctx, c, http.MethodPost, breakGlassPath(id)+"/approve", nil, ch)
}

// EndBreakGlass ends one before its time.
func (c *Client) EndBreakGlass(ctx context.Context, id string, ch Change) (api.BreakGlass, error) {
	return change[api.BreakGlass](ctx, c, http.MethodPost, breakGlassPath(id)+"/end", nil, ch)
}

func breakGlassPath(id string) string { return "/v1/break-glass/" + url.PathEscape(id) }

// once sends a mutation whose answer holds a secret, and is kept nowhere.
func (c *Client) once(ctx context.Context, path string, in any, reason string, out any) error {
	h := http.Header{}
	if reason != "" {
		h.Set(api.HeaderReason, reason)
	}
	return c.call(ctx, http.MethodPost, path, nil, in, h, false, out)
}
