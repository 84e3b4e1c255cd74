package balance

import (
	"cmp"
	"slices"
)

// passes bounds how often the shards over their band are gone through.
const passes = 16

// relieve brings shards under their bands, the fullest first, and tells whether
// it moved anybody.
//
// Every move lowers the fleet's pain (see [shard.pain]): so it comes to an end,
// and a fleet in which it finds nothing to do is one in which it finds nothing again.
func (st *state) relieve() (moved bool) {
	for range passes {
		again := false
		for _, s := range st.overfull() {
			again = st.relieveShard(s) || again
		}
		if !again {
			break
		}
		moved = true
	}
	return moved
}

// overfull returns the shards over their bands, the fullest first.
func (st *state) overfull() []int32 {
	type full struct {
		shard int32
		pain  float64
	}
	var over []full
	nothing := Vector{}
	for i := range st.shards {
		sh := &st.shards[i]
		if sh.State == Down || sh.State == Draining || sh.reserved {
			continue
		}
		if _, is := sh.excess(&sh.band); is {
			over = append(over, full{int32(i), sh.pain(&nothing)}) //nolint:gosec // fleets have thousands of shards
		}
	}
	slices.SortStableFunc(over, func(a, b full) int { return cmp.Compare(b.pain, a.pain) })
	shards := make([]int32, len(over))
	for i, o := range over {
		shards[i] = o.shard
	}
	return shards
}

// outOfBalance tells whether some shard is so far over that a plan should begin.
func (st *state) outOfBalance() bool {
	p := &st.policy
	for _, s := range st.overfull() {
		sh := &st.shards[s]
		most := st.bearable(sh)
		for d := range most {
			most[d] = min(most[d]*(1+p.Tolerance+p.Margin)/(1+p.Tolerance), sh.limit[d])
		}
		if _, is := sh.excess(&most); is {
			return true
		}
	}
	return false
}

// bearable is what the shard is relieved to: its band, or where it has a tenant
// that is larger than the even share of any shard, or pinned ones, little more than those.
func (st *state) bearable(sh *shard) Vector {
	var giant Vector
	pinned := sh.Other
	if sh.odds > 0 {
		for _, t := range sh.members {
			if !st.odd[t] {
				continue
			}
			u, most := st.tenants[t].use(), &st.classes[st.kind(t).class].roomiest
			if st.kind(t).Pinned {
				pinned.add(&u)
			}
			for d := range giant {
				if u[d] > most[d] {
					giant[d] = max(giant[d], u[d])
				}
			}
		}
	}
	most := sh.band
	for d := range most {
		if sh.even[d] > 0 {
			most[d] = min(sh.limit[d], max(most[d], max(giant[d], pinned[d])*(1+st.policy.Tolerance)))
		}
	}
	return most
}

// relieveShard moves tenants off a shard to where they disturb no band. Where
// that does not do, it takes what at least makes things better, and goes on.
func (st *state) relieveShard(s int32) (moved bool) {
	sh := &st.shards[s]
	elsewhere := func(t int32) int32 {
		return st.look(t, patience, func(r int32, u *Vector) bool { return r != s && st.within(r, u) })
	}
	moved = st.rehouse(s)
	for range len(sh.members) + 1 {
		most := st.bearable(sh)
		gone, done := st.shed(s, most, cause{kind: st.overKind(sh)}, elsewhere)
		moved = moved || len(gone) > 0
		if done {
			return moved
		}
		if !st.ease(s, &most) && !st.exchange(s, &most) {
			return moved
		}
		moved = true
	}
	return moved
}

// rehouse moves tenants that are too large for their shard, were only those who
// may not go with them on it, to larger ones, where others make room for them if
// they have to: so that a small shard is not emptied around them in vain.
func (st *state) rehouse(s int32) (moved bool) {
	sh := &st.shards[s]
	if sh.odds == 0 {
		return false
	}
	left := st.bearable(sh) // beside who may not go
	left.sub(&sh.Other)
	var large []int32
	for _, t := range sh.members {
		if u := st.tenants[t].use(); st.fixed[t] {
			left.sub(&u)
		} else if st.odd[t] {
			large = append(large, t)
		}
	}
	for _, t := range large {
		if u := st.tenants[t].use(); !u.under(&left) {
			moved = st.rehouseOne(t, s) || moved
		}
	}
	return moved
}

func (st *state) rehouseOne(t, s int32) bool {
	_, had := st.why[t]
	st.explain(t, cause{kind: st.overKind(&st.shards[s])}, s)
	st.lift(t)
	if to := st.look(t, patience, func(r int32, u *Vector) bool { return r != s && st.within(r, u) }); to != none {
		st.put(t, to)
		return true
	}
	if st.makeRoom(t, 0, func(sh *shard) Vector { return sh.band }, st.within) {
		return true
	}
	st.put(t, s)
	if !had {
		delete(st.why, t)
	}
	return false
}

func (v *Vector) under(most *Vector) bool {
	for d := range v {
		if v[d] > most[d] {
			return false
		}
	}
	return true
}

func (st *state) overKind(sh *shard) Kind {
	if _, over := sh.excess(&sh.limit); over {
		return ForLimit
	}
	return ForBalance
}

// pain is how badly the shard is over its band, with delta more: the sum of the
// squares, so that one shard far over is worse than two a little over.
func (sh *shard) pain(delta *Vector) (sum float64) {
	for d := range sh.band {
		if over := sh.load[d] + delta[d] - sh.band[d]; over > 0 {
			over *= sh.scale[d]
			sum += over * over
		}
	}
	return sum
}

// A change has to take at least a part of a shard's pain to be worth a move.
const (
	better  = 0.05
	painful = 1e-12 // less is rounding
)

// choices bounds the tenants of a shard that ease and exchange look at.
const choices = 24

// ease moves the tenant off the shard that takes most pain away for its bytes,
// though another shard comes over its band by it.
func (st *state) ease(s int32, most *Vector) bool {
	sh := &st.shards[s]
	nothing := Vector{}
	before := sh.pain(&nothing)
	least := better*before + painful
	best, tenant, to := 0.0, none, none
	for _, t := range st.heaviest(s, most) {
		u := st.tenants[t].use()
		gain := before - sh.pain(u.negative())
		for _, p := range st.classes[st.kind(t).class].pools {
			for _, r := range st.pools[p].shards {
				rs := &st.shards[r]
				if r == s || gain < least || !rs.room(&u) || !st.welcome(t, r) {
					continue
				}
				gain := gain + rs.pain(&nothing) - rs.pain(&u)
				if worth := gain / (u[Bytes] + moveCost); gain >= least && worth > best {
					best, tenant, to = worth, t, r
				}
			}
		}
	}
	if tenant == none {
		return false
	}
	st.explain(tenant, cause{kind: st.overKind(sh)}, s)
	st.move(tenant, to)
	return true
}

// heaviest returns tenants of the shard that use most of what it has too much of.
func (st *state) heaviest(s int32, most *Vector) []int32 {
	sh := &st.shards[s]
	excess, _ := sh.excess(most)
	var queue reliefs
	for _, t := range sh.members {
		if st.fixed[t] {
			continue
		}
		u, weight := st.tenants[t].use(), 0.0
		for d := range excess {
			if excess[d] > 0 {
				weight += u[d] * sh.scale[d]
			}
		}
		if weight > 0 {
			queue = append(queue, relief{worth: weight, tenant: t})
		}
	}
	queue.heapify()
	var tenants []int32
	for len(queue) > 0 && len(tenants) < choices {
		tenants = append(tenants, queue[0].tenant)
		queue.pop()
	}
	return tenants
}

func (v Vector) negative() *Vector {
	for d := range v {
		v[d] = -v[d]
	}
	return &v
}
