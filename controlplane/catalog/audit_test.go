package catalog_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
)

// A record has the trace of the request that it is of, unless it says another.
func TestARecordKnowsItsTrace(t *testing.T) {
	t.Parallel()
	store := catalogtest.Open(t)
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, 2, 3}, SpanID: trace.SpanID{1}})
	catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error {
		ctx = trace.ContextWithSpanContext(ctx, span)
		require.NoError(t, store.AppendAudit(ctx, tx, catalog.AuditRecord{Action: "own", Object: "x"}))
		return store.AppendAudit(ctx, tx, catalog.AuditRecord{Action: "said", Object: "x", TraceID: "another"})
	})
	rows, err := store.Pool().Query(t.Context(), `select record->>'TraceID' from audit_outbox order by id`)
	require.NoError(t, err)
	traces, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{span.TraceID().String(), "another"}, traces)
}
