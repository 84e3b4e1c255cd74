package protocol_test

import (
	"context"
	"iter"
)

// The explorer goes back and forth between runs, and a goroutine can't be
// copied. But all that a worker learns of the world are the results of what it
// asked, so what it does is a tree: of results to the next ask. The tree is
// grown by running the real protocol, alone, with results from a list, wherever
// the explorer comes upon a branch that is not known yet.

// automaton is the tree of every worker.
type automaton struct {
	mutant mutant
	nodes  []*node
	roots  map[identity]int16
	marks  map[mark]int16
}

type mark struct {
	identity
	mark string
}

// node is a worker that waits for a result.
type node struct {
	identity
	asks  ask
	moot  bool // the action's context has ended: it fails with nothing done
	ended bool // there is nothing any more that it asks
	lost  bool // it has noticed that its lease is gone
	told  []event
	next  map[event]int16
}

// event is what happens to a worker.
type event struct {
	kind   int8
	result result
}

const (
	hears  int8 = iota // the result of what it asked
	loses              // it notices that its lease is gone
	cancel             // somebody cancels
)

func newAutomaton(mut mutant) *automaton {
	return &automaton{mutant: mut, roots: map[identity]int16{}, marks: map[mark]int16{}}
}

// start is a new worker.
func (a *automaton) start(who identity) int16 {
	n, ok := a.roots[who]
	if !ok {
		n = a.grow(who, nil)
		a.roots[who] = n
	}
	return n
}

// after is the worker at node n after an event.
func (a *automaton) after(n int16, e event) int16 {
	at := a.nodes[n]
	next, ok := at.next[e]
	if !ok {
		next = a.grow(at.identity, append(append(make([]event, 0, len(at.told)+1), at.told...), e))
		at.next[e] = next
	}
	return next
}

// grow runs a worker through what it is told, and notes what it asks then.
func (a *automaton) grow(who identity, told []event) int16 {
	n := &node{identity: who, told: told, next: map[event]int16{}}
	w := &worker{identity: who, mutant: a.mutant}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	defer w.cancel()
	var answer result
	asked, end := iter.Pull(func(yield func(ask) bool) {
		defer func() {
			if v := recover(); v != nil {
				if _, is := v.(crashed); !is {
					panic(v)
				}
			}
		}()
		w.yield = func(q ask) (result, bool) { ok := yield(q); return answer, ok }
		w.run()
	})
	defer end()
	q, ok := asked()
	for _, e := range told {
		switch e.kind {
		case hears:
			answer = e.result
			q, ok = asked()
		case loses:
			n.lost = true
			w.cancel()
		case cancel:
			w.canceled = true
			w.stop()
		}
	}
	n.asks, n.ended = q, !ok
	if ok {
		n.moot = q.ctx.Err() != nil
		n.asks.ctx = nil
	}
	if !n.ended && q.mark != "" && told[len(told)-1].kind == hears {
		m := mark{who, q.mark}
		if known, ok := a.marks[m]; ok {
			return known
		}
		a.marks[m] = int16(len(a.nodes)) //nolint:gosec // there are few
	}
	a.nodes = append(a.nodes, n)
	return int16(len(a.nodes) - 1) //nolint:gosec // there are few
}
