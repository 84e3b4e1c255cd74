package adminapi

import (
	"context"
	"time"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// Moves is what the API needs to move a tenant.
type Moves interface {
	Move(ctx context.Context, id shardmap.TenantID, to shardmap.ShardID, maxPause time.Duration, actor catalog.Actor, requestKey string) (*operation.Operation, error)
	DryRun(ctx context.Context, id shardmap.TenantID, to shardmap.ShardID, maxPause time.Duration, actor catalog.Actor) ([]operation.StepPlan, error)
}

const (
	minPauseMS = 10
	maxPauseMS = 60_000
)

func (a *API) moveTenant(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	var in api.MoveTenant
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	c.quiet = in.DryRun
	to, err := shardmap.ParseShardID(in.To)
	if err != nil {
		return answer{}, badID(err, "/to")
	}
	if in.MaxPauseMS != 0 && (in.MaxPauseMS < minPauseMS || in.MaxPauseMS > maxPauseMS) {
		return answer{}, invalidBody().At("/max_pause_ms", "is not from 10 to 60000")
	}
	pause := time.Duration(in.MaxPauseMS) * time.Millisecond
	op, err := a.Moves.Move(ctx, id, to, pause, c.actor, c.key)
	return begun(op, err)
}
