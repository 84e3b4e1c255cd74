package balance

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// Standing is how well a fleet is balanced, against what is possible at all.
type Standing struct {
	// Worst is the fullest shard's load over the bound: the even share, or what
	// the largest single tenant makes of it, or what is pinned to the shard.
	Worst float64          `json:"worst"`
	Shard shardmap.ShardID `json:"shard,omitempty"`
	In    string           `json:"in,omitempty"`
	// LeastBytes have to move at least until every tenant is where it may be and
	// every shard within its band, could tenants be split where that helps: no plan
	// can do with less, and few with as little.
	LeastBytes float64 `json:"least_bytes"`
}

// Stand tells how a fleet stands. Errors: ErrInvalid.
func Stand(f *Fleet, p *Policy) (Standing, error) {
	st, err := newState(f, p, time.Time{})
	if err != nil {
		return Standing{}, err
	}
	var best Standing
	musts := st.takeOff()
	st.makePools()
	st.setLevels()
	for t, s := range st.home {
		if st.at[t] != s { // in the air, or alone on an empty shard
			best.LeastBytes += st.tenants[t].Usage[Bytes]
		}
	}
	for _, s := range st.overfull() {
		best.LeastBytes += st.leastBytes(s)
	}
	for _, t := range musts {
		best.LeastBytes += st.leastDisplaced(t)
	}
	for _, t := range musts {
		st.put(t, st.home[t])
	}
	bounds := st.bounds()
	for s := range st.shards {
		sh := &st.shards[s]
		pinned := sh.Other
		for _, t := range sh.members {
			if u := st.tenants[t].use(); st.kind(t).Pinned {
				pinned.add(&u)
			}
		}
		for d := range sh.load {
			if sh.even[d] == 0 {
				continue
			}
			bound := max(bounds[sh.pool][d]*sh.weight[d], pinned[d])
			if d == int(Databases) {
				bound = math.Ceil(bound)
			}
			if worst := sh.load[d] / bound; worst > best.Worst {
				best.Worst, best.Shard, best.In = worst, sh.ID, Dimension(d).String() //nolint:gosec // five of them
			}
		}
	}
	return best, nil
}

// bounds is, for each pool, the level below which no placement brings its fullest shard.
func (st *state) bounds() []Vector {
	largest := make([]Vector, len(st.classes)) // tenant of each class
	for t := range st.tenants {
		u := st.tenants[t].use()
		for d, most := range largest[st.kinds[st.kindOf[t]].class] {
			largest[st.kinds[st.kindOf[t]].class][d] = max(most, u[d])
		}
	}
	bounds := make([]Vector, len(st.pools))
	for p := range bounds {
		bounds[p] = st.pools[p].level
	}
	for c := range st.classes {
		var roomiest Vector // weight of the largest shard that will do
		for _, p := range st.classes[c].pools {
			for _, s := range st.pools[p].shards {
				for d := range roomiest {
					roomiest[d] = max(roomiest[d], st.shards[s].weight[d])
				}
			}
		}
		for _, p := range st.classes[c].pools {
			for d := range roomiest {
				bounds[p][d] = max(bounds[p][d], largest[c][d]/roomiest[d])
			}
		}
	}
	return bounds
}

// leastBytes have to leave the shard: in the dimension where that takes most,
// could its tenants be split, those with most relief per byte first.
func (st *state) leastBytes(s int32) (least float64) {
	sh := &st.shards[s]
	most := st.bearable(sh)
	members := slices.Clone(sh.members)
	for d := range most {
		left := sh.load[d] - most[d]
		if left <= 0 {
			continue
		}
		slices.SortFunc(members, func(a, b int32) int {
			x, y := &st.tenants[a].Usage, &st.tenants[b].Usage
			return cmp.Compare(y[d]*x[Bytes], x[d]*y[Bytes])
		})
		bytes := 0.0
		for _, t := range members {
			u := st.tenants[t].use()
			if u[d] >= left {
				bytes += u[Bytes] * left / u[d]
				break
			}
			bytes += u[Bytes]
			left -= u[d]
		}
		least = max(least, bytes)
	}
	return least
}

// leastDisplaced are the bytes that have to leave the shard which a tenant in the
// air is set down on, if it is the one with most room for it.
func (st *state) leastDisplaced(t int32) float64 {
	u := st.tenants[t].Usage[Bytes]
	class := &st.classes[st.kind(t).class]
	least := math.Inf(1)
	for _, p := range class.pools {
		for _, s := range st.pools[p].shards {
			sh := &st.shards[s]
			most := sh.band[Bytes]
			if u > class.roomiest[Bytes] { // see bearable
				most = max(most, u*(1+st.policy.Tolerance))
			}
			least = min(least, max(0, u-max(0, most-sh.load[Bytes])))
		}
	}
	if math.IsInf(least, 1) {
		return 0 // nobody may take it
	}
	return least
}

// Carry returns the fleet with the plan's moves carried out at the given time;
// f stays as it is. Errors: ErrInvalid, when a tenant is not where the plan has it.
func (p *Plan) Carry(f *Fleet, now time.Time) (*Fleet, error) {
	after := &Fleet{Shards: f.Shards, Tenants: slices.Clone(f.Tenants)}
	index := make(map[shardmap.TenantID]int, len(p.Moves))
	for _, m := range p.Moves {
		index[m.Tenant] = -1
	}
	for i := range after.Tenants {
		if _, moves := index[after.Tenants[i].ID]; moves {
			index[after.Tenants[i].ID] = i
		}
	}
	for _, m := range p.Moves {
		i := index[m.Tenant]
		if i < 0 || after.Tenants[i].Shard != m.From {
			return nil, fmt.Errorf("%w plan: tenant %s is not on %s", ErrInvalid, m.Tenant, m.From)
		}
		after.Tenants[i].Shard, after.Tenants[i].Moved = m.To, now
	}
	return after, nil
}
