package balance

import "math"

// pool is a set of shards that no tenant's needs tell apart.
type pool struct {
	shards []int32
	heap   []int32 // the same, the one that carries least of its even share first
	weight Vector
	load   Vector // of all shards, were it spread evenly
	level  Vector // load / weight
}

// spreads bounds the rounds in which classes are spread over pools.
const spreads = 200

// setLevels works out what each shard would carry if tenants could be split at
// will and constraints on regions, classes and labels still held: that is its
// even share. Each class in turn is poured over its pools like water, until the
// levels stand still.
func (st *state) setLevels() {
	for p := range st.pools {
		po := &st.pools[p]
		po.weight, po.load = Vector{}, Vector{}
		for _, s := range po.shards {
			po.weight.add(&st.shards[s].weight)
			po.load.add(&st.shards[s].Other)
		}
	}
	totals := st.classTotals()
	for d := range Dimensions {
		st.pour(d, totals)
	}
	for s := range st.shards {
		st.setBand(&st.shards[s])
	}
	for p := range st.pools {
		st.heapify(&st.pools[p])
	}
	for c := range st.classes {
		cl := &st.classes[c]
		cl.roomiest, cl.tightest = Vector{}, unbounded
		for _, p := range cl.pools {
			for _, s := range st.pools[p].shards {
				for d, even := range st.shards[s].even {
					if even > 0 {
						cl.roomiest[d], cl.tightest[d] = max(cl.roomiest[d], even), min(cl.tightest[d], even)
					}
				}
			}
		}
	}
	st.countOdd()
}

var unbounded = Vector{math.Inf(1), math.Inf(1), math.Inf(1), math.Inf(1), math.Inf(1)}

// countOdd finds the few tenants that may keep a shard from ever being even.
func (st *state) countOdd() {
	for s := range st.shards {
		st.shards[s].odds = 0
	}
	for i := range st.tenants {
		t := int32(i) //nolint:gosec // a fleet has fewer than 2^31 tenants
		k, u := st.kind(t), st.tenants[t].use()
		if st.odd[t] = k.Pinned || !u.under(&st.classes[k.class].tightest); st.odd[t] && st.at[t] != none {
			st.shards[st.at[t]].odds++
		}
	}
}

// classTotals is what each class uses, of tenants that are where balance
// reaches, or on their way there.
func (st *state) classTotals() []Vector {
	totals := make([]Vector, len(st.classes))
	for t := range st.tenants {
		s := st.at[t]
		if s != none && st.shards[s].pool == none && st.shards[s].State != Draining {
			continue
		}
		if k := st.kind(int32(t)); !k.Exclusive { //nolint:gosec // a fleet has fewer than 2^31 tenants
			u := st.tenants[t].use()
			totals[k.class].add(&u)
		}
	}
	return totals
}

func (st *state) pour(d int, totals []Vector) {
	poured := make([][]float64, len(st.classes)) // by class and its pools
	for c := range poured {
		poured[c] = make([]float64, len(st.classes[c].pools))
	}
	for round := range spreads {
		moved := 0.0
		for c := range st.classes {
			pools := st.classes[c].pools
			if len(pools) == 0 || totals[c][d] == 0 || len(pools) == 1 && round > 0 {
				continue
			}
			for i, p := range pools {
				st.pools[p].load[d] -= poured[c][i]
			}
			surface := st.surface(d, pools, totals[c][d])
			for i, p := range pools {
				po := &st.pools[p]
				more := max(0, surface*po.weight[d]-po.load[d])
				moved = max(moved, (more-poured[c][i])/totals[c][d])
				poured[c][i] = more
				po.load[d] += more
			}
		}
		if moved < 1e-6 {
			break
		}
	}
	for p := range st.pools {
		po := &st.pools[p]
		po.level[d] = po.load[d] / po.weight[d]
	}
}

// surface is the level to which the amount fills the pools: those below it come up to it.
func (st *state) surface(d int, pools []int32, amount float64) float64 {
	low := append([]int32(nil), pools...)
	for {
		load, weight := amount, 0.0
		for _, p := range low {
			load += st.pools[p].load[d]
			weight += st.pools[p].weight[d]
		}
		level := load / weight
		under := low[:0]
		for _, p := range low {
			if st.pools[p].load[d] < level*st.pools[p].weight[d] {
				under = append(under, p)
			}
		}
		if len(under) == len(low) || len(under) == 0 {
			return level
		}
		low = under
	}
}

// coarse is the most that the tolerance is widened to on shards of few tenants.
const coarse = 0.1

// setBand says what the shard should carry at most: its limits, and where the
// dimension is worth it the band around its even share.
func (st *state) setBand(sh *shard) {
	sh.even, sh.band, sh.scale = Vector{}, sh.limit, Vector{}
	tolerance := st.policy.Tolerance
	if sh.pool != none {
		// A shard of few tenants cannot be balanced finer than by one of them.
		usual := st.pools[sh.pool].level[Databases] * sh.weight[Databases]
		tolerance = max(tolerance, min(coarse, 1/max(1, usual)))
	}
	for d := range Dimensions {
		if sh.Capacity[d] > 0 {
			sh.scale[d] = 1 / sh.limit[d]
		}
		if sh.pool == none {
			continue
		}
		level := st.pools[sh.pool].level[d]
		if level == 0 || sh.Capacity[d] > 0 && level < st.policy.Floor[d] {
			continue
		}
		sh.even[d] = level * sh.weight[d]
		sh.scale[d] = 1 / sh.even[d]
		band := (1 + tolerance) * sh.even[d]
		if d == int(Databases) {
			band = max(band, math.Ceil(sh.even[d])) // there are no half ones
		}
		sh.band[d] = min(sh.limit[d], band)
	}
}
