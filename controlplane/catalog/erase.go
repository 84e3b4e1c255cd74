package catalog

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// ErrErased: the tenant was erased; nothing of it comes back. It is ErrConflict as well.
var ErrErased = fmt.Errorf("the tenant was erased: %w", ErrConflict)

// NotErased refuses a tenant that was erased, and keeps it from being so until
// tx ends. Errors: ErrErased, ErrNotFound.
func (s *Store) NotErased(ctx context.Context, tx pgx.Tx, id shardmap.TenantID) error {
	t, err := s.LockTenant(ctx, tx, id)
	if err != nil {
		return err
	}
	return t.erased()
}

func (t Tenant) erased() error {
	if t.ErasedAt != nil {
		return fmt.Errorf("tenant %s, on %s: %w", t.ID, t.ErasedAt.UTC().Format(time.RFC3339), ErrErased)
	}
	return nil
}

// CountKeys counts the API keys that the tenant has, those too that have ended.
func (s *Store) CountKeys(ctx context.Context, id shardmap.TenantID) (int, error) {
	n, err := one(ctx, s.pool, pgx.RowTo[int], `select count(*) from api_keys where tenant = $1`, id)
	if err != nil {
		return 0, fmt.Errorf("keys of tenant %s: %w", id, err)
	}
	return n, nil
}

// MarkErased records that the tenant is being erased, from which there is no
// way back: it is deleted, with no grace, and has no API keys. One that is marked is left as it is.
// Errors: ErrNotFound.
func (s *Store) MarkErased(ctx context.Context, tx pgx.Tx, id shardmap.TenantID) (Tenant, error) {
	t, err := s.LockTenant(ctx, tx, id)
	if err != nil || t.ErasedAt != nil {
		return t, err
	}
	if t.PurgedAt == nil {
		now := time.Now()
		if _, err := s.SetTenantState(ctx, tx, id, []shardmap.State{shardmap.Active, shardmap.Suspended, shardmap.Deleted}, shardmap.Deleted, &now); err != nil {
			return t, err
		}
	}
	for _, sql := range []string{
		`update tenants set erased_at = clock_timestamp() where id = $1`,
		`delete from api_keys where tenant = $1`,
		`update tenant_access set not_before = not_before where tenant = $1`, // has its document published without them
	} {
		if _, err := tx.Exec(ctx, sql, id); err != nil {
			return t, fmt.Errorf("tenant %s: %w", id, translate(err))
		}
	}
	return getTenant(ctx, tx, id, "")
}

// Entomb leaves of an erased tenant what keeps its ID from being used again:
// its name and all that it had go, and the operations on it but the one of this
// ID. Errors: ErrNotFound, ErrConflict (not erased).
func (s *Store) Entomb(ctx context.Context, tx pgx.Tx, id shardmap.TenantID, operation string) error {
	t, err := s.LockTenant(ctx, tx, id)
	if err != nil {
		return err
	}
	if t.ErasedAt == nil {
		return fmt.Errorf("tenant %s was not erased: %w", id, ErrConflict)
	}
	// The mark has triggers take away access, needs, usage and links.
	for _, sql := range []string{
		`update tenants set purged_at = coalesce(purged_at, clock_timestamp()), display_name = '', labels = '{}' where id = $1`,
		`delete from soaks where tenant = $1`,
		`delete from tenant_keys where tenant = $1`,
		`delete from rebalance_moves where tenant = $1 and run in (select id from operations where finished_at is not null)`,
	} {
		if _, err := tx.Exec(ctx, sql, id); err != nil {
			return fmt.Errorf("tenant %s: %w", id, translate(err))
		}
	}
	const old = `select o.id from operations o where o.tenant = $1 and o.id <> $2 and o.finished_at is not null
		and not exists (select from rebalance_moves m where m.operation = o.id)`
	for _, sql := range []string{`delete from operation_steps where operation in (` + old + `)`, `delete from operations where id in (` + old + `)`} {
		if _, err := tx.Exec(ctx, sql, id, operation); err != nil {
			return fmt.Errorf("operations of tenant %s: %w", id, translate(err))
		}
	}
	return nil
}

// Erasure is the certificate of an erased tenant.
type Erasure struct {
	Tenant      shardmap.TenantID
	Operation   string
	Certificate string // as it was signed
	IssuedAt    time.Time
}

// KeepCertificate stores it, once; one that is there is kept.
func (s *Store) KeepCertificate(ctx context.Context, tx pgx.Tx, e Erasure) error {
	_, err := tx.Exec(ctx, `insert into erasures (tenant, operation, certificate) values ($1, $2, $3) on conflict do nothing`, e.Tenant, e.Operation, e.Certificate)
	if err != nil {
		return fmt.Errorf("erasure of tenant %s: %w", e.Tenant, translate(err))
	}
	return nil
}

// GetErasure reads a tenant's certificate. Errors: ErrNotFound (none was issued).
func (s *Store) GetErasure(ctx context.Context, id shardmap.TenantID) (Erasure, error) {
	e, err := one(ctx, s.pool, pgx.RowToStructByPos[Erasure], `select tenant, operation::text, certificate, issued_at from erasures where tenant = $1`, id)
	if err != nil {
		return e, fmt.Errorf("erasure of tenant %s: %w", id, err)
	}
	return e, nil
}
