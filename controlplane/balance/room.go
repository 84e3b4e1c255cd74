package balance

import (
	"cmp"
	"slices"
)

const (
	// tries bounds the shards that are cleared for one tenant, and clearings those
	// that are for it and for all who had to leave for it.
	tries     = 16
	clearings = 64
	// chain is how often one who leaves may make others leave in turn.
	chain = 2
)

// clearing makes room for a tenant: others leave a shard for it, and where one of
// them finds no place, others again for that one.
type clearing struct {
	st     *state
	most   func(sh *shard) Vector        // what a shard carries at most then
	accept func(s int32, u *Vector) bool // where those who leave may go
	closed map[int32]bool                // shards that are being cleared
	left   int                           // clearings
}

// leg is a move that may have to be taken back.
type leg struct{ tenant, from int32 }

// makeRoom puts a tenant that is in the air on a shard that others leave for it.
// Short chains are tried first. If it fails, all is as before.
func (st *state) makeRoom(t int32, longest int, most func(sh *shard) Vector, accept func(s int32, u *Vector) bool) bool {
	st.trail = st.trail[:0]
	for depth := 0; depth <= longest; depth += chain {
		c := &clearing{st, most, accept, map[int32]bool{}, clearings}
		if s := c.clearOne(t, depth); s != none {
			st.put(t, s)
			return true
		}
	}
	return false
}

// clearOne clears a shard for the tenant, and returns it; none if it can't, and then all is as before.
func (c *clearing) clearOne(t int32, depth int) int32 {
	st := c.st
	u := st.tenants[t].use()
	tried := 0
	for _, s := range c.candidates(t, &u) {
		left := c.most(&st.shards[s])
		left.sub(&u)
		if slices.Min(left[:]) < 0 {
			continue // too large for it, were it alone
		}
		if tried++; tried > tries || c.left == 0 {
			break
		}
		c.left--
		mark := len(st.trail)
		c.closed[s] = true
		done := c.clear(s, t, left, depth)
		delete(c.closed, s)
		if done {
			return s
		}
		st.rollBack(mark)
	}
	return none
}

// candidates are the shards that would do for the tenant, those first that have nobody of its group.
func (c *clearing) candidates(t int32, u *Vector) (shards []int32) {
	st := c.st
	for _, p := range st.classes[st.kind(t).class].pools {
		for _, s := range st.pools[p].shards {
			if !c.closed[s] && st.shards[s].exclusives == 0 {
				shards = append(shards, s)
			}
		}
	}
	slices.SortStableFunc(shards, func(a, b int32) int {
		return cmp.Or(
			cmp.Compare(bit(!st.welcome(t, a)), bit(!st.welcome(t, b))),
			cmp.Compare(st.cost(&st.shards[a], u), st.cost(&st.shards[b], u)),
		)
	})
	return shards
}

// clear has those leave the shard who keep the tenant from it: of its group, and
// others until the shard carries no more than most.
func (c *clearing) clear(s, t int32, most Vector, depth int) bool {
	st := c.st
	why := cause{kind: ForRoom, detail: "makes room for " + string(st.tenants[t].ID)}
	if group := st.kind(t).group; group != 0 && st.apart[groupAt{group, s}] > 0 {
		for _, o := range slices.Clone(st.shards[s].members) {
			if st.kind(o).group != group {
				continue
			}
			to := none
			if !st.fixed[o] {
				to = c.find(o, depth)
			}
			if to == none {
				return false
			}
			st.explain(o, why, s)
			st.move(o, to)
		}
	}
	_, done := st.shed(s, most, why, func(o int32) int32 { return c.find(o, depth) })
	return done
}

// find returns where a tenant that leaves may go, once others have made room for it if they have to.
func (c *clearing) find(t int32, depth int) int32 {
	s := c.st.look(t, len(c.st.shards), func(s int32, u *Vector) bool { return !c.closed[s] && c.accept(s, u) })
	if s == none && depth > 0 {
		return c.clearOne(t, depth-1)
	}
	return s
}

// rollBack takes the moves after a mark of the trail back, the last first.
func (st *state) rollBack(mark int) {
	for i := len(st.trail) - 1; i >= mark; i-- {
		l := st.trail[i]
		// Who has to move still has to, though it is back at home: it came by there
		// after others had left, who may come back.
		if st.home[l.tenant] == l.from && !st.why[l.tenant].compulsory() {
			delete(st.why, l.tenant)
		}
		st.lift(l.tenant)
		st.put(l.tenant, l.from)
	}
	st.trail = st.trail[:mark]
}
