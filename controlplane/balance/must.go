package balance

import (
	"cmp"
	"fmt"
	"slices"
)

// Kind is why a tenant moves, in a word.
type Kind string

const (
	ForDrain      Kind = "drain"      // its shard is being emptied
	ForConstraint Kind = "constraint" // it must not be where it is
	ForLimit      Kind = "limit"      // its shard is filled beyond its headroom
	ForBalance    Kind = "balance"    // its shard carries more than its even share
	ForSwap       Kind = "swap"       // as balance: it changes places with another
	ForRoom       Kind = "room"       // somebody who has to move needs its place
)

// cause is a [Reason] in the making.
type cause struct {
	kind   Kind
	share  float64 // for balance: what its shard carried of its even share
	in     Dimension
	detail string
}

// compulsory moves are not taken back.
func (c cause) compulsory() bool { return c.kind == ForDrain || c.kind == ForConstraint }

// takeOff lifts all tenants that may not stay where they are, and returns them.
// Those who cannot be moved are refused.
func (st *state) takeOff() (musts []int32) {
	st.settleExclusives()
	must := func(t int32, kind Kind, detail string) {
		if st.kind(t).Pinned {
			st.refused = append(st.refused, Refusal{st.tenants[t].ID, ByPinned, "the tenant is pinned to " + string(st.shards[st.at[t]].ID) + ", where it may not stay: " + detail})
			return
		}
		st.why[t] = cause{kind: kind, detail: detail}
		musts = append(musts, t)
	}
	keepers := st.keepers()
	for i := range st.tenants {
		t := int32(i) //nolint:gosec // a fleet has fewer than 2^31 tenants
		s, k := st.at[t], st.kind(t)
		sh := &st.shards[s]
		switch {
		case sh.State == Down || k.Exclusive:
		case sh.State == Draining:
			must(t, ForDrain, string(sh.ID)+" is being drained")
		case sh.reserved:
			must(t, ForConstraint, "a tenant has "+string(sh.ID)+" to itself")
		case !st.classes[k.class].fits[s]:
			_, detail := k.Refuses(sh.Shard)
			must(t, ForConstraint, detail)
		case k.group != 0 && keepers[groupAt{k.group, s}] != t:
			must(t, ForConstraint, fmt.Sprintf("%s has another tenant of the group %s", sh.ID, k.Apart))
		}
	}
	for _, t := range musts {
		st.lift(t)
	}
	return musts
}

// keepers names for each group on each shard the one that stays: a pinned one,
// or else the largest.
func (st *state) keepers() map[groupAt]int32 {
	keepers := map[groupAt]int32{}
	for i := range st.tenants {
		t := int32(i) //nolint:gosec // a fleet has fewer than 2^31 tenants
		k, s := st.kind(t), st.at[t]
		if k.group == 0 {
			continue
		}
		if was, has := keepers[groupAt{k.group, s}]; !has || cmp.Or(
			cmp.Compare(bit(k.Pinned), bit(st.kind(was).Pinned)),
			cmp.Compare(st.tenants[t].Usage[Bytes], st.tenants[was].Usage[Bytes]),
		) > 0 {
			keepers[groupAt{k.group, s}] = t
		}
	}
	return keepers
}

// settleExclusives gives every tenant that wants one a shard to itself: the one
// it is on, which the others leave, or an empty one, whichever moves fewer bytes.
func (st *state) settleExclusives() {
	for s := range st.shards {
		st.shards[s].reserved = false
	}
	var alone []int32
	for t := range st.tenants {
		if st.kinds[st.kindOf[t]].Exclusive && st.shards[st.at[t]].State != Down {
			alone = append(alone, int32(t)) //nolint:gosec // a fleet has fewer than 2^31 tenants
		}
	}
	// The pinned first, who have no choice.
	slices.SortStableFunc(alone, func(a, b int32) int { return cmp.Compare(bit(st.kind(b).Pinned), bit(st.kind(a).Pinned)) })
	for _, t := range alone {
		st.settleExclusive(t)
	}
}

func (st *state) settleExclusive(t int32) {
	s, k := st.at[t], st.kind(t)
	sh := &st.shards[s]
	u := st.tenants[t].use()
	mayStay := (sh.State == Active || sh.State == Cordoned) && st.classes[k.class].fits[s] && !sh.reserved
	others, stuck := 0.0, false // of those who would have to go
	for _, o := range sh.members {
		if o != t {
			others += st.tenants[o].Usage[Bytes]
			stuck = stuck || st.kind(o).Pinned
		}
	}
	empty := st.emptyFor(t)
	switch {
	case mayStay && (len(sh.members) == 1 || k.Pinned || !stuck && (empty == none || others <= u[Bytes])):
		sh.reserved = true
	case k.Pinned:
		st.refused = append(st.refused, Refusal{st.tenants[t].ID, ByPinned, "the tenant is pinned to " + string(sh.ID) + ", which it cannot have to itself"})
	case empty == none:
		st.refused = append(st.refused, Refusal{st.tenants[t].ID, ByExclusive, "the tenant wants a shard to itself, and no empty one will do"})
	default:
		kind, detail := ForConstraint, "the tenant wants a shard to itself"
		if sh.State == Draining {
			kind, detail = ForDrain, string(sh.ID)+" is being drained"
		}
		st.why[t] = cause{kind: kind, detail: detail}
		st.move(t, empty)
		st.shards[empty].reserved = true
	}
}

// emptyFor returns the smallest empty shard that will do for the tenant, or none.
func (st *state) emptyFor(t int32) int32 {
	best := none
	for i := range st.shards {
		s := int32(i) //nolint:gosec // fleets have thousands of shards
		sh := &st.shards[s]
		if len(sh.members) == 0 && !sh.reserved && st.admits(t, s) && (best == none || sh.weight[Bytes] < st.shards[best].weight[Bytes]) {
			best = s
		}
	}
	return best
}

// setDown finds a shard for each tenant in the air, the bulkiest first, which
// are the hardest to place. Where that leaves some without, the shards are
// evened out, and they get another chance.
func (st *state) setDown(tenants []int32) {
	bulk := make(map[int32]float64, len(tenants))
	for _, t := range tenants {
		bulk[t] = st.bulk(t)
	}
	slices.SortStableFunc(tenants, func(a, b int32) int { return cmp.Compare(bulk[b], bulk[a]) })
	var left []int32
	for _, t := range tenants {
		if s := st.seek(t); s != none {
			st.put(t, s)
		} else {
			left = append(left, t)
		}
	}
	if len(left) > 0 {
		st.relieve()
	}
	vain := 0
	for _, t := range left {
		if s := st.seek(t); s != none {
			st.put(t, s)
		} else if vain < hopeless && st.makeRoom(t, chain, func(sh *shard) Vector { return sh.limit }, anywhere) {
			vain = 0
		} else {
			vain++
			st.refused = append(st.refused, st.refusal(t))
			delete(st.why, t)
			st.put(t, st.home[t])
		}
	}
}

// bulk is the tenant's use in the dimension where it weighs most.
func (st *state) bulk(t int32) (most float64) {
	u := st.tenants[t].use()
	for _, p := range st.classes[st.kind(t).class].pools {
		sh := &st.shards[st.pools[p].shards[0]]
		for d := range u {
			most = max(most, u[d]*sh.scale[d])
		}
	}
	return most
}

// hopeless is for how many tenants in a row room is made in vain, until it is made for no other.
const hopeless = 16
