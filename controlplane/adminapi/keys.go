package adminapi

import (
	"context"
	"net/http"
	"regexp"
	"time"

	"github.com/freehold-db/freehold/controlplane/access"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/shard"
	wire "github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/shardmap"
)

func (a *API) listKeys(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	if err := onlyParameters(c.query, "limit", "cursor"); err != nil {
		return answer{}, err
	}
	p, err := readPage("keys", c.query)
	if err != nil {
		return answer{}, err
	}
	keys, next, err := a.Access.Keys(ctx, id, p.forCatalog())
	if err != nil {
		return answer{}, err
	}
	return ok(pageOf("keys", keys, next, keyDoc))
}

func (a *API) createKey(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	var in api.CreateKey
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	if err := checkName("/description", in.Description); err != nil {
		return answer{}, err
	}
	spec := access.KeySpec{Role: in.Role, Permissions: in.Permissions, Description: in.Description}
	if in.ExpiresAt != nil {
		spec.Expires = *in.ExpiresAt
	}
	k, text, err := a.Access.CreateKey(ctx, id, spec, c.actor)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusCreated, doc: api.NewKey{Key: keyDoc(k), Text: text}}, nil
}

var keyIDPattern = regexp.MustCompile(`^[0-9a-f]{12}$`)

func (a *API) revokeKey(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	key := c.params.ByName("key")
	if !keyIDPattern.MatchString(key) { // the text of a key, say, which is to be repeated nowhere
		return answer{}, invalidParameter("key", "is not the ID of a key: 12 hex digits")
	}
	if err := decode(c.body, &struct{}{}); err != nil {
		return answer{}, err
	}
	k, err := a.Access.RevokeKey(ctx, id, key, c.actor)
	if err != nil {
		return answer{}, err
	}
	return ok(keyDoc(k))
}

func keyDoc(k access.Key) api.Key {
	return api.Key{
		ID: k.ID, Tenant: k.Tenant, Role: k.Role, Permissions: append([]string{}, k.Permissions...), Description: k.Description,
		State: k.State(time.Now()), CreatedBy: k.CreatedBy, CreatedAt: k.CreatedAt.UTC(), ExpiresAt: utc(k.ExpiresAt), RevokedAt: utc(k.RevokedAt),
	}
}

func (a *API) revokeTokens(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	var in api.RevokeTokens
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	switch {
	case in.All && (in.ID != "" || in.ExpiresAt != nil):
		return answer{}, invalidBody().At("/all", "does not go with id and expires_at")
	case in.All:
		t, err := a.Access.RevokeTokens(ctx, id, c.actor)
		return a.tenantAccess(ctx, t, err)
	case in.ID == "" || len(in.ID) > 256 || !printable(in.ID):
		return answer{}, invalidBody().At("/id", "is not a token's jti of up to 256 printable bytes")
	case in.ExpiresAt == nil:
		return answer{}, invalidBody().At("/expires_at", "is missing: until then the token is refused")
	}
	t, err := a.Access.RevokeToken(ctx, id, in.ID, *in.ExpiresAt, c.actor)
	return a.tenantAccess(ctx, t, err)
}

func (a *API) listRoles(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	if err := onlyParameters(c.query); err != nil {
		return answer{}, err
	}
	database, err := a.database(ctx, id)
	if err != nil {
		return answer{}, err
	}
	roles, err := a.Access.Roles(ctx, id)
	if err != nil {
		return answer{}, err
	}
	return ok(pageOf("roles", roles, "", func(r access.Role) api.TenantRole { return roleDoc(r, database) }))
}

func (a *API) createRole(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	var in api.CreateRole
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	if err := checkName("/description", in.Description); err != nil {
		return answer{}, err
	}
	if err := wire.CheckCustomRole(in.Name); err != nil {
		return answer{}, invalidBody().At("/name", err.Error())
	}
	r, err := a.Access.CreateRole(ctx, id, in.Name, in.Description, c.actor, c.key)
	if err != nil {
		return answer{}, err
	}
	database, err := a.database(ctx, id)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusCreated, doc: roleDoc(r, database)}, nil
}

func (a *API) dropRole(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	role := c.params.ByName("role")
	if err := wire.CheckCustomRole(role); err != nil {
		return answer{}, invalidParameter("role", "cannot be a role of a tenant's own")
	}
	if err := decode(c.body, &struct{}{}); err != nil {
		return answer{}, err
	}
	if err := a.Access.DropRole(ctx, id, role, c.actor, c.key); err != nil {
		return answer{}, err
	}
	return ok(struct{}{})
}

// database is the tenant's, whose name a move keeps.
func (a *API) database(ctx context.Context, id shardmap.TenantID) (string, error) {
	p, err := a.Catalog.GetPlacement(ctx, id)
	return p.Database, err
}

func roleDoc(r access.Role, database string) api.TenantRole {
	return api.TenantRole{Tenant: r.Tenant, Name: r.Name, DatabaseRole: shard.CustomRole(database, r.Name), Description: r.Description,
		CreatedBy: r.CreatedBy, CreatedAt: r.CreatedAt.UTC()}
}
