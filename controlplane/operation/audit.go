package operation

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
)

// ActionEnd is what the audit log calls the end of an operation.
const ActionEnd = "operation.end"

// outcomes are the audit log's words for the final states.
var outcomes = map[State]string{Done: "ok", Failed: "failed", Canceled: "canceled"}

// auditEnd writes how an operation that has just ended did so, as part of the
// transaction that ends it, under the name of who asked for it.
func (e *Engine) auditEnd(ctx context.Context, tx pgx.Tx, op *Operation) error {
	if !op.State.Final() {
		return nil
	}
	details, err := json.Marshal(struct {
		Kind  string `json:"kind"`
		Error string `json:"error,omitempty"` // safe to show; of a cancelled one, who cancelled it and why
	}{op.Kind, clip(op.Error)})
	if err != nil {
		return fmt.Errorf("end of operation %s: %w", op.ID, err)
	}
	return e.store.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: op.Actor, Action: ActionEnd, Object: "operation/" + op.ID,
		Tenant: op.Tenant, Outcome: outcomes[op.State], Details: details})
}
