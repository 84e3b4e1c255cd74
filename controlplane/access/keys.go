package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/shardmap"
)

// Key is an API key as operators see it: never its text, nor its hash.
type Key struct {
	Tenant      shardmap.TenantID
	ID          string
	Role        string
	Permissions []string
	Description string
	CreatedBy   string
	CreatedAt   time.Time
	ExpiresAt   *time.Time // nil: never
	RevokedAt   *time.Time // nil: not revoked
}

// State is "active", "expired" or "revoked" at a time.
func (k Key) State(now time.Time) string {
	switch {
	case k.RevokedAt != nil:
		return "revoked"
	case k.ExpiresAt != nil && !now.Before(*k.ExpiresAt):
		return "expired"
	}
	return "active"
}

const keyColumns = `tenant, id, role, permissions, description, created_by, created_at, expires_at, revoked_at`

// KeySpec says what a key may do. A zero Expires is never.
type KeySpec struct {
	Role        string
	Permissions []string
	Description string
	Expires     time.Time
}

// CreateKey makes a key of a tenant. text is the only copy of what its bearer
// sends. Errors: catalog.ErrNotFound, ErrConflict (deleted tenant), ErrInvalid.
func (s *Service) CreateKey(ctx context.Context, id shardmap.TenantID, spec KeySpec, actor catalog.Actor) (k Key, text string, err error) {
	text, key, err := access.NewKey(id, spec.Role, spec.Permissions, spec.Expires.Truncate(time.Microsecond))
	if err != nil {
		return k, "", invalid(err)
	}
	if key.Expired(time.Now()) {
		return k, "", invalid(errors.New("the key would have expired already"))
	}
	err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := s.undeleted(ctx, tx, id); err != nil {
			return err
		}
		_, err := s.change(ctx, tx, id, nil, actor, "key.create", func(t *access.Tenant) (any, error) {
			t.Keys = append(t.Keys, key)
			k, err = one(ctx, tx, pgx.RowToStructByPos[Key], `insert into api_keys (tenant, id, hash, role, permissions, description, created_by, expires_at)
				values ($1, $2, $3, $4, $5, $6, $7, $8) returning `+keyColumns,
				id, key.ID, key.Hash, key.Role, list(key.Permissions), spec.Description, actor.Name, orNull(key.Expires))
			details := map[string]any{"key": key.ID, "role": key.Role, "permissions": key.Permissions}
			if k.ExpiresAt != nil {
				details["expires"] = key.Expires
			}
			return details, err
		})
		return err
	})
	if err != nil {
		return Key{}, "", err
	}
	return k, text, nil
}

// Keys lists a tenant's keys by ID, those that ended not long ago too.
// Errors: catalog.ErrNotFound (no such tenant).
func (s *Service) Keys(ctx context.Context, id shardmap.TenantID, p catalog.Page) (keys []Key, next string, err error) {
	if _, err := s.store.GetTenant(ctx, id); err != nil {
		return nil, "", err
	}
	keys, err = many(ctx, s.store.Pool(), pgx.RowToStructByPos[Key], `select `+keyColumns+` from api_keys
		where tenant = $1 and id > $2 order by id limit $3`, id, p.After, p.Rows()+1)
	if err != nil {
		return nil, "", fmt.Errorf("keys of tenant %s: %w", id, err)
	}
	keys, next = catalog.CutPage(p, keys, func(k Key) string { return k.ID })
	return keys, next, nil
}

// RevokeKey has a key refused from now on, for good. One that is revoked
// already stays as it is. Errors: catalog.ErrNotFound (tenant or key).
func (s *Service) RevokeKey(ctx context.Context, id shardmap.TenantID, key string, actor catalog.Actor) (k Key, err error) {
	err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := s.change(ctx, tx, id, nil, actor, "key.revoke", func(t *access.Tenant) (any, error) {
			t.Keys = slices.DeleteFunc(t.Keys, func(k access.Key) bool { return k.ID == key })
			k, err = one(ctx, tx, pgx.RowToStructByPos[Key], `update api_keys set revoked_at = coalesce(revoked_at, clock_timestamp())
				where tenant = $1 and id = $2 returning `+keyColumns, id, key)
			if err != nil {
				return nil, fmt.Errorf("key %.20s of tenant %s: %w", key, id, err)
			}
			return map[string]any{"key": key, "role": k.Role}, nil
		})
		return err
	})
	return k, err
}

// undeleted refuses a tenant that is deleted: what would be opened has no door.
func (s *Service) undeleted(ctx context.Context, tx pgx.Tx, id shardmap.TenantID) error {
	p, err := one(ctx, tx, pgx.RowTo[shardmap.State], `select state from placements where tenant = $1`, id)
	if err != nil {
		return fmt.Errorf("tenant %s: %w", id, err)
	}
	if p == shardmap.Deleted {
		return fmt.Errorf("tenant %s is deleted: %w", id, catalog.ErrConflict)
	}
	return nil
}

// orNull keeps a zero time out of the tables.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// list is l, or an empty list for none: the tables have no null.
func list[T any](l []T) []T { return append([]T{}, l...) }
