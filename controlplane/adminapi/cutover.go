package adminapi

import (
	"context"
	"time"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// latestCutover bounds how long a move may be kept waiting by its time.
const latestCutover = 30 * 24 * time.Hour

// readCutover reads when a move may cut over: on somebody's word, or not before
// a time; neither: as soon as it can.
func readCutover(in string) (manual bool, notBefore time.Time, err error) {
	switch in {
	case "", api.CutoverAuto:
		return false, notBefore, nil
	case api.CutoverManual:
		return true, notBefore, nil
	}
	at, err := time.Parse(time.RFC3339, in)
	if err != nil || at.After(time.Now().Add(latestCutover)) {
		return false, notBefore, invalidBody().At("/cutover", "is not auto, manual, or a time (RFC 3339) of the next 30 days")
	}
	return false, at, nil
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
