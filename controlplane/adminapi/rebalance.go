package adminapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/balance/simulate"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/rebalance"
	"github.com/freehold-db/freehold/internal/problem"
	"github.com/freehold-db/freehold/shardmap"
)

func (a *API) getPlacementPolicy(ctx context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query); err != nil {
		return answer{}, err
	}
	w, err := a.Rebalance.Policy(ctx)
	if err != nil {
		return answer{}, err
	}
	file, err := w.Write()
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, version: &w.Stored.Version, doc: api.PlacementPolicy{
		Version: w.Stored.Version, File: string(file), MoreTenants: w.More,
		ChangedBy: w.Stored.ChangedBy, Reason: w.Stored.Reason, ChangedAt: w.Stored.ChangedAt.UTC(),
	}}, nil
}

func (a *API) putPlacementPolicy(ctx context.Context, c *call) (answer, error) {
	var in api.ApplyPolicy
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	c.quiet = in.DryRun
	edit, err := rebalance.ReadEdit([]byte(in.File))
	if err != nil {
		return answer{}, badPolicy(err, "/file")
	}
	edit.DryRun = in.DryRun
	return a.edit(ctx, c, edit, "/file")
}

// edit changes what is declared, and answers with what changed.
func (a *API) edit(ctx context.Context, c *call, edit rebalance.Edit, pointer string) (answer, error) {
	edit.Expect = c.expect
	ed, err := a.Rebalance.Apply(ctx, edit, c.actor)
	if errors.Is(err, balance.ErrInvalid) {
		return answer{}, badPolicy(err, pointer)
	}
	if err != nil {
		return answer{}, err
	}
	doc := api.AppliedPolicy{Version: ed.Stored.Version, Changes: []api.PolicyChange{}, Feasible: ed.Refusal == nil}
	for _, ch := range ed.Changes {
		doc.Changes = append(doc.Changes, api.PolicyChange(ch))
	}
	if ed.Refusal != nil {
		doc.Refusal = ed.Refusal.Error()
	}
	return answer{status: http.StatusOK, version: &ed.Stored.Version, doc: doc}, nil
}

func badPolicy(err error, pointer string) *problem.Problem {
	return problem.New(http.StatusBadRequest, "invalid_policy", err.Error(),
		"tenant-ops rebalance policy show FILE checks a file; docs/operators/placement.md has all keys").At(pointer, err.Error())
}

func (a *API) getNeeds(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	if err := onlyParameters(c.query); err != nil {
		return answer{}, err
	}
	n, version, err := a.Rebalance.Needs(ctx, id)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, version: &version, doc: api.TenantNeeds{Version: version, Needs: api.Needs(n)}}, nil
}

func (a *API) putNeeds(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	var in api.Needs
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	if _, _, err := a.Rebalance.Needs(ctx, id); err != nil { // the path's tenant is a 404
		return answer{}, err
	}
	return a.edit(ctx, c, rebalance.Edit{Tenants: map[shardmap.TenantID]balance.Needs{id: balance.Needs(in)}}, "")
}

func (a *API) getCapacity(ctx context.Context, c *call) (answer, error) {
	id, err := c.shardID()
	if err != nil {
		return answer{}, err
	}
	if err := onlyParameters(c.query); err != nil {
		return answer{}, err
	}
	v, version, err := a.Rebalance.Capacity(ctx, id)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, version: &version, doc: api.ShardCapacity{Version: version, Amounts: amounts(v)}}, nil
}

func (a *API) putCapacity(ctx context.Context, c *call) (answer, error) {
	id, err := c.shardID()
	if err != nil {
		return answer{}, err
	}
	var in api.Amounts
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	if _, err := a.Catalog.GetShard(ctx, id); err != nil {
		return answer{}, err
	}
	v := balance.Vector{balance.Bytes: in.Bytes, balance.Connections: in.Connections, balance.Load: in.Load, balance.WAL: in.WAL, balance.Databases: in.Databases}
	return a.edit(ctx, c, rebalance.Edit{Shards: map[shardmap.ShardID]balance.Vector{id: v}}, "")
}

func (a *API) explainTenant(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	if err := onlyParameters(c.query); err != nil {
		return answer{}, err
	}
	e, needs, err := a.Rebalance.Explain(ctx, id)
	if err != nil {
		return answer{}, err
	}
	doc := api.TenantPlacement{Tenant: e.Tenant, Shard: e.Shard, Needs: api.Needs(needs), Here: append([]string{}, e.Here...), Elsewhere: []api.ShardOption{}}
	for _, o := range e.Elsewhere {
		doc.Elsewhere = append(doc.Elsewhere, api.ShardOption{Shard: o.Shard, Constraint: string(o.Constraint), Detail: o.Detail, Share: o.Share})
	}
	return ok(doc)
}

func (a *API) listRebalancePlans(ctx context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query, "limit", "cursor"); err != nil {
		return answer{}, err
	}
	p, err := readPageByID("rebalance-plans", c.query)
	if err != nil {
		return answer{}, err
	}
	plans, next, err := a.Rebalance.Plans(ctx, p.forCatalog())
	if err != nil {
		return answer{}, err
	}
	return ok(pageOf("rebalance-plans", plans, next, rebalancePlanDoc))
}

func (a *API) makeRebalancePlan(ctx context.Context, c *call) (answer, error) {
	var in api.MakePlan
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	sc, err := balance.ParseScenario(in.Scenario)
	if err != nil {
		return answer{}, badScenario(err)
	}
	kept, err := a.Rebalance.Plan(ctx, rebalance.Ask{Scenario: sc, Partial: in.Partial}, c.actor)
	if errors.Is(err, balance.ErrInvalid) {
		return answer{}, badScenario(err)
	}
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusCreated, doc: rebalancePlanDoc(kept)}, nil
}

func badScenario(err error) *problem.Problem { return invalidBody().At("/scenario", err.Error()) }

func (a *API) getRebalancePlan(ctx context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query); err != nil {
		return answer{}, err
	}
	kept, made, err := a.Rebalance.GetPlan(ctx, c.params.ByName("plan"))
	if err != nil {
		return answer{}, err
	}
	return ok(api.WholePlan{RebalancePlan: rebalancePlanDoc(kept), PlannedOutcome: outcomeDoc(made)})
}

func (a *API) simulate(ctx context.Context, c *call) (answer, error) {
	c.quiet = true // nothing is changed
	var in api.Simulate
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	q := rebalance.WhatIf{Event: in.Event, Seed: in.Seed, Rivals: in.Rivals}
	var err error
	if q.Scenario, err = balance.ParseScenario(in.Scenario); err != nil {
		return answer{}, badScenario(err)
	}
	if in.File != "" {
		if q.Edit, err = rebalance.ReadEdit([]byte(in.File)); err != nil {
			return answer{}, badPolicy(err, "/file")
		}
	}
	result, err := a.Rebalance.Simulate(ctx, q)
	if errors.Is(err, balance.ErrInvalid) {
		return answer{}, badScenario(err)
	}
	if err != nil {
		return answer{}, err
	}
	return ok(outcomeDoc(result))
}

func rebalancePlanDoc(p catalog.RebalancePlan) api.RebalancePlan {
	return api.RebalancePlan{ID: p.ID, Digest: p.Digest, PolicyVersion: p.PolicyVersion, Scenario: p.Scenario, MoveCount: p.Moves, Bytes: p.Bytes,
		CreatedBy: p.CreatedBy, Reason: p.Reason, CreatedAt: p.CreatedAt.UTC(), ExpiresAt: p.ExpiresAt.UTC()}
}

func outcomeDoc(r *simulate.Result) api.PlannedOutcome {
	doc := api.PlannedOutcome{Tenants: r.Tenants, WorstBefore: r.WorstBefore, WorstAfter: r.WorstAfter, LeastBytes: r.LeastBytes, Seconds: r.Seconds,
		Moves: make([]api.PlannedMove, len(r.Plan.Moves)), Shards: make([]api.ShardChange, len(r.Plan.Shards))}
	for i, m := range r.Plan.Moves {
		doc.Moves[i] = api.PlannedMove{Tenant: m.Tenant, From: m.From, To: m.To, Bytes: m.Bytes, Reason: string(m.Reason.Kind), Detail: m.Reason.Detail}
	}
	for i, s := range r.Plan.Shards {
		doc.Shards[i] = api.ShardChange{Shard: s.ID, State: string(s.State), Capacity: amounts(s.Capacity), Before: shardLoad(s.Before), After: shardLoad(s.After)}
	}
	for _, refused := range r.Plan.Refused {
		doc.Refused = append(doc.Refused, api.PlanRefusal{Tenant: refused.Tenant, Constraint: string(refused.Constraint), Detail: refused.Detail})
	}
	for _, o := range r.Rivals {
		doc.Rivals = append(doc.Rivals, api.RivalOutcome(o))
	}
	return doc
}

func shardLoad(l balance.ShardLoad) api.ShardLoad {
	return api.ShardLoad{Load: amounts(l.Load), Tenants: l.Tenants, Share: l.Share, In: l.In}
}

func amounts(v balance.Vector) api.Amounts {
	return api.Amounts{Bytes: v[balance.Bytes], Connections: v[balance.Connections], Load: v[balance.Load], WAL: v[balance.WAL], Databases: v[balance.Databases]}
}
