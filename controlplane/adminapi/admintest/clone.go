package admintest

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/clone"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// registerClones makes the operation known that a clone is. It ends at once and clones nothing.
func (d *Domain) registerClones() {
	operation.Register(d.engine, operation.Kind[clone.Request]{Name: clone.Kind, Steps: []operation.Step[clone.Request]{
		{Name: "copy", Title: "copying data", NoReturn: true, Do: func(ctx context.Context, r *operation.Run[clone.Request]) error {
			return r.Commit(ctx, func(context.Context, pgx.Tx) error { return nil })
		}},
	}})
}

func (d *Domain) cloneable(ctx context.Context, req clone.Request) error {
	if _, err := d.store.GetPlacement(ctx, req.Source); err != nil {
		return err
	}
	if _, err := d.store.GetPlacement(ctx, req.Tenant); err == nil {
		return fmt.Errorf("tenant %s: %w", req.Tenant, catalog.ErrExists)
	}
	if req.To == "" {
		return nil
	}
	_, err := d.store.GetShard(ctx, req.To)
	return err
}

// Clone clones nothing, but says so.
func (d *Domain) Clone(ctx context.Context, req clone.Request, actor catalog.Actor, key string) (op *operation.Operation, err error) {
	if err := d.cloneable(ctx, req); err != nil {
		return nil, err
	}
	err = d.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if op, err = d.engine.StartTx(ctx, tx, operation.Spec{Kind: clone.Kind, Tenant: req.Tenant, Data: req, Actor: actor, RequestKey: key}); err != nil {
			return err
		}
		return d.audit(ctx, tx, actor, "tenant.clone", req.Tenant)
	})
	return op, err
}

// DryRunClone plans a clone; that of the tenant clumsy is refused.
func (d *Domain) DryRunClone(ctx context.Context, req clone.Request, actor catalog.Actor) ([]operation.StepPlan, error) {
	if err := d.cloneable(ctx, req); err != nil {
		return nil, err
	}
	if req.Source == "clumsy" {
		return nil, fmt.Errorf("preflight: %w", &clone.RefusedError{Findings: []survey.Finding{{Level: survey.Refuse, Code: "large-objects", Reason: "there are large objects", Remedy: "remove them"}}})
	}
	return d.engine.DryRun(ctx, operation.Spec{Kind: clone.Kind, Tenant: req.Tenant, Data: req, Actor: actor})
}

// PlanUpgrade finds that every tenant but clumsy can move.
func (d *Domain) PlanUpgrade(ctx context.Context, from, to shardmap.ShardID, page catalog.Page) (move.UpgradePlan, error) {
	plan := move.UpgradePlan{From: move.UpgradeEnd{Shard: from, Version: "15.18"}, To: move.UpgradeEnd{Shard: to, Version: "18.4"}, Room: -1, Rate: 40e6}
	for _, on := range []shardmap.ShardID{from, to} {
		if _, err := d.store.GetShard(ctx, on); err != nil {
			return plan, err
		}
	}
	tenants, next, err := d.store.ListTenants(ctx, catalog.TenantFilter{Shard: from}, page)
	plan.Next = next
	for _, t := range tenants {
		p := move.Prospect{Tenant: t.ID, Tables: 3, Bytes: 1 << 20, Estimate: 5 * time.Second}
		if t.ID == "clumsy" {
			p.Refusals = []survey.Finding{{Level: survey.Refuse, Code: "extension", Object: "adminpack", Reason: "the extension is not installed on the target's server", Remedy: "install its package there"}}
		}
		plan.Tenants = append(plan.Tenants, p)
	}
	return plan, err
}
