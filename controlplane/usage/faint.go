package usage

import (
	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/catalog"
)

// What a shard is taken to bear where it was not measured and nobody gave a capacity.
const (
	someSessions   = 100
	someProcessors = 1
	someWAL        = 64 << 20 // bytes a second
)

// size is what a server bears, about: nothing that a plan must keep to, but
// enough to tell what is little.
func size(f catalog.ShardFigures) (v balance.Vector) {
	v[balance.Connections], v[balance.Load], v[balance.WAL] = float64(f.MaxSessions), float64(f.Processors), someWAL
	if f.MaxSessions == 0 {
		v[balance.Connections] = someSessions
	}
	if f.Processors == 0 {
		v[balance.Load] = someProcessors
	}
	return v
}

// Faint leaves out of a fleet what is not worth moving anybody for: connections,
// load and log, where nobody gave a capacity and every shard carries less than the
// policy's floor of what its server bears. Such figures are mostly noise, and a
// planner that evened them out would never come to an end. figures are those of f.Shards.
func Faint(f *balance.Fleet, figures []catalog.ShardFigures, floor balance.Vector) {
	carried := make(map[string]*balance.Vector, len(f.Shards))
	for i := range f.Shards {
		v := f.Shards[i].Other
		carried[string(f.Shards[i].ID)] = &v
	}
	for i := range f.Tenants {
		t := &f.Tenants[i]
		v := carried[string(t.Shard)]
		for d, use := range t.Usage {
			v[d] += use
		}
	}
	var faint []balance.Dimension
	for _, d := range []balance.Dimension{balance.Connections, balance.Load, balance.WAL} {
		little := true
		for i := range f.Shards {
			s := &f.Shards[i]
			little = little && s.Capacity[d] == 0 && carried[string(s.ID)][d] < floor[d]*size(figures[i])[d]
		}
		if little {
			faint = append(faint, d)
		}
	}
	for _, d := range faint {
		for i := range f.Shards {
			f.Shards[i].Other[d] = 0
		}
		for i := range f.Tenants {
			f.Tenants[i].Usage[d] = 0
		}
	}
}
