package ledger

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// maxFailures bounds the failures kept in full per tenant; all are counted.
const maxFailures = 20

// A write's life: sent, then one of the others for good.
type outcome int

const (
	sent    outcome = iota // no answer yet; read as unknown when the book is closed
	acked                  // must be there once
	refused                // must not be there
	unknown                // may be there once
)

type write struct {
	put outcome
	// doubled: the server said the ID was there already, though it was sent once.
	doubled bool
	// ephemeral entries are deleted again after a while; reads leave them alone.
	ephemeral bool
	del       outcome // meaningful when deleting
	deleting  bool
}

// book is what one tenant's client knows. Counters are of finished requests.
type book struct {
	tenant  Tenant
	account int64

	turnedAway atomic.Int64

	mu        sync.Mutex
	entries   map[uuid.UUID]*write
	activity  map[uuid.UUID]*write
	lasting   []uuid.UUID // acknowledged entries to read again
	doomed    []uuid.UUID // acknowledged entries to delete
	requests  int64
	reads     int64
	writes    int64
	rows      int64 // rows seen by reads, each checked
	foreign   int64 // of them: another tenant's
	missing   int64 // acknowledged rows that a read did not find
	failed    int64
	unknowns  int64
	failures  []Failure
	latencies []time.Duration

	good []time.Time // when good answers came

	// The balance is written by one request at a time, counting up.
	balanceBusy bool
	balanceTry  int64 // highest value sent
	balanceAck  int64 // highest value acknowledged
	balances    int64 // how many were acknowledged
}

// longestGap is the longest time without a good answer that touches the time
// between from and to, cut off at start and end of the traffic; and when it began.
func (b *book) longestGap(start, end, from, to time.Time) (gap time.Duration, at time.Time) {
	b.mu.Lock()
	good := append([]time.Time{start}, b.good...)
	b.mu.Unlock()
	good = append(good, end)
	slices.SortFunc(good, time.Time.Compare)
	for i, t := range good[1:] {
		before := good[i]
		if d := t.Sub(before); d > gap && t.After(from) && before.Before(to) {
			gap, at = d, before
		}
	}
	return gap, at
}

// finished books one request: when it was due and how it ended.
func (b *book) finished(due time.Time, isWrite bool, f *Failure) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests++
	if isWrite {
		b.writes++
	} else {
		b.reads++
	}
	if f == nil {
		b.latencies = append(b.latencies, now.Sub(due))
		b.good = append(b.good, now)
		return
	}
	if f.Unknown {
		b.unknowns++
	} else {
		b.failed++
	}
	if len(b.failures) < maxFailures {
		b.failures = append(b.failures, *f)
	}
}

// settle books what became of a write.
func (w *write) settle(f *Failure) outcome {
	switch {
	case f == nil:
		return acked
	case f.Unknown:
		return unknown
	case f.Status == 409 && f.Code == "23505":
		// The ID was sent once, so somebody executed it twice. The row is there.
		w.doubled = true
		return unknown
	}
	return refused
}

// acknowledged counts the writes that were, deletes and updates too. Called under mu.
func (b *book) acknowledged() int64 {
	n := b.balances
	for _, w := range b.entries {
		if w.put == acked {
			n++
		}
		if w.deleting && w.del == acked {
			n++
		}
	}
	for _, w := range b.activity {
		if w.put == acked {
			n++
		}
	}
	return n
}
