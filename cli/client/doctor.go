package client

import (
	"context"
	"net/url"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// DoctorSecurity looks the fleet over: of one shard unless it is empty; into all
// of its databases, or as many as are enough.
func (c *Client) DoctorSecurity(ctx context.Context, shard string, all bool) (api.SecurityReport, error) {
	q := url.Values{}
	set(q, "shard", shard)
	if all {
		q.Set("all", "true")
	}
	return get[api.SecurityReport](ctx, c, "/v1/doctor/security", q)
}
