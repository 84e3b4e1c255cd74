package balance

import (
	"cmp"
	"slices"
)

// undo takes moves back that turned out not to be needed, the largest first, and
// tells whether there were any.
func (st *state) undo() (undone bool) {
	for _, t := range st.moved(func(a, b int32) int {
		return cmp.Compare(st.tenants[b].Usage[Bytes], st.tenants[a].Usage[Bytes])
	}) {
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

// moved returns the tenants that are not at home, in order.
func (st *state) moved(order func(a, b int32) int) []int32 {
	var moved []int32
	for t := range st.why {
		if st.at[t] != st.home[t] {
			moved = append(moved, t)
		}
	}
	slices.Sort(moved)
	slices.SortStableFunc(moved, order)
	return moved
}
