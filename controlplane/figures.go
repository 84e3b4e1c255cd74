package controlplane

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freehold-db/freehold/controlplane/catalog"
)

const (
	// figuresFor bounds a look at the catalog; figuresAge is how long one serves
	// all who ask, for /metrics is open to everybody.
	figuresFor = 2 * time.Second
	figuresAge = time.Second
)

var (
	catalogUp = prometheus.NewDesc("freehold_catalog_up", "1 if the catalog answered; the figures of the catalog are there only then.", nil, nil)
	unended   = prometheus.NewDesc("freehold_operations", "Operations that have not ended.", []string{"kind", "state"}, nil)
	outboxAge = prometheus.NewDesc("freehold_outbox_oldest_seconds", "How long the oldest change of a placement or shard has waited to be published.", nil, nil)
	auditLag  = prometheus.NewDesc("freehold_audit_relay_lag_seconds", "How long the oldest record has waited to be in the audit log.", nil, nil)
	soaks     = prometheus.NewDesc("freehold_soaks", "Tenants that can be taken back to where a move took them from.", nil, nil)
	soakBytes = prometheus.NewDesc("freehold_soak_kept_bytes_max", "The most log that a shard keeps so that one tenant can be taken back.", nil, nil)
	runMoves  = prometheus.NewDesc("freehold_rebalance_moves", "Moves of the run under way, by state; none without a run.", []string{"state"}, nil)
	poolReady = prometheus.NewDesc("freehold_warm_pool_ready", "Ready databases in a shard's warm pool.", []string{"shard"}, nil)
)

// figures shows at /metrics what the catalog says. Every replica shows the
// same, since all of it is the fleet's: take the maximum over replicas, not the sum.
type figures struct {
	store *catalog.Store
	log   *slog.Logger

	mu   sync.Mutex
	last catalog.Figures
	err  error
	at   time.Time
}

// Describe implements prometheus.Collector.
func (f *figures) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{catalogUp, unended, outboxAge, auditLag, soaks, soakBytes, runMoves, poolReady} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (f *figures) Collect(ch chan<- prometheus.Metric) {
	now, err := f.read()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if err != nil {
		gauge(catalogUp, 0)
		return
	}
	gauge(catalogUp, 1)
	for _, o := range now.Operations {
		gauge(unended, float64(o.Count), o.Kind, o.State)
	}
	gauge(outboxAge, now.OutboxAge.Seconds())
	gauge(auditLag, now.AuditAge.Seconds())
	gauge(soaks, float64(now.Soaks))
	gauge(soakBytes, float64(now.SoakBytes))
	for state, n := range now.Moves {
		gauge(runMoves, float64(n), string(state))
	}
	for id, n := range now.Ready {
		gauge(poolReady, float64(n), string(id))
	}
}

func (f *figures) read() (catalog.Figures, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.at) < figuresAge {
		return f.last, f.err
	}
	ctx, cancel := context.WithTimeout(context.Background(), figuresFor)
	defer cancel()
	was := f.err
	f.last, f.err = f.store.Figures(ctx)
	f.at = time.Now()
	if f.err != nil && was == nil {
		f.log.Warn("no figures of the catalog", "error", f.err)
	}
	return f.last, f.err
}
