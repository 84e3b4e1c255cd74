package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freehold-db/freehold/test/chaos/history"
)

const (
	opFor    = 10 * time.Second // one operation; whoever waits longer does not know what became of it
	closeFor = time.Second
	accounts = 4
	// A register is used for so many operations, and then another one, since
	// judging a history takes memory by the square of its length.
	opsPerRegister = 1500
	inUse          = 3 // registers at a time
	maxRegisters   = 3000
)

// load is the traffic of all tenants and what its clients were told.
type load struct {
	began   time.Time
	pause   time.Duration // of a client between two operations, on average
	seed    uint64
	log     history.Log
	book    history.Book
	value   atomic.Int64 // the last one written; no two operations have one
	entry   atomic.Int64
	crossed atomic.Int64 // answers with a row of another tenant

	mu       sync.Mutex
	failures map[string]int // by code
	examples map[string]string
	unknown  int
	total    int
}

// lane is one tenant reached one way: what must be served again after every fault.
type lane struct {
	tenant, how string
	turns       *atomic.Int64 // operations on registers, of all lanes of the tenant

	mu   sync.Mutex
	good []time.Duration // ends of operations with a good answer, since the load began
	last time.Duration   // of a write
}

func (l *lane) name() string { return l.tenant + " by " + l.how }

// served tells whether a write that was sent at some time or later has been acknowledged.
func (l *lane) served(sent time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last >= sent
}

// gap is the longest time without a good answer that touches a time.
func (l *lane) gap(from, to time.Duration) (longest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := time.Duration(0)
	for _, t := range l.good {
		if t > from && before < to {
			longest = max(longest, t-before)
		}
		before = max(before, t)
	}
	if before < to {
		longest = max(longest, to-max(before, 0))
	}
	return longest
}

// run drives one client until ctx ends.
func (l *load) run(ctx context.Context, w way, lane *lane, number int) {
	defer w.close()
	r := rand.New(rand.NewPCG(l.seed, uint64(number)+1)) //nolint:gosec // no secret
	seen := map[int64]int64{}                            // the value last seen of each register
	for ctx.Err() == nil {
		// One that is under way when the load ends is still waited for.
		op, cancel := context.WithTimeout(context.WithoutCancel(ctx), opFor)
		err := l.one(op, r, w, lane, seen, number)
		cancel()
		l.count(err)
		pause := l.pause/2 + rand.N(l.pause)
		if err != nil {
			pause += 50 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// one does one operation and writes down what its client knows of it.
func (l *load) one(ctx context.Context, r *rand.Rand, w way, lane *lane, seen map[int64]int64, client int) error {
	kind := r.IntN(10)
	sent := time.Since(l.began)
	if kind >= 7 {
		e := history.Entry{ID: fmt.Sprintf("%s-%d-%d", lane.tenant, client, l.entry.Add(1)), Tenant: lane.tenant, Account: 1 + r.Int64N(accounts), Amount: 1 + r.Int64N(100)}
		l.book.Put(e, history.Unknown) // before it leaves
		err := w.post(ctx, e)
		switch {
		case err == nil:
			l.book.Put(e, history.Done)
		case !isUnknown(err):
			l.book.Put(e, history.Refused)
		}
		lane.answered(l.began, sent, err, true)
		return err
	}
	id := min(maxRegisters, 1+lane.turns.Add(1)/(inUse*opsPerRegister)*inUse+r.Int64N(inUse))
	o := history.Op{Register: history.Register{Tenant: lane.tenant, ID: id}, Call: sent, By: fmt.Sprintf("client %d by %s", client, lane.how)}
	var got row
	var err error
	switch {
	case kind < 3:
		o.Kind = history.Read
		got, err = w.read(ctx, id)
		o.Found = got.Value
	case kind < 5:
		o.Kind, o.New = history.Write, l.value.Add(1)
		if got, err = w.write(ctx, id, o.New); err == nil && got.Value != o.New {
			err = &failure{"wrong answer", true, fmt.Errorf("wrote %d and got %d", o.New, got.Value)}
		}
	default:
		o.Kind, o.Old, o.New = history.CAS, seen[id], l.value.Add(1)
		got, err = w.cas(ctx, id, o.Old, o.New)
		o.Found = got.Value
	}
	o.Return, o.Open = time.Since(l.began), isUnknown(err)
	if err == nil || o.Open {
		l.log.Add(o)
	}
	if err == nil {
		if got.Tenant != lane.tenant {
			l.crossed.Add(1)
		}
		seen[id] = got.Value
		if o.Kind == history.CAS && got.Value == o.Old {
			seen[id] = o.New
		}
	}
	lane.answered(l.began, sent, err, o.Kind != history.Read)
	return err
}

// answered notes a good answer, for who asks how long there was none.
func (l *lane) answered(began time.Time, sent time.Duration, err error, write bool) {
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.good = append(l.good, time.Since(began))
	if write {
		l.last = max(l.last, sent)
	}
}

func isUnknown(err error) bool {
	var f *failure
	return err != nil && (!errors.As(err, &f) || f.unknown)
}

// maxExamples bounds the kinds of failures that the report tells of.
const maxExamples = 60

func (l *load) count(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total++
	if err == nil {
		return
	}
	code := "other"
	var f *failure
	if errors.As(err, &f) {
		code = f.code
	}
	if isUnknown(err) {
		l.unknown++
		code += " (unknown)"
	}
	if l.failures == nil {
		l.failures, l.examples = map[string]int{}, map[string]string{}
	}
	if l.failures[code]++; len(l.examples) < maxExamples {
		l.examples[code] = fmt.Sprintf("%s: %.400s", time.Since(l.began).Round(time.Millisecond), err)
	}
}
