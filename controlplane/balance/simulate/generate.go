// Package simulate makes up fleets of any size, and plays the ways of balancing
// them against each other: the planner, the greedy rebalancers of others, and
// placing by hash.
//
// Everything follows from a seed. Import law: as balance, which it is for.
package simulate

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/shardmap"
)

// Spread is how the tenants of a made-up fleet lie.
type Spread string

const (
	Even   Spread = "even"   // as well balanced as can be
	Hashed Spread = "hashed" // by a hash of their IDs
	OneFar Spread = "one"    // all on the first shard
)

// Fleet says what to make up.
type Fleet struct {
	Seed            uint64
	Shards, Tenants int
	Spread          Spread // Even if empty
	// Mixed adds what real fleets have: five regions, shards of three sizes,
	// anti-affinity groups, pinned tenants.
	Mixed bool
}

// fill is how full a made-up fleet is, of its capacity.
const fill = 0.6

// regions of a mixed fleet.
const regions = 5

// Validate refuses what cannot be made.
func (g Fleet) Validate() error {
	least := 1
	if g.Mixed {
		least = 3 * regions
	}
	switch {
	case g.Shards < least || g.Shards > 100_000:
		return fmt.Errorf("%w: %d shards: want %d to 100000", balance.ErrInvalid, g.Shards, least)
	case g.Tenants < 1 || g.Tenants > 20_000_000:
		return fmt.Errorf("%w: %d tenants: want 1 to 20000000", balance.ErrInvalid, g.Tenants)
	case g.Spread != "" && g.Spread != Even && g.Spread != Hashed && g.Spread != OneFar:
		return fmt.Errorf("%w: spread %q: want %s, %s or %s", balance.ErrInvalid, g.Spread, Even, Hashed, OneFar)
	}
	return nil
}

// Make makes the fleet up: sizes are lognormal, loads have a Zipf tail; both are
// skewed and correlated, as usage is. No tenant needs more than half a shard.
// A shard is named s1, s2 …, a tenant t1, t2 ….
func (g Fleet) Make() (*balance.Fleet, error) {
	if err := g.Validate(); err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(g.Seed, 0x66726565686f6c64))
	f := &balance.Fleet{Shards: make([]balance.Shard, g.Shards), Tenants: make([]balance.Tenant, g.Tenants)}
	usage := usages(r, g.Tenants, g.Shards)
	var total balance.Vector
	for _, u := range usage {
		for d := range total {
			total[d] += u[d]
		}
	}
	g.shards(f, total)
	needs := g.needs(r)
	for t := range f.Tenants {
		f.Tenants[t] = balance.Tenant{ID: shardmap.TenantID(fmt.Sprintf("t%d", t+1)), Usage: usage[t], Needs: needs(t)}
	}
	switch g.Spread {
	case Hashed:
		hashAll(f)
	case OneFar:
		for t := range f.Tenants {
			f.Tenants[t].Shard = f.Shards[0].ID
		}
	default:
		spreadEvenly(f)
		return g.balanced(f)
	}
	return f, nil
}

// usages draws what each tenant uses.
func usages(r *rand.Rand, tenants, shards int) []balance.Vector {
	usage := make([]balance.Vector, tenants)
	ranks := r.Perm(tenants)
	var total balance.Vector
	for t := range usage {
		size := r.NormFloat64()
		busy := 0.6*size + 0.8*r.NormFloat64()
		// A few are very busy, and most hardly ever.
		zipf := 1 / math.Pow(float64(ranks[t]+1)+float64(tenants)/100, 0.8)
		u := balance.Vector{
			balance.Bytes:     2e8 * math.Exp(1.5*size),
			balance.Load:      zipf * math.Exp(busy),
			balance.Databases: 1,
		}
		u[balance.Connections] = math.Sqrt(u[balance.Load]) * math.Exp(0.5*r.NormFloat64())
		u[balance.WAL] = u[balance.Load] * math.Exp(0.7*r.NormFloat64())
		for d := range u {
			total[d] += u[d]
		}
		usage[t] = u
	}
	// In units that mean something: the average shard of a made-up fleet.
	scale := balance.Vector{balance.Bytes: 1, balance.Databases: 1,
		balance.Load:        8 * float64(shards) / total[balance.Load],
		balance.Connections: 300 * float64(shards) / total[balance.Connections],
		balance.WAL:         2e7 * float64(shards) / total[balance.WAL],
	}
	for t := range usage {
		for d := range usage[t] {
			usage[t][d] = min(usage[t][d], total[d]/float64(shards)/2) * scale[d]
		}
		usage[t][balance.Databases] = 1
	}
	return usage
}

// shards gives the fleet shards that hold the total at the usual fill.
func (g Fleet) shards(f *balance.Fleet, total balance.Vector) {
	for s := range f.Shards {
		size, region := 1.0, ""
		labels := map[string]string(nil)
		if g.Mixed {
			size = []float64{0.5, 1, 2}[s/regions%3] / (3.5 / 3)
			region = fmt.Sprintf("r%d", s%regions+1)
			if s%4 == 0 {
				labels = map[string]string{"disk": "nvme"}
			}
		}
		var capacity balance.Vector
		for d := range capacity {
			capacity[d] = total[d] / float64(g.Shards) / fill * size
		}
		f.Shards[s] = balance.Shard{ID: shardmap.ShardID(fmt.Sprintf("s%d", s+1)), State: balance.Active, Region: region, Labels: labels, Capacity: capacity}
	}
}

// needs returns what gives a tenant its needs: none, unless the fleet is mixed.
func (g Fleet) needs(r *rand.Rand) func(t int) *balance.Needs {
	if !g.Mixed {
		return func(int) *balance.Needs { return nil }
	}
	var shared [regions]*balance.Needs
	var pinned [regions]*balance.Needs
	for i := range shared {
		region := fmt.Sprintf("r%d", i+1)
		shared[i] = &balance.Needs{Region: region}
		pinned[i] = &balance.Needs{Region: region, Pinned: true}
	}
	var grouped [regions]int
	return func(t int) *balance.Needs {
		i := t % regions
		switch x := r.Float64(); {
		case x < 0.02: // groups of three
			grouped[i]++
			return &balance.Needs{Region: shared[i].Region, Apart: fmt.Sprintf("r%d-g%d", i+1, (grouped[i]+2)/3)}
		case x < 0.03:
			return pinned[i]
		case x < 0.10:
			return nil
		}
		return shared[i]
	}
}

// spreadEvenly puts the tenants, the bulkiest first, on the shard that carries
// least, as a fleet would be that was balanced all the time.
func spreadEvenly(f *balance.Fleet) {
	byRegion := map[string]*emptiest{}
	for s := range f.Shards {
		region := f.Shards[s].Region
		if byRegion[region] == nil {
			byRegion[region] = &emptiest{}
		}
		byRegion[region].shards = append(byRegion[region].shards, &filling{shard: &f.Shards[s], groups: map[string]bool{}})
	}
	bulk := func(t *balance.Tenant) (most float64) {
		for d := range t.Usage {
			most = max(most, t.Usage[d]/f.Shards[0].Capacity[d])
		}
		return most
	}
	sorted := make([]int, len(f.Tenants))
	for t := range sorted {
		sorted[t] = t
	}
	slices.SortStableFunc(sorted, func(a, b int) int {
		x, y := bulk(&f.Tenants[a]), bulk(&f.Tenants[b])
		switch {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	for i, t := range sorted {
		region, group := "", ""
		if n := f.Tenants[t].Needs; n != nil {
			region, group = n.Region, n.Apart
		}
		if byRegion[region] == nil { // any will do
			region = fmt.Sprintf("r%d", i%regions+1)
		}
		h := byRegion[region]
		var aside []any
		for len(h.shards) > 1 && group != "" && h.shards[0].groups[group] {
			aside = append(aside, heap.Pop(h))
		}
		to := h.shards[0]
		to.take(&f.Tenants[t])
		if group != "" {
			to.groups[group] = true
		}
		heap.Fix(h, 0)
		for _, x := range aside {
			heap.Push(h, x)
		}
	}
}

// balanced is the fleet as a planner leaves it that has all the time it wants.
func (g Fleet) balanced(f *balance.Fleet) (*balance.Fleet, error) {
	p := balance.DefaultPolicy()
	p.Tolerance, p.Margin, p.Headroom = 0.02, 0, 0
	if g.Mixed {
		p.Tolerance = 0.05 // closer would take its small regions long
	}
	plan, err := balance.Make(f, &p, balance.Ask{})
	if err != nil {
		return nil, err
	}
	return plan.Carry(f, time.Time{})
}

// filling is a shard while it is filled; emptiest is a heap of them.
type filling struct {
	shard  *balance.Shard
	load   balance.Vector
	worst  float64
	groups map[string]bool
}

func (f *filling) take(t *balance.Tenant) {
	t.Shard = f.shard.ID
	f.worst = 0
	for d := range f.load {
		f.load[d] += t.Usage[d]
		f.worst = max(f.worst, f.load[d]/f.shard.Capacity[d])
	}
}

type emptiest struct{ shards []*filling }

func (h *emptiest) Len() int           { return len(h.shards) }
func (h *emptiest) Less(i, j int) bool { return h.shards[i].worst < h.shards[j].worst }
func (h *emptiest) Swap(i, j int)      { h.shards[i], h.shards[j] = h.shards[j], h.shards[i] }
func (h *emptiest) Push(x any)         { h.shards = append(h.shards, x.(*filling)) }
func (h *emptiest) Pop() any {
	last := h.shards[len(h.shards)-1]
	h.shards = h.shards[:len(h.shards)-1]
	return last
}
