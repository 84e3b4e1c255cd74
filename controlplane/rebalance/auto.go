package rebalance

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
)

// SetAuto has runs begin by themselves, or not. A run under way goes on either way.
func (s *Service) SetAuto(ctx context.Context, on bool, actor catalog.Actor) error {
	return s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		was, err := s.store.LockRebalance(ctx, tx)
		if err != nil || was.Auto == on {
			return err
		}
		if err := s.store.SetRebalanceAuto(ctx, tx, on, actor); err != nil {
			return err
		}
		return s.record(ctx, tx, actor, "rebalance.auto", "rebalance", "", map[string]bool{"on": on})
	})
}
