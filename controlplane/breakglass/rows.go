package breakglass

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
)

// columns are those of a row named b.
const columns = `b.id::text, b.tenant, b.database, b.works_as, b.reason, b.seconds, b.state, b.asked_by, b.asked_root, b.asked_at,
	coalesce(b.approved_by, ''), b.approved_at, coalesce(b.login, ''), b.opened_at, b.expires_at, b.expires_at <= clock_timestamp(),
	b.ended_at, coalesce(b.ended_by, ''), b.end_cause, b.sessions, b.last_used_at,
	b.token is not null and not exists (select from access_tokens t where t.id = b.token and t.revoked_at is null and t.expires_at > clock_timestamp())
		or b.bindings <> '{}' and not exists (select from role_bindings r where r.id = any(b.bindings) and (r.expires_at is null or r.expires_at > clock_timestamp()))`

func scan(row pgx.CollectableRow) (Session, error) {
	var b Session
	var seconds int
	err := row.Scan(&b.ID, &b.Tenant, &b.Database, &b.As, &b.Reason, &seconds, &b.State, &b.AskedBy, &b.root, &b.AskedAt,
		&b.ApprovedBy, &b.ApprovedAt, &b.Login, &b.OpenedAt, &b.ExpiresAt, &b.lapsed,
		&b.EndedAt, &b.EndedBy, &b.Cause, &b.Sessions, &b.LastUsedAt, &b.baseless)
	b.For = time.Duration(seconds) * time.Second
	return b, err
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func one(ctx context.Context, q querier, sql string, args ...any) (Session, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return Session{}, catalog.Classify(err)
	}
	b, err := pgx.CollectExactlyOneRow(rows, scan)
	if errors.Is(err, pgx.ErrNoRows) {
		return b, catalog.ErrNotFound
	}
	return b, catalog.Classify(err)
}

func many(ctx context.Context, q querier, sql string, args ...any) ([]Session, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, catalog.Classify(err)
	}
	list, err := pgx.CollectRows(rows, scan)
	return list, catalog.Classify(err)
}

// not says in which state an access is, and in which it had to be.
func (b Session) not(want State) error {
	is := string(b.State)
	if b.lapsed && b.State != Ended {
		is += ", and its time is over"
	}
	return fmt.Errorf("break-glass access %s is %s and must be %s: %w", b.ID, is, want, catalog.ErrConflict)
}

// change has fn change an access under its row's lock.
func (s *Service) change(ctx context.Context, id string, fn func(ctx context.Context, tx pgx.Tx, b Session) (Session, error)) (b Session, err error) {
	if uuid.Validate(id) != nil {
		return b, fmt.Errorf("break-glass access %.64q: %w", id, catalog.ErrNotFound)
	}
	err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if b, err = one(ctx, tx, `select `+columns+` from break_glass b where id = $1 for update`, id); err != nil {
			return fmt.Errorf("break-glass access %s: %w", id, err)
		}
		b, err = fn(ctx, tx, b)
		return err
	})
	return b, err
}
