package usage

import (
	"github.com/freehold-db/freehold/controlplane/catalog"
)

// counters are a database's as Postgres has counted them since its statistics began.
type counters struct {
	reset        float64 // when they began to count, in seconds since 1970; 0: never reset
	transactions float64
	blocksHit    float64
	blocksRead   float64
	rowsRead     float64
	rowsWritten  float64
	busy         float64 // ms of statements that have ended, and of those that run
}

// list is those that only grow.
func (c *counters) list() [6]*float64 {
	return [...]*float64{&c.transactions, &c.blocksHit, &c.blocksRead, &c.rowsRead, &c.rowsWritten, &c.busy}
}

// since is what was counted after before. Statistics that were reset, by
// somebody or by a crash, began at zero in between.
func (c counters) since(before counters) counters {
	if c.anew(before) {
		return c
	}
	delta := c
	d, b := delta.list(), before.list()
	for i, v := range d {
		*v = max(0, *v-*b[i])
	}
	return delta
}

// anew tells whether c counts from a later beginning than before. A
// statement's time is left out: it falls a little when one ends, until Postgres has written it down.
func (c *counters) anew(before counters) bool {
	if c.reset != before.reset {
		return true
	}
	now, then := c.list(), before.list()
	for i := range len(now) - 1 {
		if *now[i] < *then[i] {
			return true
		}
	}
	return false
}

// next is what to compare the following look with: of a statement's time the
// most that was ever seen, so that none of it counts twice.
func (c counters) next(before counters) counters {
	if !c.anew(before) {
		c.busy = max(c.busy, before.busy)
	}
	return c
}

// mostBusy bounds the load of a database with few sessions: time that a session
// has spent for hours, such as one that streams changes, may be counted all at once when it ends.
const mostBusy = 16

// rates of what was counted in dt seconds; of the write-ahead log and of
// requests Postgres counts nothing by database.
func (c counters) rates(dt float64, sessions int) catalog.Rates {
	return catalog.Rates{
		Connections: float64(sessions), Load: min(c.busy/1000/dt, float64(max(sessions, mostBusy))), Transactions: c.transactions / dt,
		RowsRead: c.rowsRead / dt, RowsWritten: c.rowsWritten / dt, BlocksHit: c.blocksHit / dt, BlocksRead: c.blocksRead / dt,
	}
}
