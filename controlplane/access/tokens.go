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

// maxRevocation bounds how long a revoked token is remembered: no token should live as long.
const maxRevocation = 400 * 24 * time.Hour

// RevokeToken refuses the token of that jti until expires, when the token has
// expired anyway. Revoking it again may only make that later.
// Errors: catalog.ErrNotFound, ErrConflict (purged), ErrInvalid (also when too many are revoked).
func (s *Service) RevokeToken(ctx context.Context, id shardmap.TenantID, jti string, expires time.Time, actor catalog.Actor) (access.Tenant, error) {
	expires = expires.UTC().Truncate(time.Microsecond)
	switch left := time.Until(expires); {
	case jti == "" || len(jti) > 256:
		return access.Tenant{}, invalid(errors.New("a token's ID (jti) has 1 to 256 bytes"))
	case left <= 0:
		return access.Tenant{}, invalid(errors.New("the token has expired already"))
	case left > maxRevocation:
		return access.Tenant{}, invalid(fmt.Errorf("expires is more than %d days away", int(maxRevocation/(24*time.Hour))))
	}
	return s.revoke(ctx, id, actor, func(ctx context.Context, tx pgx.Tx, t *access.Tenant) (any, error) {
		details := map[string]any{"token": jti, "expires": expires}
		i := slices.IndexFunc(t.Revoked, func(r access.Revocation) bool { return r.ID == jti })
		switch {
		case i < 0:
			t.Revoked = append(t.Revoked, access.Revocation{ID: jti, Expires: expires})
		case t.Revoked[i].Expires.Before(expires):
			t.Revoked[i].Expires = expires
		default:
			return details, nil
		}
		_, err := tx.Exec(ctx, `insert into revoked_tokens (tenant, id, expires_at, revoked_by) values ($1, $2, $3, $4)
			on conflict (tenant, id) do update set expires_at = $3, revoked_by = $4, revoked_at = clock_timestamp()`, id, jti, expires, actor.Name)
		return details, catalog.Classify(err)
	})
}

// RevokeTokens refuses every token of the tenant that was issued before now.
// API keys are no tokens. Errors: catalog.ErrNotFound, ErrConflict (purged).
func (s *Service) RevokeTokens(ctx context.Context, id shardmap.TenantID, actor catalog.Actor) (access.Tenant, error) {
	return s.revoke(ctx, id, actor, func(ctx context.Context, tx pgx.Tx, t *access.Tenant) (any, error) {
		now, err := one(ctx, tx, pgx.RowTo[time.Time], `select clock_timestamp()`)
		t.NotBefore = now.UTC()
		return map[string]any{"issued_before": t.NotBefore}, err
	})
}

func (s *Service) revoke(ctx context.Context, id shardmap.TenantID, actor catalog.Actor,
	fn func(ctx context.Context, tx pgx.Tx, t *access.Tenant) (any, error)) (t access.Tenant, err error) {
	err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		t, err = s.change(ctx, tx, id, nil, actor, "token.revoke", func(t *access.Tenant) (any, error) { return fn(ctx, tx, t) })
		return err
	})
	return t, err
}
