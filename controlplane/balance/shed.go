package balance

const (
	// moveCost is what a move costs beside its bytes, in bytes: it keeps a plan from
	// moving a hundred empty databases where one small one does.
	moveCost = 100e6
	// wasteful is what moving a shard's whole even share without relieving anything
	// would cost, in even shares of bytes: it keeps tenants that are large in
	// dimensions that need no relief from taking up the room of others.
	wasteful = 0.1
)

// misses bounds how many tenants in a row found no place before their shard is given up.
const misses = 64

// shed moves tenants off the shard until it carries no more than most, or nobody
// is left who could go, and returns who went. It takes the one with the best
// relief per byte each time, to where find says (none: nowhere).
func (st *state) shed(s int32, most Vector, why cause, find func(t int32) int32) (gone []int32, done bool) {
	sh := &st.shards[s]
	excess, any := sh.excess(&most)
	if !any {
		return nil, true
	}
	whole := excess
	// What they use lies all over the memory: it is fetched once, side by side.
	queue, uses := st.queue[:0], st.uses[:0]
	st.queue, st.uses = nil, nil // find may shed others
	defer func() { st.queue, st.uses = queue, uses }()
	for _, t := range sh.members {
		if !st.fixed[t] {
			queue = append(queue, relief{tenant: t, use: int32(len(uses))}) //nolint:gosec // a fleet has fewer than 2^31 tenants
			uses = append(uses, st.tenants[t].use())
		}
	}
	weigh := func() {
		for i := range queue {
			queue[i].worth = sh.relief(&uses[queue[i].use], &excess, &whole)
		}
		queue.heapify()
	}
	weigh()
	missed := 0
	for len(queue) > 0 && queue[0].worth > 0 && missed < misses {
		// What a tenant is worth only falls while its shard is relieved: the
		// first whose worth is still what it was is the best of all.
		t := queue[0].tenant
		if worth := sh.relief(&uses[queue[0].use], &excess, &whole); worth < queue[0].worth {
			queue[0].worth = worth
			queue.down(0)
			continue
		}
		queue.pop()
		to := find(t)
		if to == none {
			missed++
			continue
		}
		missed = 0
		st.explain(t, why, s)
		st.move(t, to)
		gone = append(gone, t)
		was := excess
		if excess, any = sh.excess(&most); !any {
			return gone, true
		}
		if excess.zeros() > was.zeros() { // what relieved it of that is worth nothing, and they are many
			weigh()
		}
	}
	return gone, false
}

func (v *Vector) zeros() (n int) {
	for _, x := range v {
		if x == 0 {
			n++
		}
	}
	return n
}

// excess is what the shard carries too much, by its scale.
func (sh *shard) excess(most *Vector) (excess Vector, any bool) {
	for d := range most {
		if over := sh.load[d] - most[d]; over > 0 && sh.load[d] > most[d]*(1+slack) {
			excess[d], any = over*sh.scale[d], true
		}
	}
	return excess, any
}

// relief is how much of the shard's excess goes with a tenant that uses u, per byte.
// All dimensions count the same: what is left of each is a share of what it was.
func (sh *shard) relief(u, excess, whole *Vector) (worth float64) {
	waste := 0.0
	for d := range excess {
		part := u[d] * sh.scale[d]
		if excess[d] > 0 {
			worth += min(excess[d], part) / whole[d]
		}
		waste += max(0, part-excess[d])
	}
	return worth / (u[Bytes] + moveCost + wasteful*waste*sh.even[Bytes])
}

// explain notes why the tenant leaves the shard, unless there was a reason before.
func (st *state) explain(t int32, why cause, s int32) {
	if _, has := st.why[t]; has {
		return
	}
	why.share, why.in = st.shards[s].share()
	st.why[t] = why
}

// reliefs is a heap of tenants by what moving them is worth; of equals the
// earlier tenant comes first.
type reliefs []relief

type relief struct {
	worth  float64
	tenant int32
	use    int32 // where shed keeps what it uses
}

func (h reliefs) before(i, j int) bool {
	return h[i].worth > h[j].worth || h[i].worth == h[j].worth && h[i].tenant < h[j].tenant
}

func (h reliefs) heapify() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

func (h reliefs) down(i int) {
	for {
		first := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if h.before(child, first) {
				first = child
			}
		}
		if first == i {
			return
		}
		h[i], h[first] = h[first], h[i]
		i = first
	}
}

func (h *reliefs) pop() {
	last := len(*h) - 1
	(*h)[0] = (*h)[last]
	*h = (*h)[:last]
	h.down(0)
}
