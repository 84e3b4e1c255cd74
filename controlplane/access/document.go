package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/shardmap"
)

// Topic is what the outbox calls changes of documents; the key is a tenant's ID or [access.FleetKey].
const Topic = "access"

// querier is what a pool and a transaction have in common.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// A document is read in one statement, so that all of it is of one moment. It
// holds nothing that changes by time passing: what has expired stays in until
// it is pruned, which is a change like any other.
const documentColumns = `t.id, coalesce(a.version, 0), coalesce(a.plan, ''), coalesce(a.limits, '{}'), coalesce(a.attributes, '{}'),
	coalesce(a.schemas, '{}'), coalesce(a.issuers, '[]'), coalesce(a.policies, '[]'), a.not_before,
	coalesce((select array_agg(r.name order by r.name) from tenant_roles r where r.tenant = t.id), '{}'),
	coalesce((select jsonb_agg(jsonb_build_object('id', k.id, 'hash', k.hash, 'role', k.role, 'permissions', k.permissions, 'expires', k.expires_at) order by k.id)
		from api_keys k where k.tenant = t.id and k.revoked_at is null), '[]'),
	coalesce((select jsonb_agg(jsonb_build_object('id', v.id, 'expires', v.expires_at) order by v.id)
		from revoked_tokens v where v.tenant = t.id), '[]')`

func scanDocument(row pgx.CollectableRow) (t access.Tenant, err error) {
	var notBefore *time.Time
	err = row.Scan(&t.Tenant, &t.Version, &t.Plan, &t.Limits, &t.Attributes, &t.Schemas, &t.Issuers, &t.Policies, &notBefore,
		&t.Roles, &t.Keys, &t.Revoked)
	if notBefore != nil {
		t.NotBefore = notBefore.UTC()
	}
	for i := range t.Keys { // as JSON, the server writes times in the session's zone
		t.Keys[i].Expires = t.Keys[i].Expires.UTC()
	}
	for i := range t.Revoked {
		t.Revoked[i].Expires = t.Revoked[i].Expires.UTC()
	}
	return t, err
}

// Document reads a tenant's newest document; one that has nothing of its own
// yet is at version 0. Errors: catalog.ErrNotFound (no such tenant).
func Document(ctx context.Context, store *catalog.Store, id shardmap.TenantID) (access.Tenant, error) {
	return document(ctx, store.Pool(), id)
}

func document(ctx context.Context, q querier, id shardmap.TenantID) (access.Tenant, error) {
	t, err := one(ctx, q, scanDocument, `select `+documentColumns+`
		from tenants t left join tenant_access a on a.tenant = t.id where t.id = $1`, id)
	if err != nil {
		return t, fmt.Errorf("tenant %s: %w", id, err)
	}
	return t, nil
}

// Documents lists the documents of all tenants that have or had something of their own, by tenant.
func Documents(ctx context.Context, store *catalog.Store, p catalog.Page) (documents []access.Tenant, next string, err error) {
	documents, err = many(ctx, store.Pool(), scanDocument, `select `+documentColumns+`
		from tenants t join tenant_access a on a.tenant = t.id where t.id > $1 order by t.id limit $2`, p.After, p.Rows()+1)
	if err != nil {
		return nil, "", fmt.Errorf("access documents: %w", err)
	}
	documents, next = catalog.CutPage(p, documents, func(t access.Tenant) string { return string(t.Tenant) })
	return documents, next, nil
}

// Own tells whether a tenant's document says anything at all.
func Own(t access.Tenant) bool {
	return t.Plan != "" || t.Limits != access.Limits{} || len(t.Attributes) > 0 || len(t.Issuers) > 0 || len(t.Schemas) > 0 ||
		len(t.Roles) > 0 || len(t.Policies) > 0 || len(t.Keys) > 0 || !t.NotBefore.IsZero() || len(t.Revoked) > 0
}

// Fleet reads the fleet's newest document.
func Fleet(ctx context.Context, store *catalog.Store) (access.Fleet, error) {
	return fleet(ctx, store.Pool(), "")
}

func fleet(ctx context.Context, q querier, lock string) (access.Fleet, error) {
	f, err := one(ctx, q, func(row pgx.CollectableRow) (f access.Fleet, err error) {
		return f, row.Scan(&f.Version, &f.DefaultPlan, &f.Policies, &f.Plans)
	}, `select version, coalesce(default_plan, ''), policies, coalesce((select jsonb_object_agg(name, limits) from plans), '{}')
		from fleet_access`+lock)
	if err != nil {
		return f, fmt.Errorf("access of the fleet: %w", err)
	}
	return f, nil
}

// one reads exactly one row. Errors: catalog.ErrNotFound.
func one[T any](ctx context.Context, q querier, scan pgx.RowToFunc[T], sql string, args ...any) (T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		var zero T
		return zero, catalog.Classify(err)
	}
	v, err := pgx.CollectExactlyOneRow(rows, scan)
	if errors.Is(err, pgx.ErrNoRows) {
		return v, catalog.ErrNotFound
	}
	return v, catalog.Classify(err)
}

func many[T any](ctx context.Context, q querier, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, catalog.Classify(err)
	}
	v, err := pgx.CollectRows(rows, scan)
	return v, catalog.Classify(err)
}
