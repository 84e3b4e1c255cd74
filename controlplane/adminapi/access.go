package adminapi

import (
	"context"
	"net/http"
	"time"

	"github.com/freehold-db/freehold/controlplane/access"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/catalog"
	wire "github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/problem"
)

func (a *API) listPlans(ctx context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query); err != nil {
		return answer{}, err
	}
	plans, err := a.Access.Plans(ctx)
	if err != nil {
		return answer{}, err
	}
	return ok(pageOf("plans", plans, "", planDoc))
}

func (a *API) setPlan(ctx context.Context, c *call) (answer, error) {
	name, err := c.name("plan")
	if err != nil {
		return answer{}, err
	}
	var in api.SetPlan
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	limits, err := limitsOf(in.Limits)
	if err != nil {
		return answer{}, err
	}
	if err := a.Access.SetPlan(ctx, name, limits, c.actor); err != nil {
		return answer{}, err
	}
	return a.showPlan(ctx, name)
}

func (a *API) showPlan(ctx context.Context, name string) (answer, error) {
	plans, err := a.Access.Plans(ctx)
	if err != nil {
		return answer{}, err
	}
	for _, p := range plans {
		if p.Name == name {
			return ok(planDoc(p))
		}
	}
	return answer{}, catalog.ErrNotFound // deleted this very moment
}

func (a *API) deletePlan(ctx context.Context, c *call) (answer, error) {
	name, err := c.name("plan")
	if err != nil {
		return answer{}, err
	}
	if err := decode(c.body, &struct{}{}); err != nil {
		return answer{}, err
	}
	if err := a.Access.DeletePlan(ctx, name, c.actor); err != nil {
		return answer{}, err
	}
	return ok(struct{}{})
}

// name is a plan's in the path.
func (c *call) name(param string) (string, error) {
	name := c.params.ByName(param)
	if err := wire.CheckName(name); err != nil {
		return "", problem.New(http.StatusBadRequest, "invalid_id", err.Error(), "check the spelling").Param(param, err.Error())
	}
	return name, nil
}

func (a *API) getFleetAccess(ctx context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query); err != nil {
		return answer{}, err
	}
	f, err := a.Access.Fleet(ctx)
	return fleetAccess(f, err)
}

func (a *API) patchFleetAccess(ctx context.Context, c *call) (answer, error) {
	var in api.PatchFleetAccess
	if err := c.decodePatch(&in); err != nil {
		return answer{}, err
	}
	f, err := a.Access.ChangeFleet(ctx, access.FleetChange{DefaultPlan: in.DefaultPlan, Policies: policiesOf(in.Policies)}, c.expect, c.actor)
	return fleetAccess(f, err)
}

func fleetAccess(f wire.Fleet, err error) (answer, error) {
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, version: &f.Version,
		doc: api.FleetAccess{Version: f.Version, DefaultPlan: f.DefaultPlan, Policies: policyDocs(f.Policies)}}, nil
}

func (a *API) getTenantAccess(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	t, err := a.Access.Tenant(ctx, id)
	return a.tenantAccess(ctx, t, err)
}

// opens tells whether a change lets anybody in, or decides who comes in. Plan
// and limits don't; everything else is an admin's.
func opens(in api.PatchTenantAccess) bool {
	return in.Attributes != nil || in.Schemas != nil || in.Issuers != nil || in.Policies != nil
}

func (a *API) patchTenantAccess(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	var in api.PatchTenantAccess
	if err := c.decodePatch(&in); err != nil {
		return answer{}, err
	}
	if opens(in) {
		target, err := a.tenantTarget(ctx, id)
		if err != nil {
			return answer{}, err
		}
		if err := c.may(RoleAdmin, target); err != nil {
			return answer{}, err
		}
	}
	ch := access.Change{Plan: in.Plan, Attributes: in.Attributes, Schemas: in.Schemas, Policies: policiesOf(in.Policies)}
	if in.Limits != nil {
		limits, err := limitsOf(*in.Limits)
		if err != nil {
			return answer{}, err
		}
		ch.Limits = &limits
	}
	if in.Issuers != nil {
		issuers := make([]wire.Issuer, len(*in.Issuers))
		for i, issuer := range *in.Issuers {
			issuers[i] = wire.Issuer(issuer)
		}
		ch.Issuers = &issuers
	}
	t, err := a.Access.ChangeTenant(ctx, id, ch, c.expect, c.actor)
	return a.tenantAccess(ctx, t, err)
}

func (a *API) tenantAccess(ctx context.Context, t wire.Tenant, err error) (answer, error) {
	if err != nil {
		return answer{}, err
	}
	f, err := a.Access.Fleet(ctx)
	if err != nil {
		return answer{}, err
	}
	doc := api.TenantAccess{
		Tenant: t.Tenant, Version: t.Version, Plan: t.Plan, Limits: limitsDoc(t.Limits), Attributes: map[string]string{},
		Schemas: append([]string{}, t.Schemas...), Issuers: []api.Issuer{}, Policies: policyDocs(t.Policies),
		Roles: append([]string{}, t.Roles...), Keys: len(t.Keys), RevokedTokens: len(t.Revoked),
		EffectivePlan: t.Plan, EffectiveLimits: limitsDoc(f.Limits(&t)),
	}
	for name, value := range t.Attributes {
		doc.Attributes[name] = value
	}
	for _, i := range t.Issuers {
		doc.Issuers = append(doc.Issuers, api.Issuer(i))
	}
	if !t.NotBefore.IsZero() {
		doc.NotBefore = &t.NotBefore
	}
	if t.Plan == "" {
		doc.EffectivePlan = f.DefaultPlan
	}
	return answer{status: http.StatusOK, version: &t.Version, doc: doc}, nil
}

// accessDocument is what a node asks for that has not heard of a tenant's yet.
func (a *API) accessDocument(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	t, err := a.Access.Tenant(ctx, id)
	if err != nil {
		return answer{}, err
	}
	if t.Version == 0 {
		return answer{}, problem.New(http.StatusNotFound, "not_found", "tenant "+string(id)+" never had anything of its own",
			"what holds for every tenant is at /v1/access/_fleet")
	}
	return ok(t)
}

func (a *API) fleetDocument(ctx context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query); err != nil {
		return answer{}, err
	}
	f, err := a.Access.Fleet(ctx)
	if err != nil {
		return answer{}, err
	}
	return ok(f)
}

func planDoc(p access.Plan) api.ServicePlan {
	return api.ServicePlan{Name: p.Name, Limits: limitsDoc(p.Limits), Tenants: p.Tenants, Default: p.Default}
}

func limitsDoc(l wire.Limits) api.Limits {
	return api.Limits{Rate: l.Rate, Burst: l.Burst, Concurrency: l.Concurrency, Weight: l.Weight,
		MaxBody: l.MaxBody, MaxAnswer: l.MaxAnswer, MaxRows: l.MaxRows, StatementMS: l.StatementFor.Milliseconds()}
}

// maxStatement bounds a statement's time, so that a slip of the hand is noticed.
const maxStatement = 24 * time.Hour

func limitsOf(in api.Limits) (wire.Limits, error) {
	if in.StatementMS > maxStatement.Milliseconds() {
		return wire.Limits{}, invalidBody().At("/limits/statement_ms", "is more than a day")
	}
	l := wire.Limits{Rate: in.Rate, Burst: in.Burst, Concurrency: in.Concurrency, Weight: in.Weight,
		MaxBody: in.MaxBody, MaxAnswer: in.MaxAnswer, MaxRows: in.MaxRows, StatementFor: time.Duration(in.StatementMS) * time.Millisecond}
	if err := l.Validate(); err != nil {
		return l, invalidBody().At("/limits", err.Error())
	}
	return l, nil
}

func policiesOf(in *[]api.Policy) *[]wire.Policy {
	if in == nil {
		return nil
	}
	policies := make([]wire.Policy, len(*in))
	for i, p := range *in {
		policies[i] = wire.Policy(p)
	}
	return &policies
}

func policyDocs(policies []wire.Policy) []api.Policy {
	docs := make([]api.Policy, len(policies))
	for i, p := range policies {
		docs[i] = api.Policy(p)
	}
	return docs
}
