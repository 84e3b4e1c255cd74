package dataplane

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// schemaFigures shows what the cache of schemas counts anyway, when somebody asks.
type schemaFigures struct{ of func() schema.Stats }

var (
	schemasKept     = prometheus.NewDesc("freehold_schemas", "Different schemas kept in memory.", nil, nil)
	schemaDatabases = prometheus.NewDesc("freehold_schema_databases", "Databases whose schema is remembered.", nil, nil)
	schemaBytes     = prometheus.NewDesc("freehold_schema_bytes", "Bytes of all schemas kept, roughly.", nil, nil)
	schemaLargest   = prometheus.NewDesc("freehold_schema_largest_bytes", "Bytes of the largest schema kept, roughly.", nil, nil)
	schemaEvictions = prometheus.NewDesc("freehold_schema_evictions_total", "Schemas thrown out for lack of room.", nil, nil)
	schemaReads     = prometheus.NewDesc("freehold_schema_reads_total", "Reads of a schema or its fingerprint at a tenant's database.", []string{"what"}, nil)
	schemaShared    = prometheus.NewDesc("freehold_schema_shared_total", "Databases whose schema was known from another one's of the same template.", nil, nil)
)

// Describe implements prometheus.Collector.
func (f schemaFigures) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{schemasKept, schemaDatabases, schemaBytes, schemaLargest, schemaEvictions, schemaReads, schemaShared} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (f schemaFigures) Collect(to chan<- prometheus.Metric) {
	s := f.of()
	gauge := func(d *prometheus.Desc, n float64) { to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n) }
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge(schemasKept, float64(s.Schemas))
	gauge(schemaDatabases, float64(s.Databases))
	gauge(schemaBytes, float64(s.Bytes))
	gauge(schemaLargest, float64(s.Largest))
	counter(schemaEvictions, s.Evicted)
	counter(schemaReads, s.Digests, "fingerprint")
	counter(schemaReads, s.Documents, "schema")
	counter(schemaShared, s.Shared)
}
