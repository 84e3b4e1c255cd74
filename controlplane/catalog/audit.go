package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/trace"

	"github.com/freehold-db/freehold/shardmap"
)

// AuditRecord says who did what, to what, when, why and how it ended. It never holds a secret.
type AuditRecord struct {
	Actor   Actor
	Action  string            // verb of the admin API or what an operation did: "tenant.create", "move.flip", "operation.end"
	Object  string            // "tenant/acme", "shard/s1", "operation/0198…"
	Tenant  shardmap.TenantID // empty if it concerns none
	Outcome string            // "ok", "accepted", "refused", "failed", "canceled"
	TraceID string            // empty: that of the context's span
	Time    time.Time         // zero: the catalog's clock
	Details json.RawMessage   `json:",omitempty"` // nil or a JSON object without secrets
}

// AppendAudit writes r in tx, so that a change and its record are committed
// together; a relay carries it to the audit log (see package audit).
func (s *Store) AppendAudit(ctx context.Context, tx pgx.Tx, r AuditRecord) error {
	if sc := trace.SpanContextFromContext(ctx); r.TraceID == "" && sc.HasTraceID() {
		r.TraceID = sc.TraceID().String()
	}
	record, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("audit record %s of %s: %w", r.Action, r.Object, err)
	}
	_, err = tx.Exec(ctx, `insert into audit_outbox (record) values (
		case when $2 then jsonb_set($1::jsonb, '{Time}', to_jsonb(clock_timestamp())) else $1::jsonb end)`, record, r.Time.IsZero())
	if err != nil {
		return fmt.Errorf("audit record %s of %s: %w", r.Action, r.Object, Classify(err))
	}
	return nil
}

// AuditWaiting tells how many records wait in the outbox for the audit log,
// counted up to most, and how long the oldest has.
func (s *Store) AuditWaiting(ctx context.Context, most int64) (records int64, oldest time.Duration, err error) {
	var seconds float64
	err = s.pool.QueryRow(ctx, `select (select count(*) from (select from audit_outbox limit $1) as counted),
		coalesce((select extract(epoch from clock_timestamp() - (record->>'Time')::timestamptz) from audit_outbox order by id limit 1), 0)::float8`, most).
		Scan(&records, &seconds)
	if err != nil {
		return 0, 0, fmt.Errorf("audit outbox: %w", Classify(err))
	}
	return records, time.Duration(seconds * float64(time.Second)), nil
}
