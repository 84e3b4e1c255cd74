package balance

import "slices"

const (
	partnerShards  = 16 // shards that a tenant is tried to change places with
	partnerTenants = 64 // tenants of each
)

// exchange lets a tenant of the shard change places with one of another shard,
// where that takes most pain away for their bytes.
func (st *state) exchange(s int32, most *Vector) bool {
	nothing := Vector{}
	least := better*st.shards[s].pain(&nothing) + painful
	best, tenant, other := 0.0, none, none
	for _, t := range st.heaviest(s, most) {
		for _, r := range st.emptiest(t, s) {
			members := st.shards[r].members
			for i := 0; i < len(members); i += 1 + len(members)/partnerTenants {
				gain, ok := st.exchanged(t, members[i])
				bytes := st.tenants[t].Usage[Bytes] + st.tenants[members[i]].Usage[Bytes] + 2*moveCost
				if worth := gain / bytes; ok && gain >= least && worth > best {
					best, tenant, other = worth, t, members[i]
				}
			}
		}
	}
	if tenant == none {
		return false
	}
	r := st.at[other]
	st.explain(tenant, cause{kind: ForSwap, detail: string(st.tenants[other].ID)}, s)
	st.explain(other, cause{kind: ForSwap, detail: string(st.tenants[tenant].ID)}, r)
	st.lift(tenant)
	st.move(other, s)
	st.put(tenant, r)
	return true
}

// emptiest returns shards that carry little and that the tenant may be on.
func (st *state) emptiest(t, but int32) []int32 {
	var shards []int32
	for _, p := range st.classes[st.kind(t).class].pools {
		// The top of a heap holds most of its least.
		heap := st.pools[p].heap
		for _, r := range heap[:min(len(heap), 2*partnerShards)] {
			if r != but && !st.shards[r].reserved {
				shards = append(shards, r)
			}
		}
	}
	slices.SortFunc(shards, func(a, b int32) int {
		if st.shards[a].key != st.shards[b].key {
			if st.shards[a].key < st.shards[b].key {
				return -1
			}
			return 1
		}
		return int(a - b)
	})
	return shards[:min(len(shards), partnerShards)]
}

// exchanged tells how much less pain there is if both tenants change places, and whether they may.
func (st *state) exchanged(a, b int32) (gain float64, ok bool) {
	s, r := st.at[a], st.at[b]
	sh, rs := &st.shards[s], &st.shards[r]
	ka, kb := st.kind(a), st.kind(b)
	if st.fixed[b] || kb.Exclusive || !st.classes[kb.class].fits[s] || sh.pool == none {
		return 0, false
	}
	if ka.group != kb.group && (ka.group != 0 && st.apart[groupAt{ka.group, r}] > 0 || kb.group != 0 && st.apart[groupAt{kb.group, s}] > 0) {
		return 0, false
	}
	toS, toR := st.tenants[b].use(), st.tenants[a].use()
	if !rs.room(&toR) && !sh.room(&toS) {
		return 0, false // neither could go first
	}
	for d := range toS {
		toS[d], toR[d] = toS[d]-toR[d], toR[d]-toS[d]
	}
	if !rs.room(&toR) || !sh.room(&toS) {
		return 0, false
	}
	nothing := Vector{}
	return sh.pain(&nothing) + rs.pain(&nothing) - sh.pain(&toS) - rs.pain(&toR), true
}
