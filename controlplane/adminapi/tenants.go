package adminapi

import (
	"context"
	"net/http"
	"time"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/authority"
	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/controlplane/rebalance"
	"github.com/freehold-db/freehold/internal/problem"
	"github.com/freehold-db/freehold/shardmap"
)

func (a *API) listTenants(ctx context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query, "limit", "cursor", "state", "shard", "q", "purged", "label"); err != nil {
		return answer{}, err
	}
	p, err := readPage("tenants", c.query)
	if err != nil {
		return answer{}, err
	}
	var f catalog.TenantFilter
	switch f.State = shardmap.State(c.query.Get("state")); f.State {
	case "", shardmap.Active, shardmap.Suspended, shardmap.Deleted:
	default:
		return answer{}, invalidParameter("state", "is not active, suspended or deleted")
	}
	if s := c.query.Get("shard"); s != "" {
		if f.Shard, err = shardmap.ParseShardID(s); err != nil {
			return answer{}, invalidParameter("shard", "is not a shard's ID")
		}
	}
	if f.Contains = c.query.Get("q"); len(f.Contains) > maxName || !printable(f.Contains) {
		return answer{}, invalidParameter("q", "is longer than 200 bytes or not printable")
	}
	if f.Purged, err = readBool(c, "purged"); err != nil {
		return answer{}, err
	}
	if f.Labels, err = readLabels(c); err != nil {
		return answer{}, err
	}
	f.Sight = c.sight()
	tenants, next, err := a.Catalog.ListTenants(ctx, f, p.forCatalog())
	if err != nil {
		return answer{}, err
	}
	return ok(pageOf("tenants", tenants, next, tenantDoc))
}

func (a *API) getTenant(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	t, err := a.Catalog.GetTenant(ctx, id)
	if err != nil {
		return answer{}, err
	}
	return ok(tenantDoc(t))
}

// maxName bounds a display name, in bytes.
const maxName = 200

func (a *API) createTenant(ctx context.Context, c *call) (answer, error) {
	var in api.CreateTenant
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	c.about("tenant", in.ID)
	spec := provision.CreateSpec{DisplayName: in.DisplayName, Labels: in.Labels}
	var err error
	if spec.ID, err = shardmap.ParseTenantID(in.ID); err != nil {
		return answer{}, badID(err, "/id")
	}
	c.tenant = spec.ID
	if err := authority.CheckLabels(in.Labels); err != nil {
		return answer{}, invalidBody().At("/labels", err.Error())
	}
	if err := c.may(c.verb.need, authority.Target{Tenant: spec.ID, Labels: in.Labels}); err != nil {
		return answer{}, err
	}
	if in.Shard != "" {
		if spec.Fit.Shard, err = shardmap.ParseShardID(in.Shard); err != nil {
			return answer{}, badID(err, "/shard")
		}
	}
	for pointer, s := range map[string]string{"/display_name": in.DisplayName, "/region": in.Region, "/class": in.Class} {
		if err := checkName(pointer, s); err != nil {
			return answer{}, err
		}
	}
	if spec.Needs, err = neededAtCreation(in); err != nil {
		return answer{}, err
	}
	op, err := a.Tenants.Create(ctx, spec, c.actor, c.key)
	return begun(op, err)
}

// neededAtCreation are a new tenant's needs; region and class may stand beside them.
func neededAtCreation(in api.CreateTenant) (catalog.Needs, error) {
	needs := catalog.Needs{}
	if in.Needs != nil {
		needs = catalog.Needs(*in.Needs)
	}
	for _, twice := range []struct {
		pointer, short string
		full           *string
	}{{"/region", in.Region, &needs.Region}, {"/class", in.Class, &needs.Class}} {
		if twice.short != "" && *twice.full != "" && *twice.full != twice.short {
			return needs, invalidBody().At(twice.pointer, "is not the one in needs")
		}
		if twice.short != "" {
			*twice.full = twice.short
		}
	}
	if err := rebalance.CheckNeeds(shardmap.TenantID(in.ID), balance.Needs(needs)); err != nil {
		return needs, invalidBody().At("/needs", err.Error())
	}
	return needs, nil
}

func checkName(pointer, s string) error {
	if len(s) > maxName || !printable(s) {
		return invalidBody().At(pointer, "is longer than 200 bytes or has characters that are not printable")
	}
	return nil
}

func (a *API) deleteTenant(ctx context.Context, c *call) (answer, error) {
	return a.change(ctx, c, a.Tenants.Delete)
}

func (a *API) restoreTenant(ctx context.Context, c *call) (answer, error) {
	return a.change(ctx, c, a.Tenants.Restore)
}

func (a *API) suspendTenant(ctx context.Context, c *call) (answer, error) {
	return a.change(ctx, c, a.Tenants.Suspend)
}

func (a *API) resumeTenant(ctx context.Context, c *call) (answer, error) {
	return a.change(ctx, c, a.Tenants.Resume)
}

// change is a mutation that needs no more than the tenant's ID.
func (a *API) change(ctx context.Context, c *call, do func(context.Context, shardmap.TenantID, catalog.Actor, string) (*operation.Operation, error)) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	if err := decode(c.body, &struct{}{}); err != nil {
		return answer{}, err
	}
	op, err := do(ctx, id, c.actor, c.key)
	return begun(op, err)
}

// begun answers with an operation: 200 if it is over already, else 202.
func begun(op *operation.Operation, err error) (answer, error) {
	if err != nil {
		return answer{}, err
	}
	status := http.StatusAccepted
	if op.State.Final() {
		status = http.StatusOK
	}
	return answer{status: status, doc: operationDoc(op)}, nil
}

// placement is what a node asks when neither its cache nor NATS knows a tenant.
func (a *API) placement(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	p, err := a.Catalog.GetPlacement(ctx, id)
	if err != nil {
		return answer{}, err
	}
	return ok(p)
}

// tenantID is the path's.
func (c *call) tenantID() (shardmap.TenantID, error) {
	id, err := shardmap.ParseTenantID(c.params.ByName("tenant"))
	if err != nil {
		return "", badParam(err, "tenant")
	}
	c.tenant = id
	return id, nil
}

func badID(err error, pointer string) *problem.Problem {
	p := translate(err)
	return p.At(pointer, p.Detail)
}

func badParam(err error, name string) *problem.Problem {
	p := translate(err)
	return p.Param(name, p.Detail)
}

func readBool(c *call, name string) (bool, error) {
	switch c.query.Get(name) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, invalidParameter(name, "is not true or false")
}

func tenantDoc(t catalog.Tenant) api.Tenant {
	state := string(t.Placement.State)
	if t.PurgedAt != nil {
		state = "purged"
	}
	return api.Tenant{
		ID: t.ID, DisplayName: t.DisplayName, Labels: labelsDoc(t.Labels), State: state,
		Shard: t.Placement.Shard, Database: t.Placement.Database, Epoch: t.Placement.Epoch,
		CreatedAt: t.CreatedAt.UTC(), DeletedAt: utc(t.DeletedAt), PurgeAfter: utc(t.PurgeAfter), PurgedAt: utc(t.PurgedAt), ErasedAt: utc(t.ErasedAt),
	}
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}
