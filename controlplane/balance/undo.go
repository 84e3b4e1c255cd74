package balance

import (
	"cmp"
	"slices"
)

// undo takes moves back that turned out not to be needed, the largest first, and
// tells whether there were any.
func (st *state) undo() (undone bool) {
	for _, t := range st.moved(func(t int32, _ cause) (int, float64) { return 0, st.tenants[t].Usage[Bytes] }) {
		home := st.home[t]
		u := st.tenants[t].use()
		if st.why[t].compulsory() || st.why[t].kind == ForRoom || !st.welcome(t, home) || !st.within(home, &u) {
			continue
		}
		st.move(t, home)
		delete(st.why, t)
		undone = true
	}
	return undone
}

// moved returns the tenants that are not at home: by rank, and among equals those with most weight first.
func (st *state) moved(order func(t int32, why cause) (rank int, weight float64)) []int32 {
	type mover struct {
		tenant int32
		rank   int
		weight float64
	}
	movers := make([]mover, 0, len(st.why))
	for t, why := range st.why {
		if st.at[t] != st.home[t] {
			rank, weight := order(t, why)
			movers = append(movers, mover{t, rank, weight})
		}
	}
	slices.SortFunc(movers, func(a, b mover) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(b.weight, a.weight), cmp.Compare(a.tenant, b.tenant))
	})
	moved := make([]int32, len(movers))
	for i, m := range movers {
		moved[i] = m.tenant
	}
	return moved
}
