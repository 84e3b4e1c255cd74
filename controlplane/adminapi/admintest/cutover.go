package admintest

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move"
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
