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
