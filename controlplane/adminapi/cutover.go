package adminapi

import (
	"context"
	"time"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/move"
)

// latestCutover bounds how long a move may be kept waiting by its time.
const latestCutover = 30 * 24 * time.Hour

// readCutover reads when a move may cut over.
func readCutover(in string, req *move.Request) error {
	switch in {
	case "", api.CutoverAuto:
		return nil
	case api.CutoverManual:
		req.Manual = true
		return nil
	}
	at, err := time.Parse(time.RFC3339, in)
	if err != nil || at.After(time.Now().Add(latestCutover)) {
		return invalidBody().At("/cutover", "is not auto, manual, or a time (RFC 3339) of the next 30 days")
	}
	req.NotBefore = at
	return nil
}

// cutOver lets a move cut over that waits for it.
func (a *API) cutOver(ctx context.Context, c *call) (answer, error) {
	id, err := c.operationID()
	if err != nil {
		return answer{}, err
	}
	if err := decode(c.body, &struct{}{}); err != nil {
		return answer{}, err
	}
	return begun(a.Moves.CutOver(ctx, id, c.actor))
}
