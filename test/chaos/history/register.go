// Package history judges what clients of tenants' databases were told while
// things broke: whether it can all be true of one database that does one thing
// at a time (registers, by porcupine), and whether every transaction that was
// acknowledged is there once, whole, and at its own tenant (the ledger).
//
// An operation whose outcome its client never learned may have been done at any
// time after it was sent, or never. One that was refused was not done, and is
// not written down at all.
//
// Import law: of this module, history imports nothing.
package history

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// Kind is what is done to a register.
type Kind string

// The kinds of operations.
const (
	Read  Kind = "read"
	Write Kind = "write"
	// CAS writes New if the value is Old, and tells the value that it found.
	CAS Kind = "cas"
)

// Register names one register: a number that a tenant keeps, 0 at first.
type Register struct {
	Tenant string `json:"tenant"`
	ID     int64  `json:"id"`
}

// Op is one operation on a register.
type Op struct {
	Register
	Kind Kind `json:"kind"`
	// Old is what a CAS expects. New is what is written: never 0, and in no other Op of the log.
	Old int64 `json:"old,omitempty"`
	New int64 `json:"new,omitempty"`
	// Found is what a read or a CAS was told; it means nothing when Open.
	Found int64 `json:"found,omitempty"`
	// Open: the client never learned what became of it.
	Open bool `json:"open,omitempty"`
	// Call and Return are times since the log began; Return means nothing when Open.
	Call   time.Duration `json:"call"`
	Return time.Duration `json:"return"`
	// By is who did it and how, for people.
	By string `json:"by,omitempty"`
}

// String is for people.
func (o Op) String() string {
	what := fmt.Sprintf("%s → %d", o.Kind, o.Found)
	switch o.Kind {
	case Write:
		what = fmt.Sprintf("write %d", o.New)
	case CAS:
		what = fmt.Sprintf("cas %d to %d → %d", o.Old, o.New, o.Found)
	}
	end := o.Return.String()
	if o.Open {
		end = "?"
	}
	return fmt.Sprintf("%s/%d %s [%s, %s] %s", o.Tenant, o.ID, what, o.Call, end, o.By)
}

// Log takes operations from many clients at once.
type Log struct {
	mu  sync.Mutex
	ops []Op
}

// Add writes down an operation that has ended. A read that is Open tells nothing and is left out.
func (l *Log) Add(o Op) {
	if o.Kind == Read && o.Open {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ops = append(l.ops, o)
}

// Ops are all operations so far.
func (l *Log) Ops() []Op {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.ops)
}

// Verdict of a register's history.
type Verdict struct {
	Register Register `json:"register"`
	Ops      []Op     `json:"ops"`
	// Undecided: the time given did not suffice; nothing is known to be wrong.
	Undecided bool `json:"undecided,omitempty"`
}

// Wrong returns the registers whose history no single database could have, in
// order, each with its operations, and those that could not be decided within
// the time given for each.
func Wrong(ops []Op, each time.Duration) []Verdict {
	by := map[Register][]Op{}
	for _, o := range ops {
		by[o.Register] = append(by[o.Register], o)
	}
	var wrong []Verdict
	for r, ops := range by {
		switch porcupine.CheckOperationsTimeout(model, operations(settle(ops)), each) {
		case porcupine.Illegal:
			wrong = append(wrong, Verdict{Register: r, Ops: ops})
		case porcupine.Unknown:
			wrong = append(wrong, Verdict{Register: r, Ops: ops, Undecided: true})
		}
	}
	slices.SortFunc(wrong, func(a, b Verdict) int {
		return cmp.Or(cmp.Compare(a.Register.Tenant, b.Register.Tenant), cmp.Compare(a.Register.ID, b.Register.ID))
	})
	return wrong
}

// settle decides what became of open operations as far as it shows, so that
// porcupine need not try every subset of them. Values are written once, so one
// that somebody found was written before that; and one that nobody found made
// no difference to anybody: with it or without it, the rest is in order or not.
// A CAS that did write found what it expected: it is a witness, too.
func settle(ops []Op) []Op {
	found := map[int64]time.Duration{} // by value: the end of the first operation that found it
	saw := func(value int64, at time.Duration) {
		if first, ok := found[value]; !ok || at < first {
			found[value] = at
		}
	}
	var settled, open []Op
	for _, o := range ops {
		if o.Open {
			open = append(open, o)
			continue
		}
		settled = append(settled, o)
		if o.Kind != Write {
			saw(o.Found, o.Return)
		}
	}
	for again := true; again; {
		again = false
		for i, o := range open {
			at, ok := found[o.New]
			if !ok || !o.Open && at >= o.Return {
				continue
			}
			open[i].Open, open[i].Found, open[i].Return = false, o.Old, at
			if o.Kind == CAS {
				saw(o.Old, at)
			}
			again = true
		}
	}
	for _, o := range open {
		if !o.Open {
			o.Return = max(o.Return, o.Call) // found before it was sent: porcupine shall say so
			settled = append(settled, o)
		}
	}
	return settled
}

func operations(ops []Op) []porcupine.Operation {
	out := make([]porcupine.Operation, len(ops))
	for i, o := range ops {
		out[i] = porcupine.Operation{ClientId: i, Input: o, Call: int64(o.Call), Return: int64(o.Return)}
		if o.Open {
			out[i].Return = int64(forever)
		}
	}
	return out
}

const forever = time.Duration(1<<63 - 1)

// model is one register. It takes open operations as well, which may do something or not.
var model = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, input, _ any) (bool, any) {
		value, o := state.(int64), input.(Op)
		switch o.Kind {
		case Write:
			return true, o.New
		case CAS:
			if value == o.Old {
				return o.Open || o.Found == value, o.New
			}
			return o.Open || o.Found == value, value
		default:
			return o.Found == value, value
		}
	},
	Hash: func(state any) uint64 { return uint64(state.(int64)) }, //nolint:gosec // a hash
}
