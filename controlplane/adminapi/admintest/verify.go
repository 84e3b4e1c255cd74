package admintest

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/move/diff"
	"github.com/freehold-db/freehold/controlplane/operation"
)

// Verify compares at once; the move of the tenant clumsy has a row and an index too few.
func (d *Domain) Verify(ctx context.Context, req move.VerifyRequest, actor catalog.Actor, key string) (op *operation.Operation, err error) {
	of, err := d.engine.Get(ctx, req.Of)
	if err != nil {
		return nil, err
	}
	if of.Kind != move.Kind {
		return nil, catalog.ErrConflict
	}
	var about moveDoc
	if err := json.Unmarshal(of.Data, &about); err != nil {
		return nil, err
	}
	rep := move.Comparison{Move: req.Of, Tenant: about.Tenant, Serving: "s1", Follower: "s2", Outcome: move.Equal, Sample: 100, Tables: 2, Rows: 20, Bytes: 400,
		Differ: []diff.Table{}, Objects: []diff.Object{}}
	if about.Tenant == "clumsy" {
		def := "CREATE INDEX …"
		rep.Outcome, rep.DifferentObjects = move.Mismatch, 1
		rep.Differ = []diff.Table{{Name: `"public"."orders"`, Missing: 1, Changed: 1, Rows: []diff.RowDifference{{Kind: diff.Missing, Key: "id=7"}, {Kind: diff.Changed, Key: "id=8", Columns: []string{"total"}}}}}
		rep.Objects = []diff.Object{{Kind: "index", Name: "public.orders_day", Serving: &def}}
	}
	err = d.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if op, err = d.engine.RecordDone(ctx, tx, operation.Spec{Kind: move.KindVerify, Data: req, Actor: actor, RequestKey: key}, rep); err != nil {
			return err
		}
		return d.audit(ctx, tx, actor, "move.verify", about.Tenant)
	})
	return op, err
}
