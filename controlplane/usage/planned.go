package usage

import (
	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/catalog"
)

// stranger is what a tenant is taken to use in a fleet where none was ever
// measured: little, but not nothing, so that many of them are still spread.
var stranger = balance.Vector{balance.Bytes: 10e6, balance.Connections: 1, balance.Load: 0.01, balance.WAL: 1e3, balance.Databases: 1}

// Typical is what a tenant is taken to use that was never measured: what
// those of the fleet that were use on average.
func Typical(shards []catalog.ShardReading) balance.Vector {
	var all catalog.Carried
	for _, s := range shards {
		t := s.Tenants
		all.Databases += t.Databases
		all.Bytes += t.Bytes
		all.Connections += t.Connections
		all.Load += t.Load
		all.WAL += t.WAL
	}
	if all.Databases == 0 {
		return stranger
	}
	n := float64(all.Databases)
	return balance.Vector{balance.Bytes: all.Bytes / n, balance.Connections: all.Connections / n, balance.Load: all.Load / n, balance.WAL: all.WAL / n, balance.Databases: 1}
}

// Tenant is what the planner is to know of a tenant's use, and when it is
// better not moved. One that was never measured counts as typical.
func Tenant(t catalog.PlacedTenant, typical balance.Vector) (balance.Vector, balance.Hours) {
	if !t.Measured {
		return typical, 0
	}
	return balance.Vector{balance.Bytes: t.Bytes, balance.Connections: t.Connections, balance.Load: t.Load, balance.WAL: t.WAL, balance.Databases: 1}, balance.Hours(t.Busy)
}

// Other is what a shard carries beside its tenants, as [balance.Shard] has it.
// Its databases are those of the platform's making; Postgres' own don't count.
func Other(s catalog.ShardReading) balance.Vector {
	o := s.Other
	return balance.Vector{balance.Bytes: o.Bytes, balance.Connections: o.Connections, balance.Load: o.Load, balance.WAL: o.WAL, balance.Databases: float64(o.Databases)}
}
