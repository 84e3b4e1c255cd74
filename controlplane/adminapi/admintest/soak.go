package admintest

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// registerSoaks makes the operations that leave a soak known; both end at once.
func (d *Domain) registerSoaks() {
	for kind, to := range map[string]catalog.SoakState{move.KindReverse: catalog.Reversed, move.KindComplete: catalog.Ended} {
		operation.Register(d.engine, operation.Kind[string]{Name: kind, Steps: []operation.Step[string]{
			{Name: "do", Title: "leaving the soak", NoReturn: true, Do: func(ctx context.Context, r *operation.Run[string]) error {
				return r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
					_, err := d.store.SetSoakState(ctx, tx, r.Data, []catalog.SoakState{catalog.Soaking}, to, "asked for")
					return err
				})
			}}}})
	}
}

// beginSoak makes a soak of a move that ends.
func (d *Domain) beginSoak(ctx context.Context, tx pgx.Tx, op *operation.Operation, to shardmap.ShardID, lasts time.Duration) error {
	if lasts <= 0 {
		return nil
	}
	p, err := d.store.GetPlacement(ctx, op.Tenant)
	if err != nil {
		return err
	}
	return d.store.BeginSoak(ctx, tx, catalog.Soak{Operation: op.ID, Tenant: op.Tenant, Database: p.Database, Home: to, Old: p.Shard, Link: "link", Fingerprint: "-"}, lasts)
}

func (d *Domain) leave(ctx context.Context, kind, action, id string, actor catalog.Actor, key string) (op *operation.Operation, err error) {
	k, err := d.store.GetSoak(ctx, id)
	if err != nil {
		return nil, err
	}
	if k.State != catalog.Soaking {
		return nil, fmt.Errorf("move %s: %w", id, move.ErrNoSoak)
	}
	err = d.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if op, err = d.engine.StartTx(ctx, tx, operation.Spec{Kind: kind, Tenant: k.Tenant, Data: id, Actor: actor, RequestKey: key}); err != nil {
			return err
		}
		return d.audit(ctx, tx, actor, action, k.Tenant)
	})
	return op, err
}

// Reverse takes nobody back, but says so.
func (d *Domain) Reverse(ctx context.Context, req move.ReverseRequest, actor catalog.Actor, key string) (*operation.Operation, error) {
	return d.leave(ctx, move.KindReverse, "tenant.move.reverse", req.Operation, actor, key)
}

// DryRunReverse plans a reverse; that of the tenant clumsy is refused.
func (d *Domain) DryRunReverse(ctx context.Context, req move.ReverseRequest, actor catalog.Actor) ([]operation.StepPlan, error) {
	k, err := d.store.GetSoak(ctx, req.Operation)
	if err != nil {
		return nil, err
	}
	plan, err := d.engine.DryRun(ctx, operation.Spec{Kind: move.KindReverse, Tenant: k.Tenant, Data: req.Operation, Actor: actor})
	if k.Tenant == "clumsy" {
		return nil, fmt.Errorf("preflight: %w", &move.RefusedError{})
	}
	return plan, err
}

// Complete ends a soak.
func (d *Domain) Complete(ctx context.Context, id string, actor catalog.Actor, key string) (*operation.Operation, error) {
	return d.leave(ctx, move.KindComplete, "tenant.move.complete", id, actor, key)
}
