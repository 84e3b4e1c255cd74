package simulate

import (
	"math/rand/v2"
	"slices"

	"github.com/freehold-db/freehold/controlplane/balance"
)

// Case is something that happens to a fleet.
type Case struct {
	Name string
	// Happen returns the fleet after it happened, and what is to be supposed
	// beside; the fleet that it is given stays as it is.
	Happen func(f *balance.Fleet, seed uint64) (*balance.Fleet, balance.Scenario)
}

// Cases are what happens to fleets that were in balance.
var Cases = []Case{
	// A tenth more shards.
	{"more-shards", func(f *balance.Fleet, _ uint64) (*balance.Fleet, balance.Scenario) {
		return f, balance.Scenario{Add: max(1, len(f.Shards)/10)}
	}},
	{"drain-one", func(f *balance.Fleet, _ uint64) (*balance.Fleet, balance.Scenario) {
		return f, drain(f, 1)
	}},
	// One shard in fifty.
	{"drain-some", func(f *balance.Fleet, _ uint64) (*balance.Fleet, balance.Scenario) {
		return f, drain(f, max(1, len(f.Shards)/50))
	}},
	{"hot", hot},
	{"grown", grown},
}

func drain(f *balance.Fleet, n int) (sc balance.Scenario) {
	for i := range n {
		sc.Drain = append(sc.Drain, f.Shards[i*len(f.Shards)/n].ID)
	}
	return sc
}

// hot makes some tenants of one shard in twenty busy: each of five takes an
// eighth of what a shard usually has to do.
func hot(f *balance.Fleet, seed uint64) (*balance.Fleet, balance.Scenario) {
	r := rand.New(rand.NewPCG(seed, 0x686f74))
	left := map[string]int{}
	for i := 0; i < len(f.Shards); i += 20 {
		left[string(f.Shards[i].ID)] = 5
	}
	after := &balance.Fleet{Shards: f.Shards, Tenants: slices.Clone(f.Tenants)}
	for _, i := range r.Perm(len(f.Tenants)) {
		t := &after.Tenants[i]
		if left[string(t.Shard)] == 0 {
			continue
		}
		left[string(t.Shard)]--
		for _, d := range []balance.Dimension{balance.Load, balance.WAL, balance.Connections} {
			t.Usage[d] += f.Shards[0].Capacity[d] * fill / 8
		}
	}
	return after, balance.Scenario{}
}

// grown makes the databases of one shard in twenty grow by half.
func grown(f *balance.Fleet, _ uint64) (*balance.Fleet, balance.Scenario) {
	on := map[string]bool{}
	for i := 0; i < len(f.Shards); i += 20 {
		on[string(f.Shards[i].ID)] = true
	}
	after := &balance.Fleet{Shards: f.Shards, Tenants: slices.Clone(f.Tenants)}
	for i := range after.Tenants {
		if t := &after.Tenants[i]; on[string(t.Shard)] {
			t.Usage[balance.Bytes] *= 1.5
		}
	}
	return after, balance.Scenario{}
}
