package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// ReverseMove takes the tenant of a move back while it soaks.
func (c *Client) ReverseMove(ctx context.Context, id string, in api.ReverseMove, ch Change) (api.Operation, error) {
	in.DryRun = false
	return change[api.Operation](ctx, c, http.MethodPost, operationPath(id)+"/reverse", in, ch)
}

// PlanReverse says what that would do and changes nothing.
func (c *Client) PlanReverse(ctx context.Context, id string, in api.ReverseMove) (api.Plan, error) {
	in.DryRun = true
	var out api.Plan
	err := c.call(ctx, http.MethodPost, operationPath(id)+"/reverse", nil, in, nil, true, &out)
	return out, err
}

// CompleteMove ends the soak of a move; the tenant stays where it is.
func (c *Client) CompleteMove(ctx context.Context, id string, ch Change) (api.Operation, error) {
	return change[api.Operation](ctx, c, http.MethodPost, operationPath(id)+"/complete", nil, ch)
}

// Soak shows the soak of a move.
func (c *Client) Soak(ctx context.Context, id string) (api.Soak, error) {
	return get[api.Soak](ctx, c, operationPath(id)+"/soak", nil)
}

// SoakFilter narrows a list; zero fields don't.
type SoakFilter struct {
	Tenant string
	Live   bool // only those that have not ended
}

// Soaks lists newest first; an error ends the list.
func (c *Client) Soaks(ctx context.Context, f SoakFilter) iter.Seq2[api.Soak, error] {
	q := url.Values{}
	set(q, "tenant", f.Tenant)
	setBool(q, "live", f.Live)
	return pages[api.Soak](ctx, c, "/v1/soaks", q)
}
