package client

import (
	"context"
	"net/http"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// CutOver lets a move cut over that waits for it.
func (c *Client) CutOver(ctx context.Context, id string, ch Change) (api.Operation, error) {
	return change[api.Operation](ctx, c, http.MethodPost, operationPath(id)+"/cutover", nil, ch)
}

// SetPace has a move or a clone that is under way copy faster or slower.
func (c *Client) SetPace(ctx context.Context, id string, in api.Pace, ch Change) (api.Operation, error) {
	return change[api.Operation](ctx, c, http.MethodPost, operationPath(id)+"/pace", in, ch)
}
