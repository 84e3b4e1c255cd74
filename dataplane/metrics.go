package dataplane

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/freehold-db/freehold/router"
	"github.com/freehold-db/freehold/shardmap"
)

// condition is a gauge of 1 or 0.
func condition(name, help string, holds func() bool) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "freehold_" + name, Help: help}, func() float64 {
		if holds() {
			return 1
		}
		return 0
	})
}

// stats turns the counters that router and shard map keep anyway into metrics
// when somebody asks for them; the request path pays nothing.
type stats struct {
	router *router.Router
	shards *shardmap.Map
}

type figure struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(router.Stats, shardmap.MapStats) float64
}

var figures = func() (all []figure) {
	gauge := func(name, help string, of func(router.Stats, shardmap.MapStats) float64) {
		all = append(all, figure{prometheus.NewDesc("freehold_"+name, help, nil, nil), prometheus.GaugeValue, of})
	}
	counter := func(name, help string, of func(router.Stats, shardmap.MapStats) float64) {
		all = append(all, figure{prometheus.NewDesc("freehold_"+name+"_total", help, nil, nil), prometheus.CounterValue, of})
	}
	gauge("router_connections", "Connections to shards, open or being opened.", func(r router.Stats, _ shardmap.MapStats) float64 { return float64(r.Open) })
	gauge("router_connections_idle", "Connections to shards without a request.", func(r router.Stats, _ shardmap.MapStats) float64 { return float64(r.Idle) })
	gauge("router_pools", "Tenants that had a request lately.", func(r router.Stats, _ shardmap.MapStats) float64 { return float64(r.Pools) })
	gauge("router_requests_waiting", "Requests waiting for a connection.", func(r router.Stats, _ shardmap.MapStats) float64 { return float64(r.Waiting) })
	gauge("router_requests_held", "Requests held while their tenant cuts over.", func(r router.Stats, _ shardmap.MapStats) float64 { return float64(r.Held) })
	counter("router_dials", "Connections tried to open.", func(r router.Stats, _ shardmap.MapStats) float64 { return float64(r.Dials) })
	counter("router_dial_errors", "Connections that could not be opened.", func(r router.Stats, _ shardmap.MapStats) float64 { return float64(r.DialErrors) })
	counter("router_idle_lost", "Idle connections found dead when they were wanted.", func(r router.Stats, _ shardmap.MapStats) float64 { return float64(r.Stale) })
	counter("router_idle_evicted", "Idle connections closed to make room for another tenant.", func(r router.Stats, _ shardmap.MapStats) float64 { return float64(r.Evicted) })
	counter("router_idle_expired", "Idle connections closed for their age.", func(r router.Stats, _ shardmap.MapStats) float64 { return float64(r.Reaped) })
	counter("router_refused", "Attempts turned away or cut off, to be tried again.", func(r router.Stats, _ shardmap.MapStats) float64 { return float64(r.Refused) })
	counter("router_retries", "Further attempts.", func(r router.Stats, _ shardmap.MapStats) float64 { return float64(r.Retries) })
	counter("router_busy", "Requests that found a bound exhausted.", func(r router.Stats, _ shardmap.MapStats) float64 { return float64(r.Busy) })
	counter("router_outcome_unknown", "Writes of which nobody knows whether they were done.", func(r router.Stats, _ shardmap.MapStats) float64 { return float64(r.Unknown) })
	counter("router_holds", "Cutovers that held requests.", func(r router.Stats, _ shardmap.MapStats) float64 { return float64(r.Holds) })
	gauge("shardmap_tenants", "Placements remembered.", func(_ router.Stats, m shardmap.MapStats) float64 { return float64(m.Tenants) })
	counter("shardmap_hits", "Placements answered from memory.", func(_ router.Stats, m shardmap.MapStats) float64 { return float64(m.Hits) })
	counter("shardmap_misses", "Placements that had to be loaded.", func(_ router.Stats, m shardmap.MapStats) float64 { return float64(m.Misses) })
	counter("shardmap_negative_hits", "Tenants known from memory not to exist.", func(_ router.Stats, m shardmap.MapStats) float64 { return float64(m.NegativeHits) })
	counter("shardmap_refreshes", "Placements looked up again after a refusal.", func(_ router.Stats, m shardmap.MapStats) float64 { return float64(m.Refreshes) })
	counter("shardmap_loads", "Look-ups outside, for misses and refreshes.", func(_ router.Stats, m shardmap.MapStats) float64 { return float64(m.Loads) })
	counter("shardmap_load_errors", "Look-ups outside when nobody could be asked.", func(_ router.Stats, m shardmap.MapStats) float64 { return float64(m.LoadErrors) })
	counter("shardmap_applied", "News of placements taken in.", func(_ router.Stats, m shardmap.MapStats) float64 { return float64(m.Applied) })
	counter("shardmap_late", "News of placements that were old.", func(_ router.Stats, m shardmap.MapStats) float64 { return float64(m.Late) })
	counter("shardmap_invalid", "Messages that no control plane could have written.", func(_ router.Stats, m shardmap.MapStats) float64 { return float64(m.Invalid) })
	return all
}()

// Describe implements prometheus.Collector.
func (s stats) Describe(to chan<- *prometheus.Desc) {
	for _, f := range figures {
		to <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (s stats) Collect(to chan<- prometheus.Metric) {
	r, m := s.router.Stats(), s.shards.Stats()
	for _, f := range figures {
		to <- prometheus.MustNewConstMetric(f.desc, f.kind, f.of(r, m))
	}
}
