package catalog

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// AuditRecord says who did what, to what, when, why and how it ended. It never holds a secret.
type AuditRecord struct {
	Actor   Actor
	Action  string            // verb of the admin API or operation: "tenant.create", "move.flip"
	Object  string            // "tenant/acme", "shard/s1", "operation/0198…"
	Tenant  shardmap.TenantID // empty if it concerns none
	Outcome string            // "ok", "accepted", "refused", "failed"
	TraceID string
	Time    time.Time       // zero: the catalog's clock
	Details json.RawMessage // nil or a JSON object without secrets
}

// AppendAudit writes r in tx, so that a change and its record are committed
// together; a relay carries it to the audit log (see package audit).
func (s *Store) AppendAudit(ctx context.Context, tx pgx.Tx, r AuditRecord) error { return errTODO }
