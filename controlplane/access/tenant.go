package access

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/shardmap"
)

// Tenant reads a tenant's document, which is at version 0 as long as it had
// nothing of its own. Errors: catalog.ErrNotFound.
func (s *Service) Tenant(ctx context.Context, id shardmap.TenantID) (access.Tenant, error) {
	return Document(ctx, s.store, id)
}

// Change says what of a tenant's settings is to be changed; nil fields stay as
// they are, the others are replaced as a whole.
type Change struct {
	Plan       *string // empty: the fleet's default
	Limits     *access.Limits
	Attributes *map[string]string
	Schemas    *[]string
	Issuers    *[]access.Issuer
	Policies   *[]access.Policy
}

// ChangeTenant changes a tenant's settings. expect is the version that the
// change was made for; nil: whichever. It returns the document as it is then.
// Errors: catalog.ErrNotFound (tenant or plan), ErrConflict (purged), ErrInvalid, ErrChanged.
func (s *Service) ChangeTenant(ctx context.Context, id shardmap.TenantID, ch Change, expect *int64, actor catalog.Actor) (access.Tenant, error) {
	var t access.Tenant
	err := s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		t, err = s.change(ctx, tx, id, expect, actor, "access.set", func(t *access.Tenant) (any, error) { return apply(ctx, tx, t, ch) })
		return err
	})
	return t, err
}

// apply makes the changes and says what became of what was changed.
func apply(ctx context.Context, tx pgx.Tx, t *access.Tenant, ch Change) (map[string]any, error) {
	details := map[string]any{}
	if ch.Plan != nil && *ch.Plan != t.Plan {
		t.Plan = *ch.Plan
		details["plan"] = t.Plan
		if t.Plan != "" {
			// It must stay until the end of the transaction; the row's foreign key would say it less kindly.
			_, err := one(ctx, tx, pgx.RowTo[string], `select name from plans where name = $1 for key share`, t.Plan)
			if err != nil {
				return nil, fmt.Errorf("plan %.70s: %w", t.Plan, err)
			}
		}
	}
	if ch.Limits != nil && *ch.Limits != t.Limits {
		t.Limits = *ch.Limits
		details["limits"] = t.Limits
	}
	if ch.Attributes != nil && !maps.Equal(*ch.Attributes, t.Attributes) {
		t.Attributes = *ch.Attributes
		details["attributes"] = t.Attributes
	}
	if ch.Schemas != nil && !slices.Equal(*ch.Schemas, t.Schemas) {
		t.Schemas = *ch.Schemas
		details["schemas"] = t.Schemas
	}
	if ch.Issuers != nil && !sameIssuers(*ch.Issuers, t.Issuers) {
		t.Issuers = *ch.Issuers
		details["issuers"] = t.Issuers
	}
	if ch.Policies != nil && !slices.Equal(*ch.Policies, t.Policies) {
		t.Policies = *ch.Policies
		details["policies"] = digests(t.Policies)
		if err := compile(t.Policies); err != nil {
			return nil, err
		}
	}
	return details, nil
}

func sameIssuers(a, b []access.Issuer) bool {
	return slices.EqualFunc(a, b, func(a, b access.Issuer) bool {
		same := slices.Equal(a.Algorithms, b.Algorithms)
		a.Algorithms, b.Algorithms = nil, nil
		return same && reflect.DeepEqual(a, b)
	})
}

// change has fn change a tenant's document, under its lock, and writes, records
// and publishes it. What of the document is in tables of its own (keys, roles,
// revoked tokens), fn writes itself. If the document stays as it was, nothing is written.
func (s *Service) change(ctx context.Context, tx pgx.Tx, id shardmap.TenantID, expect *int64, actor catalog.Actor, action string,
	fn func(t *access.Tenant) (details any, err error)) (access.Tenant, error) {
	before, err := lock(ctx, tx, id)
	if err != nil {
		return before, err
	}
	t := copied(before)
	details, err := fn(&t)
	if err != nil {
		return before, err
	}
	if reflect.DeepEqual(copied(before), copied(t)) {
		return before, nil
	}
	object := "tenant/" + string(id)
	if err := checkVersion(object, before.Version, expect); err != nil {
		return before, err
	}
	t.Version++
	if err := errors.Join(t.Validate(), rolesExist(t), fits(t)); err != nil {
		return before, invalid(err)
	}
	t = copied(t)
	_, err = tx.Exec(ctx, `update tenant_access set plan = nullif($2, ''), limits = $3, attributes = $4, schemas = $5, issuers = $6, policies = $7,
		not_before = $8 where tenant = $1`, id, t.Plan, t.Limits, t.Attributes, t.Schemas, t.Issuers, t.Policies, orNull(t.NotBefore))
	if err != nil {
		return before, fmt.Errorf("tenant %s: %w", id, catalog.Classify(err))
	}
	return t, s.record(ctx, tx, actor, action, object, id, details)
}

// lock reads a tenant's document and keeps it, and the tenant from being
// purged, until tx ends. Errors: catalog.ErrNotFound, ErrConflict (purged).
func lock(ctx context.Context, tx pgx.Tx, id shardmap.TenantID) (access.Tenant, error) {
	purged, err := one(ctx, tx, pgx.RowTo[bool], `select purged_at is not null from tenants where id = $1 for share`, id)
	if err != nil {
		return access.Tenant{}, fmt.Errorf("tenant %s: %w", id, err)
	}
	if purged {
		return access.Tenant{}, fmt.Errorf("tenant %s is purged: %w", id, catalog.ErrConflict)
	}
	if _, err := tx.Exec(ctx, `insert into tenant_access (tenant) values ($1) on conflict do nothing`, id); err != nil {
		return access.Tenant{}, fmt.Errorf("tenant %s: %w", id, catalog.Classify(err))
	}
	if _, err := tx.Exec(ctx, `select from tenant_access where tenant = $1 for update`, id); err != nil {
		return access.Tenant{}, fmt.Errorf("tenant %s: %w", id, catalog.Classify(err))
	}
	return document(ctx, tx, id) // a statement of its own: it sees what those before us committed
}

// copied is t with lists and a map that belong to nobody else, none of them nil.
func copied(t access.Tenant) access.Tenant {
	attributes := map[string]string{}
	maps.Copy(attributes, t.Attributes)
	t.Attributes = attributes
	t.Issuers, t.Schemas, t.Roles = list(t.Issuers), list(t.Schemas), list(t.Roles)
	t.Policies, t.Keys, t.Revoked = list(t.Policies), list(t.Keys), list(t.Revoked)
	return t
}

// rolesExist refuses a document whose keys or issuers name a role that the tenant does not have.
func rolesExist(t access.Tenant) error {
	for _, k := range t.Keys {
		if !hasRole(t, k.Role) {
			return fmt.Errorf("key %s: the tenant has no role %q", k.ID, k.Role)
		}
	}
	for _, i := range t.Issuers {
		if i.DefaultRole != "" && !hasRole(t, i.DefaultRole) {
			return fmt.Errorf("issuer %s: the tenant has no role %q", i.URL, i.DefaultRole)
		}
	}
	return nil
}

func hasRole(t access.Tenant, role string) bool {
	return access.BuiltInRole(role) || slices.Contains(t.Roles, role)
}
