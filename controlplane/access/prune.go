package access

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
)

const (
	pruneEvery = time.Minute
	pruneFor   = 30 * time.Second
	// pruneMost bounds the tenants that one round looks at, and the rows of audit_events it forgets.
	pruneMost       = 100
	pruneMostEvents = 10000
)

// Kept says how long what is of no use any more is kept.
type Kept struct {
	// Keys that have expired or were revoked are listed this long.
	Keys time.Duration
	// Tokens that were revoked are refused this long after they have expired, for clocks that are behind.
	Tokens time.Duration
	// Events of nodes are remembered this long; longer than their messages are.
	Events time.Duration
}

// DefaultKept is what [Service.Run] keeps.
var DefaultKept = Kept{Keys: 7 * 24 * time.Hour, Tokens: time.Hour, Events: 8 * 24 * time.Hour}

// Run forgets what is of no use any more, a bounded number of rows at a time,
// until ctx ends; then it returns nil. Any number of replicas may run it.
func (s *Service) Run(ctx context.Context) error {
	for wait := time.Duration(0); ; wait = pruneEvery/2 + rand.N(pruneEvery) { //nolint:gosec // jitter
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		if err := s.Prune(ctx, DefaultKept); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "expired keys and revocations are not cleared away", slog.Any("error", err))
		}
	}
}

// Prune does one round of what Run does.
func (s *Service) Prune(ctx context.Context, kept Kept) error {
	ctx, cancel := context.WithTimeout(ctx, pruneFor)
	defer cancel()
	err := s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		// The tenants' rows first, as every change does it; those being changed have another round.
		tenants, err := many(ctx, tx, pgx.RowTo[string], `select tenant from tenant_access where tenant in (
				select tenant from revoked_tokens where expires_at < clock_timestamp() - $1::interval
				union select tenant from api_keys where least(expires_at, revoked_at) < clock_timestamp() - $2::interval)
			order by tenant limit $3 for update skip locked`, kept.Tokens, kept.Keys, pruneMost)
		if err != nil || len(tenants) == 0 {
			return err
		}
		var batch pgx.Batch
		batch.Queue(`delete from revoked_tokens where tenant = any($1) and expires_at < clock_timestamp() - $2::interval`, tenants, kept.Tokens)
		batch.Queue(`delete from api_keys where tenant = any($1) and least(expires_at, revoked_at) < clock_timestamp() - $2::interval`, tenants, kept.Keys)
		batch.Queue(`update tenant_access set changed_at = clock_timestamp() where tenant = any($1)`, tenants) // a new version
		return catalog.Classify(tx.SendBatch(ctx, &batch).Close())
	})
	if err != nil {
		return fmt.Errorf("prune: %w", err)
	}
	_, err = s.store.Pool().Exec(ctx, `delete from audit_events where id in (
		select id from audit_events where seen < clock_timestamp() - $1::interval order by seen limit $2 for update skip locked)`, kept.Events, pruneMostEvents)
	if err != nil {
		return fmt.Errorf("prune: %w", catalog.Classify(err))
	}
	return nil
}
