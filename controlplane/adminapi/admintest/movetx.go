package admintest

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// kindRunMove is a move of a run. Other than the moves that are asked for one by
// one it brings the tenant to its target, in the catalog.
const kindRunMove = "tenant-move-of-run"

type runMoveDoc struct {
	Tenant shardmap.TenantID
	To     shardmap.ShardID
}

func (d *Domain) registerRunMoves() {
	operation.Register(d.engine, operation.Kind[runMoveDoc]{Name: kindRunMove, Steps: []operation.Step[runMoveDoc]{
		{Name: "copy", Title: "copying data", Do: func(ctx context.Context, r *operation.Run[runMoveDoc]) error {
			r.Report(operation.Progress{Phase: "copying data", Percent: 40})
			select {
			case <-d.Gate:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}},
		{Name: "flip", NoReturn: true, Do: func(ctx context.Context, r *operation.Run[runMoveDoc]) error {
			from, err := d.store.GetPlacement(ctx, r.Data.Tenant)
			if err != nil {
				return err
			}
			return r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
				err := d.store.InsertDatabase(ctx, tx, catalog.Database{Shard: r.Data.To, Name: from.Database, State: catalog.DatabaseTarget, Tenant: r.Data.Tenant})
				if err != nil {
					return err
				}
				_, err = d.store.FlipPlacement(ctx, tx, r.Data.Tenant, from, r.Data.To)
				return err
			})
		}},
	}})
}

// MoveTx starts a move of a run.
func (d *Domain) MoveTx(ctx context.Context, tx pgx.Tx, req move.Request, actor catalog.Actor, key string) (*operation.Operation, error) {
	if err := d.endpoints(ctx, req.Tenant, req.To); err != nil {
		return nil, err
	}
	op, err := d.engine.StartTx(ctx, tx, operation.Spec{Kind: kindRunMove, Tenant: req.Tenant, Data: runMoveDoc{req.Tenant, req.To}, Actor: actor, RequestKey: key})
	if err != nil {
		return nil, err
	}
	return op, d.audit(ctx, tx, actor, "tenant.move", req.Tenant)
}
