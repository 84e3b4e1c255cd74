package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// SoakState is the life of a soak.
type SoakState string

const (
	Soaking   SoakState = "soaking"   // the old place is kept in step; a reverse, its completion or its keeper leaves it
	Reversing SoakState = "reversing" // a reverse is under way; reversed next, or soaking again if it is taken back
	Ending    SoakState = "ending"    // there is no way back any more, the link is being taken away; ended next
	Ended     SoakState = "ended"     // final: Reason says why
	Reversed  SoakState = "reversed"  // final: the tenant lives at the old place again
)

// Soak is the time after a move in which the old place is kept in step, so
// that the tenant can be taken back. A tenant has at most one that has not ended.
type Soak struct {
	Operation string // the move's
	Tenant    shardmap.TenantID
	Database  string
	Home, Old shardmap.ShardID
	// Link is the name of the publication and the slot at home, and of the
	// subscription at the old place.
	Link string
	// Fingerprint is the schema's at home when the soak began.
	Fingerprint string
	State       SoakState
	Reason      string // why it ended, or is being ended
	BeganAt     time.Time
	Until       time.Time // when it ends by itself
	Due         bool      // Until has passed, by the catalog's clock
	EndedAt     *time.Time
	// KeptBytes of home's log are kept for the old place, and Trouble is with
	// the link, as of the last look.
	KeptBytes int64
	Trouble   string
}

const soakColumns = `k.operation::text, k.tenant, k.database, k.home, k.old, k.link, k.fingerprint, k.state, k.reason,
	k.began_at, k.until, k.until <= clock_timestamp(), k.ended_at, k.kept_bytes, k.trouble`

func scanSoak(row pgx.CollectableRow) (Soak, error) {
	var k Soak
	err := row.Scan(&k.Operation, &k.Tenant, &k.Database, &k.Home, &k.Old, &k.Link, &k.Fingerprint, &k.State, &k.Reason,
		&k.BeganAt, &k.Until, &k.Due, &k.EndedAt, &k.KeptBytes, &k.Trouble)
	return k, err
}

// BeginSoak records a soak that ends by itself after lasts. One of that
// operation is left as it is. Errors: ErrConflict (the tenant has another).
func (s *Store) BeginSoak(ctx context.Context, tx pgx.Tx, k Soak, lasts time.Duration) error {
	_, err := tx.Exec(ctx, `insert into soaks (operation, tenant, database, home, old, link, fingerprint, state, until)
		values ($1, $2, $3, $4, $5, $6, $7, 'soaking', clock_timestamp() + make_interval(secs => $8)) on conflict (operation) do nothing`,
		k.Operation, k.Tenant, k.Database, k.Home, k.Old, k.Link, k.Fingerprint, lasts.Seconds())
	if err != nil {
		return fmt.Errorf("soak of %s: %w", k.Tenant, translate(err))
	}
	return nil
}

// GetSoak reads the soak of a move. Errors: ErrNotFound.
func (s *Store) GetSoak(ctx context.Context, operation string) (Soak, error) {
	k, err := one(ctx, s.pool, scanSoak, `select `+soakColumns+` from soaks k where operation = $1`, operation)
	if err != nil {
		return k, fmt.Errorf("soak of operation %s: %w", operation, err)
	}
	return k, nil
}

// LiveSoak reads the tenant's soak that has not ended. Errors: ErrNotFound.
func (s *Store) LiveSoak(ctx context.Context, tenant shardmap.TenantID) (Soak, error) {
	return liveSoak(ctx, s.pool, tenant)
}

// LiveSoakTx is LiveSoak as part of a transaction.
func (s *Store) LiveSoakTx(ctx context.Context, tx pgx.Tx, tenant shardmap.TenantID) (Soak, error) {
	return liveSoak(ctx, tx, tenant)
}

func liveSoak(ctx context.Context, q querier, tenant shardmap.TenantID) (Soak, error) {
	k, err := one(ctx, q, scanSoak, `select `+soakColumns+` from soaks k where tenant = $1 and ended_at is null`, tenant)
	if err != nil {
		return k, fmt.Errorf("soak of tenant %s: %w", tenant, err)
	}
	return k, nil
}

// SetSoakState changes the state if it is one of from; a soak that already is in state to is left as it is.
// reason is kept unless it is empty. Errors: ErrNotFound, ErrConflict (other state).
func (s *Store) SetSoakState(ctx context.Context, tx pgx.Tx, operation string, from []SoakState, to SoakState, reason string) (Soak, error) {
	k, err := one(ctx, tx, scanSoak, `update soaks k set state = $3, reason = coalesce(nullif($4, ''), reason),
			ended_at = case when $3 in ('ended', 'reversed') then clock_timestamp() end
		where operation = $1 and state = any($2) and state <> $3 returning `+soakColumns, operation, from, to, reason)
	if err == nil {
		return k, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return k, fmt.Errorf("soak of operation %s: %w", operation, err)
	}
	k, err = one(ctx, tx, scanSoak, `select `+soakColumns+` from soaks k where operation = $1`, operation)
	if err != nil {
		return k, fmt.Errorf("soak of operation %s: %w", operation, err)
	}
	if k.State == to {
		return k, nil
	}
	return k, fmt.Errorf("the soak of operation %s is %s and must be %s to become %s: %w", operation, k.State, Either(from), to, ErrConflict)
}

// SoakToLookAt picks the soak that was looked at the longest ago, at least
// every before now, and counts it as looked at: of several keepers at the same
// time each gets another. Errors: ErrNotFound (none is due).
func (s *Store) SoakToLookAt(ctx context.Context, every time.Duration) (Soak, error) {
	k, err := one(ctx, s.pool, scanSoak, `with due as materialized (
			select operation from soaks where ended_at is null and looked_at < clock_timestamp() - make_interval(secs => $1)
			order by looked_at limit 1 for update skip locked)
		update soaks k set looked_at = clock_timestamp() from due where k.operation = due.operation returning `+soakColumns, every.Seconds())
	if err != nil {
		return k, fmt.Errorf("soak to look at: %w", err)
	}
	return k, nil
}

// NoteSoak keeps what a look at the link found. One that is gone or has ended is no error.
func (s *Store) NoteSoak(ctx context.Context, operation string, kept int64, trouble string) error {
	_, err := s.pool.Exec(ctx, `update soaks set kept_bytes = $2, trouble = $3 where operation = $1 and ended_at is null`, operation, kept, trouble)
	if err != nil {
		return fmt.Errorf("soak of operation %s: %w", operation, translate(err))
	}
	return nil
}

// SoakFilter narrows a list; zero fields don't.
type SoakFilter struct {
	Tenant shardmap.TenantID
	Live   bool // only those that have not ended
	Sight  *Sight
}

// ListSoaks lists newest first. next is the cursor of the following page, empty after the last.
func (s *Store) ListSoaks(ctx context.Context, f SoakFilter, p Page) (soaks []Soak, next string, err error) {
	all, ids, labels := f.Sight.params()
	soaks, err = many(ctx, s.pool, scanSoak, `select `+soakColumns+` from soaks k
		where ($1 = '' or k.operation < nullif($1, '')::uuid) and ($2 = '' or k.tenant = $2) and (not $3 or k.ended_at is null)
			and `+seenSQL("k.tenant", 5, 6, 7)+`
		order by k.operation desc limit $4`, p.After, f.Tenant, f.Live, p.Rows()+1, all, ids, labels)
	if err != nil {
		return nil, "", fmt.Errorf("list soaks: %w", err)
	}
	soaks, next = CutPage(p, soaks, func(k Soak) string { return k.Operation })
	return soaks, next, nil
}
