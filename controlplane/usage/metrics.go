package usage

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freehold-db/freehold/controlplane/catalog"
)

const (
	// metricsFor bounds a look at the catalog; metricsAge is how long one serves
	// all who ask, for /metrics is open to everybody.
	metricsFor = 2 * time.Second
	metricsAge = 5 * time.Second
)

// metric is one figure of a shard.
type metric struct {
	desc *prometheus.Desc
	of   func(r *catalog.ShardReading) float64
}

func shardMetric(name, help string, of func(r *catalog.ShardReading) float64) metric {
	return metric{prometheus.NewDesc("freehold_shard_"+name, help, []string{"shard"}, nil), of}
}

// metrics have a shard as their only label; no figure of a tenant is among them.
var metrics = []metric{
	shardMetric("measured_age_seconds", "How long ago the shard was last measured; figures are as old.", func(r *catalog.ShardReading) float64 { return r.Age.Seconds() }),
	shardMetric("bytes", "Bytes of all databases.", func(r *catalog.ShardReading) float64 { return r.Bytes() }),
	shardMetric("tenants_measured", "Tenants whose use is known.", func(r *catalog.ShardReading) float64 { return float64(r.Tenants.Databases) }),
	shardMetric("load", "Seconds of executing statements a second, over the last minutes.", func(r *catalog.ShardReading) float64 { return r.Load }),
	shardMetric("sessions", "Client sessions open.", func(r *catalog.ShardReading) float64 { return float64(r.Sessions) }),
	shardMetric("sessions_max", "Client sessions that the server takes.", func(r *catalog.ShardReading) float64 { return float64(r.MaxSessions) }),
	shardMetric("active_sessions", "Sessions in the middle of a statement.", func(r *catalog.ShardReading) float64 { return float64(r.Active) }),
	shardMetric("wal_bytes_per_second", "Write-ahead log, over the last minutes.", func(r *catalog.ShardReading) float64 { return r.WAL }),
	shardMetric("replication_lag_bytes", "How far the slowest standby or subscriber is behind.", func(r *catalog.ShardReading) float64 { return float64(r.Lag) }),
	shardMetric("transactions_per_second", "Transactions, over the last minutes.", func(r *catalog.ShardReading) float64 { return r.Transactions }),
	shardMetric("requests_per_second", "Requests of its tenants at the data plane, over the last minutes.", func(r *catalog.ShardReading) float64 { return r.Requests }),
	shardMetric("request_p95_seconds", "What 95 of 100 requests of its tenants took at most, in the last minute.", func(r *catalog.ShardReading) float64 { return r.P95 }),
}

// Collector shows at /metrics what shards use. Every replica shows the same of
// all shards: take the maximum over replicas, not the sum.
type Collector struct {
	store *catalog.Store

	mu   sync.Mutex
	last []catalog.ShardReading
	at   time.Time
}

// NewCollector makes one for a registry.
func NewCollector(store *catalog.Store) *Collector { return &Collector{store: store} }

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range metrics {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector. A shard that was never measured has no figures.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	for _, r := range c.read() {
		if r.MeasuredAt == nil {
			continue
		}
		for _, m := range metrics {
			ch <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, m.of(&r), string(r.Shard))
		}
	}
}

func (c *Collector) read() []catalog.ShardReading {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.at) < metricsAge {
		return c.last
	}
	ctx, cancel := context.WithTimeout(context.Background(), metricsFor)
	defer cancel()
	c.last, _ = c.store.ListShardReadings(ctx) // freehold_catalog_up says why there are none
	c.at = time.Now()
	return c.last
}
