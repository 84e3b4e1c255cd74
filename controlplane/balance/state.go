package balance

import (
	"math"
	"slices"
	"time"
)

// none is no tenant, shard or pool.
const none = int32(-1)

// slack keeps rounding from turning "exactly full" into "too full".
const slack = 1e-9

// state is a fleet while it is planned for. Shards, tenants, kinds and pools
// are numbers in it, and a tenant may be in the air: on no shard.
type state struct {
	policy  Policy
	now     time.Time
	shards  []shard
	tenants []Tenant

	kinds   []kind
	classes []class
	pools   []pool
	kindOf  []int32 // by tenant, as the following

	home  []int32 // where it is before the moves that are being planned
	at    []int32 // where it is after them
	place []int32 // its index in its shard's members
	fixed []bool  // not to be moved for the sake of balance
	odd   []bool  // pinned, or larger than the even share of some shard

	apart   map[groupAt]int32 // how many of a group are on a shard
	why     map[int32]cause   // of tenants that are to move
	refused []Refusal
	ahead   []int32 // of look, kept for the next
	queue   reliefs // of shed, likewise
	uses    []Vector
	trail   []leg // moves since makeRoom began
}

type groupAt struct{ group, shard int32 }

// shard is a shard and what is on it.
type shard struct {
	*Shard
	load    Vector
	weight  Vector // how large it is beside others: its capacity, or their average
	limit   Vector // what no arrival may exceed
	even    Vector // its even share; 0 where the dimension is not balanced
	band    Vector // what it should carry at most
	scale   Vector // 1 / even, or 1 / limit where the dimension is not balanced
	members []int32

	pool       int32 // none: takes nobody
	inHeap     int32 // its index in its pool's heap
	key        float64
	exclusives int32 // tenants on it that want it to themselves
	odds       int32 // odd tenants on it
	reserved   bool  // one of them stays
	untidy     bool  // members are not in order
}

func newState(f *Fleet, p *Policy, now time.Time) (*state, error) {
	index, err := f.index()
	if err != nil {
		return nil, err
	}
	n := len(f.Tenants)
	st := &state{
		policy: *p, now: now, tenants: f.Tenants, shards: make([]shard, len(f.Shards)),
		kindOf: make([]int32, n), home: make([]int32, n), at: make([]int32, n), place: make([]int32, n), fixed: make([]bool, n), odd: make([]bool, n),
		apart: map[groupAt]int32{}, why: map[int32]cause{},
	}
	for s := range f.Shards {
		st.shards[s] = shard{Shard: &f.Shards[s], load: f.Shards[s].Other, pool: none}
	}
	st.weigh()
	st.numberKinds()
	sizes := make([]int, len(f.Shards))
	for t := range f.Tenants {
		st.home[t] = index[f.Tenants[t].Shard]
		sizes[st.home[t]]++
	}
	for s, size := range sizes {
		st.shards[s].members = make([]int32, 0, size+size/16+8)
	}
	for t := range f.Tenants {
		st.at[t] = none
		st.put(int32(t), st.home[t]) //nolint:gosec // a fleet has fewer than 2^31 tenants
		_, cooling := p.Cooling(&f.Tenants[t], now)
		st.fixed[t] = cooling || st.kinds[st.kindOf[t]].Pinned || st.shards[st.home[t]].State == Down
	}
	for s := range st.shards {
		st.shards[s].untidy = false // they were filled in order
	}
	return st, nil
}

// weigh sets weights and limits from capacities. Where only some shards have a
// capacity the others count as their average; where none has, all are equal.
func (st *state) weigh() {
	for d := range Dimensions {
		sum, known := 0.0, 0
		for s := range st.shards {
			if c := st.shards[s].Capacity[d]; c > 0 {
				sum += c
				known++
			}
		}
		average := 1.0
		if known > 0 {
			average = sum / float64(known)
		}
		for s := range st.shards {
			sh := &st.shards[s]
			sh.weight[d], sh.limit[d] = average, math.Inf(1)
			if c := sh.Capacity[d]; c > 0 {
				sh.weight[d], sh.limit[d] = c, c*(1-st.policy.Headroom)
			}
		}
	}
}

func (st *state) kind(t int32) *kind { return &st.kinds[st.kindOf[t]] }

// put sets a tenant that is in the air down on a shard.
func (st *state) put(t, s int32) {
	sh, k := &st.shards[s], st.kind(t)
	u := st.tenants[t].use()
	sh.load.add(&u)
	sh.untidy = true
	st.at[t], st.place[t] = s, int32(len(sh.members)) //nolint:gosec // a fleet has fewer than 2^31 tenants
	sh.members = append(sh.members, t)
	if k.group != 0 {
		st.apart[groupAt{k.group, s}]++
	}
	if k.Exclusive {
		sh.exclusives++
	}
	if st.odd[t] {
		sh.odds++
	}
	st.sift(s)
}

// lift takes a tenant off its shard, into the air.
func (st *state) lift(t int32) {
	s := st.at[t]
	sh, k := &st.shards[s], st.kind(t)
	u := st.tenants[t].use()
	sh.load.sub(&u)
	sh.untidy = true
	last := sh.members[len(sh.members)-1]
	sh.members[st.place[t]], st.place[last] = last, st.place[t]
	sh.members = sh.members[:len(sh.members)-1]
	st.at[t] = none
	if k.group != 0 {
		st.apart[groupAt{k.group, s}]--
	}
	if k.Exclusive {
		sh.exclusives--
	}
	if st.odd[t] {
		sh.odds--
	}
	st.sift(s)
}

func (st *state) move(t, s int32) {
	st.trail = append(st.trail, leg{t, st.at[t]})
	st.lift(t)
	st.put(t, s)
}

// tidy brings shards into the state that they would have in a fleet that is
// planned for anew, to the last bit: so that a plan from here is that one.
func (st *state) tidy() {
	for s := range st.shards {
		sh := &st.shards[s]
		if !sh.untidy {
			continue
		}
		slices.Sort(sh.members)
		sh.load, sh.untidy = sh.Other, false
		for i, t := range sh.members {
			u := st.tenants[t].use()
			sh.load.add(&u)
			st.place[t] = int32(i) //nolint:gosec // a fleet has fewer than 2^31 tenants
		}
	}
}

// welcome tells whether the shard may take the tenant as far as those who are
// on it are concerned; room is another matter.
func (st *state) welcome(t, s int32) bool {
	sh, k := &st.shards[s], st.kind(t)
	return sh.exclusives == 0 && (!k.Exclusive || len(sh.members) == 0) &&
		(k.group == 0 || st.apart[groupAt{k.group, s}] == 0)
}

// room tells whether the shard stays within its limits with u more.
func (sh *shard) room(u *Vector) bool {
	for d := range sh.limit {
		if sh.load[d]+u[d] > sh.limit[d]*(1+slack) {
			return false
		}
	}
	return true
}

// admits tells whether the tenant may arrive at the shard now: every hard constraint.
func (st *state) admits(t, s int32) bool {
	sh := &st.shards[s]
	u := st.tenants[t].use()
	return sh.State == Active && st.classes[st.kind(t).class].fits[s] && st.welcome(t, s) && sh.room(&u)
}

// share is how many times its even share the shard carries, in the dimension where that is most.
func (sh *shard) share() (worst float64, in Dimension) {
	for d := range sh.load {
		if sh.even[d] > 0 && sh.load[d]*sh.scale[d] > worst {
			worst, in = sh.load[d]*sh.scale[d], Dimension(d) //nolint:gosec // five of them
		}
	}
	return worst, in
}

// shareWith is share with u more.
func (sh *shard) shareWith(u *Vector) (worst float64) {
	for d := range sh.load {
		if sh.even[d] > 0 {
			worst = max(worst, (sh.load[d]+u[d])*sh.scale[d])
		}
	}
	return worst
}
