package usage_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/move/pace"
	"github.com/freehold-db/freehold/controlplane/usage"
)

func TestWhatThePlannerIsTold(t *testing.T) {
	t.Parallel()
	nothing := usage.Typical(nil)
	for d, v := range nothing {
		require.Positive(t, v, balance.Dimension(d).String())
	}
	shards := []catalog.ShardReading{
		{ShardFigures: catalog.ShardFigures{Tenants: catalog.Carried{Databases: 1, Bytes: 30, Connections: 3, Load: 6, WAL: 9}}},
		{ShardFigures: catalog.ShardFigures{Tenants: catalog.Carried{Databases: 2, Bytes: 60, Connections: 9}, Other: catalog.Carried{Databases: 4, Bytes: 5, Connections: 6, Load: 7, WAL: 8}}},
		{}, // never measured
	}
	typical := usage.Typical(shards)
	require.Equal(t, balance.Vector{balance.Bytes: 30, balance.Connections: 4, balance.Load: 2, balance.WAL: 3, balance.Databases: 1}, typical)
	require.Equal(t, balance.Vector{balance.Bytes: 5, balance.Connections: 6, balance.Load: 7, balance.WAL: 8, balance.Databases: 4}, usage.Other(shards[1]))
	v, busy := usage.Tenant(catalog.PlacedTenant{}, typical)
	require.Equal(t, typical, v, "a stranger is as the others are")
	require.Zero(t, busy)
	v, busy = usage.Tenant(catalog.PlacedTenant{Measured: true, Load: 2, Busy: 1 << 7}, typical)
	require.Equal(t, balance.Vector{balance.Load: 2, balance.Databases: 1}, v)
	require.True(t, busy.At(time.Date(2026, 1, 1, 7, 30, 0, 0, time.UTC)))
}

func TestStrainOfAShard(t *testing.T) {
	t.Parallel()
	now := time.Now()
	calm := catalog.ShardReading{Shard: "s1", MeasuredAt: &now, ShardFigures: catalog.ShardFigures{Rates: catalog.Rates{Requests: 1}, Active: 2, Processors: 2, P95: 0.2}}
	with := func(change func(r *catalog.ShardReading)) catalog.ShardReading {
		r := calm
		change(&r)
		return r
	}
	b := usage.Bounds{P95: 500 * time.Millisecond, Bounds: pace.Bounds{Lag: 1 << 20}}
	for want, r := range map[string]catalog.ShardReading{
		"": calm,
		"9 sessions are active on s1 (at most 8)":                                   with(func(r *catalog.ShardReading) { r.Active = 9 }),
		"standby, which follows s1, is 2 MB behind (at most 1)":                     with(func(r *catalog.ShardReading) { r.Lag, r.Behind = 2e6, "standby" }),
		"requests of tenants on s1 take 700ms (95 of 100 take less; at most 500ms)": with(func(r *catalog.ShardReading) { r.P95 = 0.7 }),
		"s1 could not be measured for 5m0s: no route to host":                       with(func(r *catalog.ShardReading) { r.Age, r.Trouble = 5*time.Minute, "no route to host" }),
	} {
		require.Equal(t, want, b.Strain(r))
	}
	require.Empty(t, b.Strain(with(func(r *catalog.ShardReading) { r.Age, r.Trouble = time.Minute, "once" })))
	require.Empty(t, b.Strain(catalog.ShardReading{Shard: "s1", Trouble: "never measured yet"}))
	require.Empty(t, b.Strain(with(func(r *catalog.ShardReading) { r.P95, r.Requests = 30, 0.1 })), "a few slow requests are none")
	require.Empty(t, usage.Bounds{}.Strain(with(func(r *catalog.ShardReading) { r.P95 = 100 })), "without a bound there is none")
}

// Figures at /metrics name shards, and no tenant.
func TestMetrics(t *testing.T) {
	t.Parallel()
	store := catalogtest.Open(t)
	catalogtest.AddShard(t, store, "s1")
	catalogtest.AddShard(t, store, "unmeasured")
	mine, err := store.KeepShardUsage(t.Context(), "s1", "r1", time.Hour)
	require.NoError(t, err)
	require.True(t, mine)
	require.NoError(t, store.SaveShardReading(t.Context(), "s1", "r1", catalog.ShardFigures{Rates: catalog.Rates{Load: 1.5}, Lag: 7}, "", time.Hour))
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(usage.NewCollector(store)))
	families, err := registry.Gather()
	require.NoError(t, err)
	require.Len(t, families, 12)
	for _, f := range families {
		require.Len(t, f.GetMetric(), 1, f.GetName())
		labels := f.GetMetric()[0].GetLabel()
		require.Len(t, labels, 1)
		require.Equal(t, "s1", labels[0].GetValue())
		switch f.GetName() {
		case "freehold_shard_load":
			require.InDelta(t, 1.5, f.GetMetric()[0].GetGauge().GetValue(), 0)
		case "freehold_shard_replication_lag_bytes":
			require.InDelta(t, 7, f.GetMetric()[0].GetGauge().GetValue(), 0)
		}
	}
}

// A shard that was away is said to be, and measured again when it is back.
func TestAShardThatWasAway(t *testing.T) {
	t.Parallel()
	store, fleet := catalogtest.Open(t), &shards{Fleet: newFleet(t)}
	catalogtest.AddShard(t, store, "s1")
	fleet.away.Store(true)
	measure(t, store, fleet, nil, "r1")
	eventually(t, store, "it is said why", func(r catalog.ShardReading) bool { return r.Trouble != "" })
	fleet.away.Store(false)
	eventually(t, store, "it is measured", func(r catalog.ShardReading) bool { return r.Trouble == "" && r.MeasuredAt != nil })
}
