package history

import (
	"fmt"
	"slices"
	"sync"
)

// Outcome is what the client of a transaction knows of it.
type Outcome string

// What becomes of a transaction.
const (
	Done    Outcome = "done"    // acknowledged: it must be there, once
	Refused Outcome = "refused" // it must not be there
	Unknown Outcome = "unknown" // it may be there, once
)

// Entry is what a transaction of the ledger writes: a row, and the balance of
// its account changed by its amount.
type Entry struct {
	ID      string `json:"id"`
	Tenant  string `json:"tenant"`
	Account int64  `json:"account"`
	Amount  int64  `json:"amount"`
}

// Book is what the ledger's clients know.
type Book struct {
	mu      sync.Mutex
	entries map[string]booked
}

type booked struct {
	Entry
	outcome Outcome
}

// Put writes down a transaction that has ended. IDs are never used twice.
func (b *Book) Put(e Entry, o Outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.entries == nil {
		b.entries = map[string]booked{}
	}
	b.entries[e.ID] = booked{e, o}
}

// Found is what is in one tenant's database.
type Found struct {
	Tenant   string
	Entries  []Entry
	Balances map[int64]int64 // by account
}

// Audit is what comes of holding the databases against the book.
type Audit struct {
	// Transactions in the book, and those of them whose outcome nobody knew; UnknownDone were done all the same.
	Transactions int `json:"transactions"`
	Unknown      int `json:"unknown"`
	UnknownDone  int `json:"unknown_done"`
	// Lost were acknowledged and are not there. Doubled are there more than once.
	Lost    int `json:"lost"`
	Doubled int `json:"doubled"`
	// Crossed are at a tenant whose they are not.
	Crossed int `json:"crossed"`
	// Ghosts were refused, or never sent, and are there.
	Ghosts int `json:"ghosts"`
	// Torn are accounts whose balance is not the sum of their rows: half of a transaction was done.
	Torn int `json:"torn"`
	// Details has a line for each of the first faults.
	Details []string `json:"details,omitempty"`
}

// Faults is how much is wrong.
func (a Audit) Faults() int { return a.Lost + a.Doubled + a.Crossed + a.Ghosts + a.Torn }

// maxDetails bounds the lines that tell of single faults.
const maxDetails = 50

func (a *Audit) fault(counter *int, format string, args ...any) {
	*counter++
	if len(a.Details) < maxDetails {
		a.Details = append(a.Details, fmt.Sprintf(format, args...))
	}
}

// Audit compares the book with every tenant's database, each looked into when
// nothing was under way any more.
func (b *Book) Audit(databases []Found) Audit {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := Audit{Transactions: len(b.entries)}
	times := map[string]int{}
	for _, d := range databases {
		sums := map[int64]int64{}
		for _, e := range d.Entries {
			times[e.ID]++
			sums[e.Account] += e.Amount
			known, ours := b.entries[e.ID]
			switch {
			case e.Tenant != d.Tenant || ours && known.Tenant != d.Tenant:
				a.fault(&a.Crossed, "entry %s of %s is at %s", e.ID, e.Tenant, d.Tenant)
			case !ours:
				a.fault(&a.Ghosts, "entry %s at %s is in nobody's book", e.ID, d.Tenant)
			case e != known.Entry:
				a.fault(&a.Torn, "entry %s at %s is %+v, not %+v", e.ID, d.Tenant, e, known.Entry)
			}
		}
		for account, balance := range d.Balances {
			if sums[account] != balance {
				a.fault(&a.Torn, "account %d of %s has %d, its entries add up to %d", account, d.Tenant, balance, sums[account])
			}
		}
	}
	for id, e := range b.entries {
		n := times[id]
		if e.outcome == Unknown {
			a.Unknown++
			a.UnknownDone += min(n, 1)
		}
		switch {
		case n > 1:
			a.fault(&a.Doubled, "entry %s of %s is there %d times", id, e.Tenant, n)
		case n == 0 && e.outcome == Done:
			a.fault(&a.Lost, "entry %s of %s was acknowledged and is not there", id, e.Tenant)
		case n == 1 && e.outcome == Refused:
			a.fault(&a.Ghosts, "entry %s of %s was refused and is there", id, e.Tenant)
		}
	}
	slices.Sort(a.Details)
	return a
}
