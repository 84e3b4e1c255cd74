package balance

import "slices"

// step is one move, as it will be carried out.
type step struct {
	tenant, from, to int32
	why              cause
	before, after    float64 // what the target carries of its even share
}

// rank orders moves by urgency.
var rank = map[Kind]int{ForConstraint: 0, ForLimit: 1, ForRoom: 1, ForDrain: 2, ForBalance: 3, ForSwap: 3}

// sequence puts the moves into an order in which every single arrival keeps the
// hard constraints, carries them out in that order, and returns it. The tenants
// are then where the steps leave them.
//
// A move that must wait for others to leave its target waits. One that would wait
// for ever (a swap without free space) goes elsewhere if it has to, and else is left out.
func (st *state) sequence() []step {
	moves := st.moved(func(_ int32, why cause) (int, float64) { return rank[why.kind], why.share })
	target := make(map[int32]int32, len(moves))
	for _, t := range moves {
		target[t] = st.at[t]
		st.move(t, st.home[t])
	}
	var steps []step
	waiting := map[int32][]int32{} // by the shard that they wait for
	run := func(queue []int32) {
		for len(queue) > 0 {
			t := queue[0]
			queue = queue[1:]
			if !st.admits(t, target[t]) {
				waiting[target[t]] = append(waiting[target[t]], t)
				continue
			}
			from := st.at[t]
			steps = append(steps, st.carryOut(t, target[t]))
			queue = append(queue, waiting[from]...)
			delete(waiting, from)
		}
	}
	run(moves)
	for _, t := range moves {
		if st.at[t] != st.home[t] || !st.why[t].compulsory() {
			continue
		}
		to := st.seek(t)
		if to == none {
			continue
		}
		was := target[t]
		waiting[was] = without(waiting[was], t)
		target[t] = to
		run([]int32{t})
	}
	return steps
}

// refuseRest refuses those who have to move, could be elsewhere, and cannot get
// there: after a round in which nobody moved.
func (st *state) refuseRest() {
	var rest []int32
	for t, why := range st.why {
		if st.at[t] == st.home[t] && why.compulsory() {
			rest = append(rest, t)
		}
	}
	slices.Sort(rest)
	for _, t := range rest {
		st.refused = append(st.refused, Refusal{st.tenants[t].ID, BySpace,
			st.why[t].detail + "; there is a place for everybody, but no free space to get there"})
	}
}

func (st *state) carryOut(t, to int32) step {
	s := step{tenant: t, from: st.at[t], to: to, why: st.why[t]}
	s.before, _ = st.shards[to].share()
	st.move(t, to)
	s.after, _ = st.shards[to].share()
	return s
}

func without(tenants []int32, t int32) []int32 {
	rest := tenants[:0]
	for _, o := range tenants {
		if o != t {
			rest = append(rest, o)
		}
	}
	return rest
}
