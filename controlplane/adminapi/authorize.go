package adminapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/authority"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/problem"
	"github.com/freehold-db/freehold/shardmap"
)

// operationIDs are the names of verbs, by "METHOD /path/:param", as the document has them.
var operationIDs = sync.OnceValue(func() map[string]string {
	names := map[string]string{}
	for path, item := range documentPaths() {
		for method, id := range item {
			names[method+" "+path] = id
		}
	}
	return names
})

// ask is what the verb needs of its caller, with a role of that height.
func (c *call) ask(need Role) authority.Ask {
	return authority.Ask{Verb: c.verb.name, Need: need, Nodes: c.verb.nodes}
}

// authorize refuses a caller who may not do this where the request is about.
// Verbs that are [verb.own] narrow or ask by themselves; nothing passes that nobody granted.
func (a *API) authorize(ctx context.Context, c *call) error {
	ask := c.ask(c.verb.need)
	if !c.who.Anywhere(ask) {
		return c.forbidden(c.verb.need, "")
	}
	if c.verb.own || c.who.May(ask, authority.Target{}) {
		return nil
	}
	target, mine, err := a.target(ctx, c)
	if err != nil {
		return err
	}
	if !mine && !c.who.May(ask, target) {
		return c.forbidden(c.verb.need, "here")
	}
	return nil
}

// may asks once more, about something that the request's path does not name, or for a higher role.
func (c *call) may(need Role, t authority.Target) error {
	if c.who.May(c.ask(need), t) {
		return nil
	}
	return c.forbidden(need, "here")
}

// forbidden is the same whether the thing exists or not: who may not see it does not learn that.
func (c *call) forbidden(need Role, where string) error {
	role := c.who.Role()
	switch {
	case len(c.who.Grants) == 0:
		return problem.New(http.StatusForbidden, "forbidden", clip(c.who.Name)+" is known, but has no role in this fleet",
			"have an admin bind you or one of your groups to a role (tenant-ops binding create)")
	case where == "" && role.May(need, c.verb.nodes):
		return problem.New(http.StatusForbidden, "forbidden", "this credential is not for this verb", "use one that is; tenant-ops whoami shows what this one is for")
	case where == "":
		return problem.New(http.StatusForbidden, "forbidden", "the role "+string(role)+" may not do this",
			"ask someone with the role "+string(need)+", or use their token")
	}
	return problem.New(http.StatusForbidden, "forbidden", "it is not among what this credential may do this with",
		"tenant-ops whoami shows your roles and where you have them; ask someone with the role "+string(need)+" there")
}

// target is what the request's path is about. What does not exist is a target
// that only a grant of its name, or of everything, covers. mine: it is an
// operation that the caller started, which he may read wherever it is.
func (a *API) target(ctx context.Context, c *call) (t authority.Target, mine bool, err error) {
	if c.verb.fleet {
		return t, false, nil
	}
	if s, ok := c.params.Get("tenant"); ok {
		id, err := shardmap.ParseTenantID(s)
		if err != nil {
			return t, false, nil //nolint:nilerr // no tenant's: nothing that a part of the fleet covers
		}
		c.tenant = id
		t, err = a.tenantTarget(ctx, id)
		return t, false, err
	}
	if s, ok := c.params.Get("shard"); ok {
		id, err := shardmap.ParseShardID(s)
		if err != nil {
			return t, false, nil //nolint:nilerr // as above
		}
		return authority.Target{Shard: id}, false, nil
	}
	if _, ok := c.params.Get("operation"); ok {
		id, err := c.operationID()
		if err != nil {
			return t, false, nil //nolint:nilerr // as above
		}
		op, err := a.Operations.Get(ctx, id)
		if errors.Is(err, catalog.ErrNotFound) || err == nil && op.Tenant == "" {
			return t, false, nil
		}
		if err != nil {
			return t, false, err
		}
		mine = op.CreatedBy == c.who.Name && c.verb.action == ""
		c.tenant = op.Tenant
		t, err = a.tenantTarget(ctx, op.Tenant)
		return t, mine, err
	}
	if _, ok := c.params.Get("session"); ok {
		t, err = a.sessionTarget(ctx, c)
		return t, false, err
	}
	return t, false, nil
}

// tenantTarget is the tenant as it is labelled now; one that does not exist bears nothing.
func (a *API) tenantTarget(ctx context.Context, id shardmap.TenantID) (authority.Target, error) {
	t, err := a.Catalog.GetTenant(ctx, id)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return authority.Target{}, err
	}
	return authority.Target{Tenant: id, Labels: t.Labels}, nil
}

// sight is what a list may show the caller; nil: everything.
func (c *call) sight() *catalog.Sight {
	s := c.who.Sees(c.ask(c.verb.need))
	if s.All {
		return nil
	}
	return &catalog.Sight{Tenants: s.Tenants, Labels: s.Labels}
}

// seesShard tells whether a list of shards may show one.
func (c *call) seesShard(id shardmap.ShardID) bool {
	s := c.who.Sees(c.ask(c.verb.need))
	return s.All || slices.Contains(s.Shards, id)
}

func grantDoc(g authority.Grant) api.Grant {
	return api.Grant{Role: string(g.Role), Verbs: g.Verbs, All: g.All, Tenants: g.Tenants, Labels: g.Labels, Shards: g.Shards}
}

func grantOf(g api.Grant) authority.Grant {
	return authority.Grant{Role: authority.Role(g.Role), Verbs: g.Verbs, Where: authority.Where{All: g.All, Tenants: g.Tenants, Labels: g.Labels, Shards: g.Shards}}
}

func (a *API) whoami(_ context.Context, c *call) (answer, error) {
	doc := api.Identity{Name: c.who.Name, Role: string(c.who.Role()), Method: string(c.who.Method), Issuer: c.who.Issuer,
		Groups: c.who.Groups, Grants: []api.Grant{}, AccessToken: c.who.Token}
	for _, g := range c.who.Grants {
		doc.Grants = append(doc.Grants, grantDoc(g))
	}
	if !c.who.Expires.IsZero() {
		doc.ExpiresAt = utc(&c.who.Expires)
	}
	return ok(doc)
}
