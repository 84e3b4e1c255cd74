package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// SecretFilter narrows a list; zero fields don't.
type SecretFilter struct {
	Kind, Shard, Tenant string
}

// Secrets lists credentials by kind and name; an error ends the list.
func (c *Client) Secrets(ctx context.Context, f SecretFilter) iter.Seq2[api.Secret, error] {
	q := url.Values{}
	set(q, "kind", f.Kind)
	set(q, "shard", f.Shard)
	set(q, "tenant", f.Tenant)
	return pages[api.Secret](ctx, c, "/v1/secrets", q)
}

// Rotation is what is to be rotated: one tenant's logins, one shard's admin
// login, or, with neither, all there are.
type Rotation struct {
	Tenant, Shard string
	AtOnce        int // of all
}

func (r Rotation) request(dryRun bool) (path string, body any) {
	switch {
	case r.Tenant != "":
		return tenantPath(r.Tenant) + "/secret/rotate", api.RotateSecret{DryRun: dryRun}
	case r.Shard != "":
		return shardPath(r.Shard) + "/secret/rotate", api.RotateSecret{DryRun: dryRun}
	default:
		return "/v1/secrets/rotate", api.RotateSecrets{AtOnce: r.AtOnce, DryRun: dryRun}
	}
}

// RotateSecrets gives what r names new logins, while it is served.
func (c *Client) RotateSecrets(ctx context.Context, r Rotation, ch Change) (api.Operation, error) {
	path, body := r.request(false)
	return change[api.Operation](ctx, c, http.MethodPost, path, body, ch)
}

// PlanRotation says what that would do and changes nothing.
func (c *Client) PlanRotation(ctx context.Context, r Rotation) (api.Plan, error) {
	path, body := r.request(true)
	var out api.Plan
	err := c.call(ctx, http.MethodPost, path, nil, body, nil, true, &out)
	return out, err
}

// RevokeShardSecret gives a shard another admin login and closes the others at once.
func (c *Client) RevokeShardSecret(ctx context.Context, shard string, ch Change) (api.Operation, error) {
	return change[api.Operation](ctx, c, http.MethodPost, shardPath(shard)+"/secret/revoke", nil, ch)
}

// RevokeSecret closes every login to a tenant's database at once and issues new ones.
func (c *Client) RevokeSecret(ctx context.Context, tenant string, ch Change) (api.Operation, error) {
	return change[api.Operation](ctx, c, http.MethodPost, tenantPath(tenant)+"/secret/revoke", nil, ch)
}
