package adminapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/authority"
	"github.com/freehold-db/freehold/controlplane/breakglass"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/shardmap"
)

// BreakGlass is what the API needs of people's access to tenants' databases (*breakglass.Service).
type BreakGlass interface {
	Ask(ctx context.Context, spec breakglass.Spec, actor catalog.Actor, root string) (breakglass.Session, *breakglass.Access, error)
	Approve(ctx context.Context, id string, actor catalog.Actor, root string) (breakglass.Session, error)
	Open(ctx context.Context, id string, actor catalog.Actor) (breakglass.Session, *breakglass.Access, error)
	End(ctx context.Context, id string, actor catalog.Actor) (breakglass.Session, error)
	Get(ctx context.Context, id string) (breakglass.Session, error)
	List(ctx context.Context, f breakglass.Filter, p catalog.Page) ([]breakglass.Session, string, error)
}

// grantAccess is access by tenant psql and dsn: as the owner unless said
// otherwise, and without a reason where the fleet does not want one.
func (a *API) grantAccess(ctx context.Context, c *call) (answer, error) {
	spec, err := a.wanted(ctx, c)
	if err != nil {
		return answer{}, err
	}
	if spec.As == "" {
		spec.As = shard.AccessOwner
	}
	spec.Casual = true
	b, access, err := a.BreakGlass.Ask(ctx, spec, c.actor, c.who.Root)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusCreated, doc: accessLogin(b, access)}, nil
}

func (a *API) askBreakGlass(ctx context.Context, c *call) (answer, error) {
	spec, err := a.wanted(ctx, c)
	if err != nil {
		return answer{}, err
	}
	b, access, err := a.BreakGlass.Ask(ctx, spec, c.actor, c.who.Root)
	return sessionAnswer(b, access, err)
}

// wanted reads what access is asked for, and on what the caller's right to it hangs.
func (a *API) wanted(ctx context.Context, c *call) (spec breakglass.Spec, err error) {
	if spec.Tenant, err = c.tenantID(); err != nil {
		return spec, err
	}
	var in api.GrantAccess
	if err := decode(c.body, &in); err != nil {
		return spec, err
	}
	t, err := a.tenantTarget(ctx, spec.Tenant)
	if err != nil {
		return spec, err
	}
	spec.Token, spec.Bindings = c.who.Token, c.who.Bindings(c.ask(c.verb.need), t)
	switch spec.As = shard.Access(in.As); spec.As {
	case "", shard.AccessOwner, shard.AccessRW, shard.AccessRO:
	default:
		return spec, invalidBody().At("/as", "is not owner, rw or ro")
	}
	if in.TTLSeconds < 0 || in.TTLSeconds > int(maxAccess/time.Second) {
		return spec, invalidBody().At("/ttl_seconds", "is not from 1 second to "+maxAccess.String())
	}
	spec.For = time.Duration(in.TTLSeconds) * time.Second
	return spec, nil
}

// maxAccess bounds what anybody could mean; the fleet's own bound is break_glass_max.
const maxAccess = 24 * time.Hour

// sessionAnswer is 201 with a login, and 202 while there is none.
func sessionAnswer(b breakglass.Session, access *breakglass.Access, err error) (answer, error) {
	if err != nil {
		return answer{}, err
	}
	doc := api.OpenedBreakGlass{BreakGlass: breakGlassDoc(b)}
	if access == nil {
		return answer{status: http.StatusAccepted, doc: doc}, nil
	}
	login := accessLogin(b, access)
	doc.Access = &login
	return answer{status: http.StatusCreated, doc: doc}, nil
}

func accessLogin(b breakglass.Session, x *breakglass.Access) api.Access {
	return api.Access{
		Tenant: b.Tenant, Session: b.ID, Shard: x.Placement.Shard,
		Postgres: api.Endpoint{Host: x.Host, Port: x.Port},
		Bouncer:  api.Endpoint{Host: x.BouncerHost, Port: x.BouncerPort},
		Database: x.Placement.Database, User: x.Login.User, Password: x.Login.Password,
		As: string(x.As), ExpiresAt: x.ExpiresAt.UTC(),
	}
}

// sessionTarget is the tenant that the path's access is about.
func (a *API) sessionTarget(ctx context.Context, c *call) (t authority.Target, err error) {
	b, err := a.BreakGlass.Get(ctx, c.params.ByName("session"))
	if errors.Is(err, catalog.ErrNotFound) {
		return t, nil
	}
	if err != nil {
		return t, err
	}
	c.tenant = b.Tenant
	return a.tenantTarget(ctx, b.Tenant)
}

// session is the path's, whose tenant refusals are recorded under.
func (a *API) session(ctx context.Context, c *call) (breakglass.Session, error) {
	b, err := a.BreakGlass.Get(ctx, c.params.ByName("session"))
	if err == nil {
		c.tenant = b.Tenant
	}
	return b, err
}

func (a *API) getBreakGlass(ctx context.Context, c *call) (answer, error) {
	b, err := a.session(ctx, c)
	if err != nil {
		return answer{}, err
	}
	return ok(breakGlassDoc(b))
}

func (a *API) approveBreakGlass(ctx context.Context, c *call) (answer, error) {
	return a.endOrApprove(ctx, c, func(id string) (breakglass.Session, error) { return a.BreakGlass.Approve(ctx, id, c.actor, c.who.Root) })
}

func (a *API) endBreakGlass(ctx context.Context, c *call) (answer, error) {
	return a.endOrApprove(ctx, c, func(id string) (breakglass.Session, error) { return a.BreakGlass.End(ctx, id, c.actor) })
}

func (a *API) endOrApprove(ctx context.Context, c *call, do func(id string) (breakglass.Session, error)) (answer, error) {
	b, err := a.session(ctx, c)
	if err != nil {
		return answer{}, err
	}
	if err := decode(c.body, &struct{}{}); err != nil {
		return answer{}, err
	}
	if b, err = do(b.ID); err != nil {
		return answer{}, err
	}
	return ok(breakGlassDoc(b))
}

func (a *API) openBreakGlass(ctx context.Context, c *call) (answer, error) {
	b, err := a.session(ctx, c)
	if err != nil {
		return answer{}, err
	}
	if err := decode(c.body, &struct{}{}); err != nil {
		return answer{}, err
	}
	b, access, err := a.BreakGlass.Open(ctx, b.ID, c.actor)
	return sessionAnswer(b, access, err)
}

func (a *API) listBreakGlass(ctx context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query, "limit", "cursor", "tenant", "live"); err != nil {
		return answer{}, err
	}
	p, err := readPageByID("break-glass", c.query)
	if err != nil {
		return answer{}, err
	}
	f := breakglass.Filter{Sight: c.sight()}
	if s := c.query.Get("tenant"); s != "" {
		if f.Tenant, err = shardmap.ParseTenantID(s); err != nil {
			return answer{}, invalidParameter("tenant", "is not a tenant's ID")
		}
	}
	if f.Live, err = readBool(c, "live"); err != nil {
		return answer{}, err
	}
	list, next, err := a.BreakGlass.List(ctx, f, p.forCatalog())
	if err != nil {
		return answer{}, err
	}
	return ok(pageOf("break-glass", list, next, breakGlassDoc))
}

func breakGlassDoc(b breakglass.Session) api.BreakGlass {
	return api.BreakGlass{ID: b.ID, Tenant: b.Tenant, As: string(b.As), Reason: b.Reason, Seconds: int(b.For / time.Second), State: string(b.State),
		AskedBy: b.AskedBy, AskedAt: b.AskedAt.UTC(), ApprovedBy: b.ApprovedBy, ApprovedAt: utc(b.ApprovedAt), Login: b.Login, OpenedAt: utc(b.OpenedAt),
		ExpiresAt: b.ExpiresAt.UTC(), EndedAt: utc(b.EndedAt), EndedBy: b.EndedBy, Cause: b.Cause, Sessions: b.Sessions, LastUsedAt: utc(b.LastUsedAt)}
}
