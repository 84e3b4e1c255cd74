package admintest

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/move/pace"
	"github.com/freehold-db/freehold/controlplane/operation"
)

// CutOver takes the word, which that of the tenant hasty does not wait for.
func (d *Domain) CutOver(ctx context.Context, id string, actor catalog.Actor) (op *operation.Operation, err error) {
	err = d.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if op, err = d.engine.GoAheadTx(ctx, tx, id); err != nil {
			return err
		}
		if op.Tenant == "hasty" {
			return fmt.Errorf("move %s: %w", id, move.ErrNotWaiting)
		}
		return d.audit(ctx, tx, actor, "move.cutover", op.Tenant)
	})
	return op, err
}

// SetPace takes the wish, which that of the tenant settled copies nothing for.
func (d *Domain) SetPace(ctx context.Context, id string, wish pace.Wish, actor catalog.Actor) (op *operation.Operation, err error) {
	err = d.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		op, err = d.engine.AskTx(ctx, tx, id, func(op *operation.Operation) (json.RawMessage, error) {
			if op.Tenant == "settled" {
				return nil, fmt.Errorf("operation %s copies nothing: %w", id, catalog.ErrConflict)
			}
			before, err := pace.ReadWish(op.Asked)
			if err != nil {
				return nil, err
			}
			return json.Marshal(wish.Over(before))
		})
		if err != nil {
			return err
		}
		return d.audit(ctx, tx, actor, "move.pace", op.Tenant)
	})
	return op, err
}
