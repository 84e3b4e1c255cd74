package adminapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/move/ddlguard"
	"github.com/freehold-db/freehold/controlplane/move/pace"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/problem"
	"github.com/freehold-db/freehold/shardmap"
)

// Moves is what the API needs to move a tenant. What changes something writes its own audit record when it succeeds.
type Moves interface {
	Move(ctx context.Context, req move.Request, actor catalog.Actor, requestKey string) (*operation.Operation, error)
	DryRun(ctx context.Context, req move.Request, actor catalog.Actor) ([]operation.StepPlan, error)
	CutOver(ctx context.Context, id string, actor catalog.Actor) (*operation.Operation, error)
	SetPace(ctx context.Context, id string, wish pace.Wish, actor catalog.Actor) (*operation.Operation, error)
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
	pause, err := checkPause(in.MaxPauseMS)
	if err != nil {
		return answer{}, err
	}
	soak, err := checkSoak(in.SoakSeconds)
	if err != nil {
		return answer{}, err
	}
	if err := checkRate(in.MaxBytesPerS); err != nil {
		return answer{}, err
	}
	mode, err := readMode(in.Pace)
	if err != nil {
		return answer{}, err
	}
	ddl := ddlguard.Mode(in.DDL)
	if ddl != "" && ddl != ddlguard.Refuse && ddl != ddlguard.Wait {
		return answer{}, invalidBody().At("/ddl", "is neither refuse nor wait")
	}
	req := move.Request{Tenant: id, To: to, MaxPause: pause, Soak: soak, DDL: ddl, MaxRate: in.MaxBytesPerS, Pace: mode}
	if req.Manual, req.NotBefore, err = readCutover(in.Cutover); err != nil {
		return answer{}, err
	}
	if in.DryRun {
		steps, err := a.Moves.DryRun(ctx, req, c.actor)
		return a.plan(ctx, id, to, steps, err)
	}
	op, err := a.Moves.Move(ctx, req, c.actor, c.key)
	if err != nil {
		return answer{}, a.sayWhere(ctx, id, to, err)
	}
	return begun(op, nil)
}

// plan answers a dry run. What the real run would refuse is what was asked
// for, so it is no error here.
func (a *API) plan(ctx context.Context, id shardmap.TenantID, to shardmap.ShardID, steps []operation.StepPlan, err error) (answer, error) {
	var refused *move.RefusedError
	if err != nil && !errors.As(err, &refused) {
		return answer{}, a.sayWhere(ctx, id, to, err)
	}
	return ok(dryRunDoc(steps, refused))
}

func dryRunDoc(steps []operation.StepPlan, refused *move.RefusedError) api.Plan {
	doc := api.Plan{Steps: make([]api.PlannedStep, 0, len(steps)), Feasible: refused == nil}
	for _, s := range steps {
		doc.Steps = append(doc.Steps, api.PlannedStep{Step: s.Name, Title: s.Title, NoReturn: s.NoReturn, Does: s.Does})
	}
	if refused != nil {
		doc.Refusal = refused.Error()
	}
	return doc
}

// sayWhere puts a better hint to the most common of conflicts.
func (a *API) sayWhere(ctx context.Context, id shardmap.TenantID, to shardmap.ShardID, err error) error {
	if !errors.Is(err, catalog.ErrConflict) {
		return err
	}
	p, lookErr := a.Catalog.GetPlacement(ctx, id)
	if lookErr != nil || p.Shard != to {
		return err
	}
	return problem.New(http.StatusConflict, "already_there", fmt.Sprintf("tenant %s lives on shard %s already", id, to),
		"name another shard; tenant-ops shard list shows them")
}
