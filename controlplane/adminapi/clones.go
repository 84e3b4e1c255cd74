package adminapi

import (
	"context"
	"errors"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/clone"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// Clones is what the API needs to clone a tenant. Clone writes its own audit record when it succeeds.
type Clones interface {
	Clone(ctx context.Context, req clone.Request, actor catalog.Actor, requestKey string) (*operation.Operation, error)
	DryRunClone(ctx context.Context, req clone.Request, actor catalog.Actor) ([]operation.StepPlan, error)
}

// Upgrades is what the API needs to say what an upgrade means.
type Upgrades interface {
	PlanUpgrade(ctx context.Context, from, to shardmap.ShardID, page catalog.Page) (move.UpgradePlan, error)
}

func (a *API) cloneTenant(ctx context.Context, c *call) (answer, error) {
	source, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	var in api.CloneTenant
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	c.quiet = in.DryRun
	c.about("tenant", in.ID)
	req := clone.Request{Source: source, DisplayName: in.DisplayName, SchemaOnly: in.SchemaOnly, MaxRate: in.MaxBytesPerS}
	if req.Tenant, err = shardmap.ParseTenantID(in.ID); err != nil {
		return answer{}, badID(err, "/id")
	}
	c.tenant = req.Tenant
	target, err := a.tenantTarget(ctx, source) // a clone bears its source's labels
	if err != nil {
		return answer{}, err
	}
	target.Tenant = req.Tenant
	if err := c.may(c.verb.need, target); err != nil {
		return answer{}, err
	}
	if in.To != "" {
		if req.To, err = shardmap.ParseShardID(in.To); err != nil {
			return answer{}, badID(err, "/to")
		}
	}
	if err := checkName("/display_name", in.DisplayName); err != nil {
		return answer{}, err
	}
	if err := checkRate(in.MaxBytesPerS); err != nil {
		return answer{}, err
	}
	if req.Pace, err = readMode(in.Pace); err != nil {
		return answer{}, err
	}
	if !in.DryRun {
		return begun(a.Clones.Clone(ctx, req, c.actor, c.key))
	}
	steps, err := a.Clones.DryRunClone(ctx, req, c.actor)
	var refused *clone.RefusedError
	if err != nil && !errors.As(err, &refused) {
		return answer{}, err
	}
	doc := dryRunDoc(steps, nil)
	if refused != nil { // it was asked for, so it is no error here
		doc.Feasible, doc.Refusal = false, refused.Error()
	}
	return ok(doc)
}

func (a *API) planUpgrade(ctx context.Context, c *call) (answer, error) {
	from, err := c.shardID()
	if err != nil {
		return answer{}, err
	}
	if err := onlyParameters(c.query, "to", "limit", "cursor"); err != nil {
		return answer{}, err
	}
	to, err := shardmap.ParseShardID(c.query.Get("to"))
	if err != nil {
		return answer{}, invalidParameter("to", "is no shard's ID")
	}
	p, err := readPage("upgrade", c.query)
	if err != nil {
		return answer{}, err
	}
	plan, err := a.Upgrades.PlanUpgrade(ctx, from, to, p.forCatalog())
	if err != nil {
		return answer{}, err
	}
	page := pageOf("upgrade", plan.Tenants, plan.Next, prospectDoc)
	return ok(api.UpgradePlan{From: api.UpgradeEnd{Shard: plan.From.Shard, Postgres: plan.From.Version}, To: api.UpgradeEnd{Shard: plan.To.Shard, Postgres: plan.To.Version},
		Room: plan.Room, BytesPerSecond: plan.Rate, Measured: plan.Measured, Items: page.Items, NextCursor: page.NextCursor})
}

func prospectDoc(p move.Prospect) api.Prospect {
	return api.Prospect{Tenant: p.Tenant, Feasible: p.Feasible(), Tables: p.Tables, Bytes: p.Bytes, EstimateSeconds: p.Estimate.Seconds(),
		Refusals: findingDocs(p.Refusals), Waits: findingDocs(p.Waits), Warnings: findingDocs(p.Warnings)}
}

func findingDocs(found []survey.Finding) (docs []api.Finding) {
	for _, f := range found {
		docs = append(docs, api.Finding{Code: f.Code, Object: f.Object, Reason: f.Reason, Remedy: f.Remedy})
	}
	return docs
}
