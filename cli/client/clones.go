package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// CloneTenant starts to make a new tenant with the contents of another.
func (c *Client) CloneTenant(ctx context.Context, source string, in api.CloneTenant, ch Change) (api.Operation, error) {
	in.DryRun = false
	return change[api.Operation](ctx, c, http.MethodPost, tenantPath(source)+"/clone", in, ch)
}

// PlanClone says what a clone would do and changes nothing.
func (c *Client) PlanClone(ctx context.Context, source string, in api.CloneTenant) (api.Plan, error) {
	in.DryRun = true
	var out api.Plan
	err := c.call(ctx, http.MethodPost, tenantPath(source)+"/clone", nil, in, nil, true, &out)
	return out, err
}

// upgradePage is how many tenants are looked at in one request: each is a preflight.
const upgradePage = 50

// PlanUpgrade says what draining a shard onto another means, for all of its tenants.
func (c *Client) PlanUpgrade(ctx context.Context, from, to string) (api.UpgradePlan, error) {
	q := url.Values{"to": {to}, "limit": {strconv.Itoa(upgradePage)}}
	var all api.UpgradePlan
	for {
		page, err := get[api.UpgradePlan](ctx, c, shardPath(from)+"/upgrade", q)
		if err != nil {
			return all, err
		}
		page.Items = append(all.Items, page.Items...)
		all = page
		if page.NextCursor == "" {
			return all, nil
		}
		q.Set("cursor", page.NextCursor)
	}
}
