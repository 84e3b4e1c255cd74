package operation_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/operation"
)

// What ended, and what was taken over from a worker that fell silent, is counted; what was given back is no takeover.
func TestEndsAndTakeoversAreCounted(t *testing.T) {
	t.Parallel()
	store := catalogtest.Open(t)
	registry := prometheus.NewRegistry()
	e := operation.New(store, operation.Options{Logger: quiet, Worker: "w2", Registry: registry})
	operation.Register(e, operation.Kind[doc]{Name: "test", Steps: []operation.Step[doc]{{Name: "one", Do: note("one")}}})
	orphan, fresh := begin(t, e, operation.Spec{}), begin(t, e, operation.Spec{})
	_, err := store.Pool().Exec(testContext(t), `update operations set state = 'running', worker = 'w1', token = 1,
		lease_until = clock_timestamp() - interval '1 second', started_at = clock_timestamp() where id = $1`, orphan.ID)
	require.NoError(t, err)

	figures, err := store.Figures(testContext(t))
	require.NoError(t, err)
	require.ElementsMatch(t, []catalog.OperationCount{{Kind: "test", State: "pending", Count: 1}, {Kind: "test", State: "running", Count: 1}}, figures.Operations)
	require.Zero(t, figures.AuditAge)

	run(t, e)
	ended(t, e, orphan.ID)
	ended(t, e, fresh.ID)
	require.Eventually(t, func() bool { return value(t, registry, "freehold_operations_ended_total") == 2 }, 30*time.Second, 5*time.Millisecond)
	require.InDelta(t, 1, value(t, registry, "freehold_operation_takeovers_total"), 0)
	figures, err = store.Figures(testContext(t))
	require.NoError(t, err)
	require.Empty(t, figures.Operations)
	require.Positive(t, figures.AuditAge, "nobody carries the records of their ends")
}

// value sums a counter over its labels.
func value(t *testing.T, r *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := r.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
