package access

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/shardmap"
)

// CloneTx gives a tenant that was just made, as part of its making, what
// another has: plan, limits, attributes, exposed schemas, policies, and of its
// own roles those in roles, which are in the new one's database already. Keys
// and issuers are not carried: who may come to the one tenant need not be let
// into the other. Nor is what was revoked, which names the other's tokens.
// Errors: catalog.ErrNotFound (no such tenant).
func (s *Service) CloneTx(ctx context.Context, tx pgx.Tx, from, to shardmap.TenantID, roles []string, actor catalog.Actor) error {
	source, err := document(ctx, tx, from)
	if err != nil {
		return err
	}
	roles = slices.DeleteFunc(slices.Clone(source.Roles), func(r string) bool { return !slices.Contains(roles, r) })
	_, err = s.change(ctx, tx, to, nil, actor, "access.set", func(t *access.Tenant) (any, error) {
		t.Plan, t.Limits, t.Attributes, t.Schemas, t.Policies, t.Roles = source.Plan, source.Limits, source.Attributes, source.Schemas, source.Policies, roles
		_, err := tx.Exec(ctx, `insert into tenant_roles (tenant, name, description, created_by)
			select $2, name, description, $3 from tenant_roles where tenant = $1 and name = any($4)`, from, to, actor.Name, roles)
		if err != nil {
			return nil, fmt.Errorf("roles of tenant %s: %w", to, catalog.Classify(err))
		}
		return map[string]any{"as": from, "plan": t.Plan, "limits": t.Limits, "roles": roles, "policies": digests(t.Policies)}, nil
	})
	return err
}
