package balance

import "math"

// Within a pool the shards are a heap by what they carry of their even share,
// so that the best place for a tenant is found without looking at most of them.

// nudge breaks ties between shards by their number of databases, which also
// spreads tenants of which nothing is known yet.
const nudge = 1e-3

func (st *state) cost(sh *shard, u *Vector) float64 {
	// The average number of databases, as the pool's weights see it.
	usual := st.pools[sh.pool].level[Databases] * sh.weight[Databases]
	crowd := sh.load[Databases] + u[Databases]
	if usual > 0 {
		crowd /= usual
	}
	return sh.shareWith(u) + nudge*crowd
}

// patience is how many shards may refuse a tenant before no other is asked, where
// the tenant need not move: those that carry least of their even share were asked then.
const patience = 48

// seek returns the shard that carries least of its even share once it has the
// tenant, among those that may take it; none if there is none.
func (st *state) seek(t int32) int32 {
	return st.look(t, len(st.shards), anywhere)
}

// look is seek among accepted shards, until so many have refused.
func (st *state) look(t int32, refusals int, accept func(s int32, u *Vector) bool) int32 {
	u := st.tenants[t].use()
	best, least := none, math.Inf(1)
	for _, p := range st.classes[st.kind(t).class].pools {
		heap := st.pools[p].heap
		// What is below a shard in the heap is worse than it: if it is too bad
		// without the tenant already, those below are too. Level by level.
		ahead := append(st.ahead[:0], 0)
		for n := 0; n < len(ahead); n++ {
			i := ahead[n]
			if int(i) >= len(heap) || st.shards[heap[i]].key >= least {
				continue
			}
			s := heap[i]
			sh := &st.shards[s]
			if c := st.cost(sh, &u); c < least {
				if accept(s, &u) && st.welcome(t, s) && sh.room(&u) {
					best, least = s, c
				} else if refusals--; refusals < 0 {
					return best
				}
			}
			ahead = append(ahead, 2*i+1, 2*i+2)
		}
		st.ahead = ahead
	}
	return best
}

// anywhere accepts every shard.
func anywhere(int32, *Vector) bool { return true }

// within accepts shards that stay within their band.
func (st *state) within(s int32, u *Vector) bool {
	sh := &st.shards[s]
	for d := range sh.band {
		if u[d] > 0 && sh.load[d]+u[d] > sh.band[d]*(1+slack) {
			return false
		}
	}
	return true
}

func (st *state) heapify(po *pool) {
	po.heap = append(po.heap[:0], po.shards...)
	nothing := Vector{}
	for i, s := range po.heap {
		sh := &st.shards[s]
		sh.inHeap, sh.key = int32(i), st.cost(sh, &nothing) //nolint:gosec // fleets have thousands of shards
	}
	for i := len(po.heap)/2 - 1; i >= 0; i-- {
		st.down(po.heap, int32(i)) //nolint:gosec // as above
	}
}

// sift puts a shard in its place after its load changed.
func (st *state) sift(s int32) {
	sh := &st.shards[s]
	if sh.pool == none || len(st.pools[sh.pool].heap) == 0 {
		return
	}
	nothing := Vector{}
	sh.key = st.cost(sh, &nothing)
	heap := st.pools[sh.pool].heap
	i := sh.inHeap
	for i > 0 && st.above(heap, i, (i-1)/2) {
		st.swapHeap(heap, i, (i-1)/2)
		i = (i - 1) / 2
	}
	st.down(heap, i)
}

func (st *state) down(heap []int32, i int32) {
	n := int32(len(heap)) //nolint:gosec // fleets have thousands of shards
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < n; child++ {
			if st.above(heap, child, least) {
				least = child
			}
		}
		if least == i {
			return
		}
		st.swapHeap(heap, i, least)
		i = least
	}
}

// above tells whether the shard at i belongs above the one at j; equal ones keep the order of their numbers.
func (st *state) above(heap []int32, i, j int32) bool {
	a, b := &st.shards[heap[i]], &st.shards[heap[j]]
	return a.key < b.key || a.key == b.key && heap[i] < heap[j]
}

func (st *state) swapHeap(heap []int32, i, j int32) {
	heap[i], heap[j] = heap[j], heap[i]
	st.shards[heap[i]].inHeap, st.shards[heap[j]].inHeap = i, j
}
