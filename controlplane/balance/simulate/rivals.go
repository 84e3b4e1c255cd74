package simulate

import (
	"container/heap"
	"slices"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/shardmap"
)

// Rival is another way of balancing a fleet. It changes where tenants live, and
// knows of no constraint but that drained shards are left.
type Rival struct {
	Name string
	Run  func(f *balance.Fleet)
}

// Rivals are what a planner should better be better than. The first two do what
// Citus' rebalancer does: from the fullest shard to the emptiest, until they
// differ by no more than the threshold.
var Rivals = []Rival{
	{"greedy by size", func(f *balance.Fleet) {
		greedy(f, func(t *balance.Tenant) float64 { return t.Usage[balance.Bytes] }, 0.1)
	}},
	{"greedy by count", func(f *balance.Fleet) {
		greedy(f, func(*balance.Tenant) float64 { return 1 }, 0)
	}},
	{"hash ring", hashAll},
}

// pile is a shard and the tenants on it, the most expensive first.
type pile struct {
	id      shardmap.ShardID
	weight  float64
	cost    float64
	tenants []int
	index   int
}

func (p *pile) fill() float64 { return p.cost / p.weight }

// piles is a heap by fill.
type piles struct {
	all   []*pile
	first func(a, b *pile) bool
	place func(p *pile, i int)
}

func (h *piles) Len() int           { return len(h.all) }
func (h *piles) Less(i, j int) bool { return h.first(h.all[i], h.all[j]) }
func (h *piles) Swap(i, j int) {
	h.all[i], h.all[j] = h.all[j], h.all[i]
	h.place(h.all[i], i)
	h.place(h.all[j], j)
}
func (h *piles) Push(any) {}
func (h *piles) Pop() any { return nil }

func greedy(f *balance.Fleet, cost func(*balance.Tenant) float64, threshold float64) {
	byID := map[shardmap.ShardID]*pile{}
	var active []*pile
	for i := range f.Shards {
		s := &f.Shards[i]
		p := &pile{id: s.ID, weight: max(1, s.Capacity[balance.Bytes])}
		byID[s.ID] = p
		if s.State == balance.Active {
			active = append(active, p)
		}
	}
	total, weight := 0.0, 0.0
	for t := range f.Tenants {
		p := byID[f.Tenants[t].Shard]
		p.tenants = append(p.tenants, t)
		p.cost += cost(&f.Tenants[t])
		total += cost(&f.Tenants[t])
	}
	byCost := func(a, b int) int {
		switch x, y := cost(&f.Tenants[a]), cost(&f.Tenants[b]); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return a - b
	}
	emptiest := &piles{first: func(a, b *pile) bool { return a.fill() < b.fill() }, place: func(p *pile, i int) { p.index = i }}
	for i, p := range active {
		slices.SortFunc(p.tenants, byCost)
		p.index = i
		weight += p.weight
		emptiest.all = append(emptiest.all, p)
	}
	heap.Init(emptiest)
	give := func(to *pile, t int) {
		f.Tenants[t].Shard = to.id
		to.cost += cost(&f.Tenants[t])
		heap.Fix(emptiest, to.index)
	}
	for i := range f.Shards {
		if f.Shards[i].State == balance.Draining {
			for _, t := range byID[f.Shards[i].ID].tenants {
				give(emptiest.all[0], t)
			}
		}
	}
	full := slices.Clone(active)
	mean := total / weight
	// Who gave all that helps is full no more, whatever it carries.
	slices.SortStableFunc(full, func(a, b *pile) int {
		switch {
		case a.fill() > b.fill():
			return -1
		case a.fill() < b.fill():
			return 1
		}
		return 0
	})
	for _, from := range full {
		for _, t := range slices.Clone(from.tenants) {
			c := cost(&f.Tenants[t])
			to := emptiest.all[0]
			if from.fill() <= mean*(1+threshold) {
				break
			}
			if to == from || (to.cost+c)/to.weight >= from.fill() {
				continue
			}
			from.cost -= c
			heap.Fix(emptiest, from.index)
			give(to, t)
		}
	}
}
