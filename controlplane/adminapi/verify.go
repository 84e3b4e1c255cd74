package adminapi

import (
	"context"

	"github.com/google/uuid"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/operation"
)

// Verifications is what the API needs to compare both sides of a move. Verify
// writes its own audit record when it succeeds.
type Verifications interface {
	Verify(ctx context.Context, req move.VerifyRequest, actor catalog.Actor, requestKey string) (*operation.Operation, error)
}

func (a *API) verifyMove(ctx context.Context, c *call) (answer, error) {
	id, err := c.operationID()
	if err != nil {
		return answer{}, err
	}
	var in api.VerifyMove
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	if in.Sample < 0 || in.Sample > 100 {
		return answer{}, invalidBody().At("/sample", "is not from 0 to 100")
	}
	if in.MaxBytesPerS < 0 || in.MaxBytesPerS > 0 && in.MaxBytesPerS < minRate {
		return answer{}, invalidBody().At("/max_bytes_per_s", "is less than 65536")
	}
	req := move.VerifyRequest{Of: id, OnlyPKs: in.OnlyPKs, Sample: in.Sample, MaxRate: in.MaxBytesPerS}
	return begun(a.Verifications.Verify(ctx, req, c.actor, c.key))
}

// readOf reads the operation that those listed are about.
func readOf(c *call) (string, error) {
	s := c.query.Get("of")
	if s == "" {
		return "", nil
	}
	id, err := uuid.Parse(s)
	if err != nil || len(s) != 36 {
		return "", invalidParameter("of", "is not an operation's ID")
	}
	return id.String(), nil
}
