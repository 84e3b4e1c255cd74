package admintest

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/operation"
)

// MoveTx starts a move that changes the placement and nothing else, in the caller's transaction.
func (d *Domain) MoveTx(ctx context.Context, tx pgx.Tx, req move.Request, actor catalog.Actor, key string) (*operation.Operation, error) {
	if err := d.endpoints(ctx, req.Tenant, req.To); err != nil {
		return nil, err
	}
	op, err := d.engine.StartTx(ctx, tx, operation.Spec{Kind: move.Kind, Tenant: req.Tenant, Data: moveDoc{req.Tenant, req.To, req.Soak}, Actor: actor, RequestKey: key})
	if err != nil {
		return nil, err
	}
	return op, d.audit(ctx, tx, actor, "tenant.move", req.Tenant)
}
