package protocol_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
)

// model is the world with the workers in it. Equal models have equal futures.
type model struct {
	state
	workers [maxWorkers]int16 // nodes of the automaton; none
}

// explorer walks through models.
type explorer struct {
	*automaton
	// visit is told what can happen next; it returns false to hear no more.
	visit func(c choice)
}

// choice is something that can happen, what it makes of the world, and what
// was wrong with that beside what the world itself shows.
type choice struct {
	what func() string
	next model
	err  error
}

func (x *explorer) begin(b budget) model {
	m := model{state: begin(b)}
	for i := range m.workers {
		m.workers[i] = none
	}
	return m
}

// choices visits what can happen next, always in the same order.
func (x *explorer) choices(m *model) {
	if m.awake != none {
		x.worker(m, int(m.awake))
		x.can(m, "it is stopped again", func(m *model) error { m.awake = none; return nil })
		return
	}
	for i, n := range m.workers {
		switch {
		case n == none:
		case x.nodes[n].leads(&m.state) && m.op.worker == int8(i): //nolint:gosec // small
			x.worker(m, i)
		case m.left.wakes > 0:
			x.can(m, fmt.Sprintf("worker %d, without its lease, wakes up", i), func(m *model) error {
				m.left.wakes--
				m.awake = int8(i) //nolint:gosec // small
				return nil
			})
		}
	}
	x.engine(m)
	x.traffic(m)
}

// can visits what happens if do is done to a copy of m.
func (x *explorer) can(m *model, what string, do func(next *model) error) {
	next := *m
	err := do(&next)
	x.visit(choice{func() string { return what }, next, err})
}

// worker visits what one worker can do, and what can happen to it.
func (x *explorer) worker(m *model, i int) {
	n := x.nodes[m.workers[i]]
	let := func(how outcome) {
		next := *m
		var r result
		if how != works {
			next.left.faults--
		}
		if n.moot {
			r.err = context.Canceled
			n.drop(&next.state)
		} else {
			r = n.asks.do(&next.state, how)
		}
		next.put(i, x, x.after(m.workers[i], event{hears, r}))
		x.visit(choice{func() string {
			return fmt.Sprintf("worker %d: %s%s%s", i, n.asks.what, how, map[bool]string{true: " is given up"}[n.moot])
		}, next, nil})
	}
	ready := n.moot || n.asks.ready == nil || n.asks.ready(&m.state)
	if ready {
		let(works)
	}
	if m.left.faults > 0 && !n.moot {
		for _, how := range n.asks.may {
			if ready || how == fails {
				let(how)
			}
		}
	}
	if m.left.crashes > 0 {
		next := *m
		next.left.crashes--
		n.drop(&next.state)
		next.workers[i] = none
		if m.awake == int8(i) { //nolint:gosec // small
			next.awake = none
		}
		x.visit(choice{func() string { return fmt.Sprintf("worker %d crashes before: %s", i, n.asks.what) }, next, nil})
	}
	if !n.lost && !n.leads(&m.state) {
		next := *m
		next.put(i, x, x.after(m.workers[i], event{kind: loses}))
		x.visit(choice{func() string { return fmt.Sprintf("worker %d notices that its lease is gone", i) }, next, nil})
	}
}

// drop is what is left of what a worker was about to do.
func (n *node) drop(s *state) {
	if n.asks.drop != nil {
		n.asks.drop(s)
	}
}

// put has a worker be at a node; one that has ended is no more.
func (m *model) put(i int, x *explorer, n int16) {
	if x.nodes[n].ended {
		n = none
		if m.awake == int8(i) { //nolint:gosec // small
			m.awake = none
		}
	}
	m.workers[i] = n
}

// engine visits what happens to operations, beside what workers do.
func (x *explorer) engine(m *model) {
	on := m.op.worker
	gone := on == none || m.workers[on] == none
	switch {
	case m.sent:
		x.can(m, "the flip's commit arrives", func(m *model) error { m.commitFlip(); return nil })
		x.can(m, "the flip is rolled back", func(m *model) error { m.committing, m.sent = none, false; return nil })
	case m.op.step == over && m.left.moves > 0:
		x.can(m, "the tenant is moved back", func(m *model) error { m.left.moves--; m.startMove(); return nil })
	case m.op.step != over && on == none && m.committing == none:
		x.can(m, "a worker claims the operation", func(m *model) error {
			i := m.vacancy()
			if i == none {
				return errors.New("the model has too few workers")
			}
			m.op.token++
			m.op.worker = i
			m.put(int(i), x, x.start(identity{i, m.moves, m.op.token, m.op.from, row{m.op.step, m.op.cancel, m.op.epoch}}))
			return nil
		})
	}
	if on != none && m.op.step != over && (gone || m.left.lapses > 0) {
		x.can(m, "the lease runs out", func(m *model) error {
			if !gone {
				m.left.lapses--
			}
			m.op.worker = none
			return nil
		})
	}
	for at := range m.paused {
		if m.paused[at] && m.left.faults > 0 {
			x.can(m, fmt.Sprintf("PgBouncer %d restarts and forgets its pause", at), func(m *model) error {
				m.left.faults--
				m.restart(place(at)) //nolint:gosec // small
				return nil
			})
		}
	}
	for at := range m.places {
		if by := m.places[at].locked; by != none && by != on {
			x.can(m, fmt.Sprintf("server %d ends the idle session of worker %d", at, by), func(m *model) error { m.places[at].locked = none; return nil })
		}
	}
	if by := m.committing; by != none && !m.sent && by != on {
		x.can(m, fmt.Sprintf("the catalog ends the idle transaction of worker %d", by), func(m *model) error { m.committing = none; return nil })
	}
	if m.left.cancels > 0 && m.op.step == cutover && !m.op.cancel && m.committing == none {
		x.can(m, "somebody cancels", func(m *model) error {
			m.left.cancels--
			m.op.cancel = true
			if !gone {
				m.put(int(on), x, x.after(m.workers[on], event{kind: cancel}))
			}
			return nil
		})
	}
}

// vacancy is a number for a new worker; none if all are taken.
func (m *model) vacancy() int8 {
	for i, n := range m.workers {
		id := int8(i) //nolint:gosec // small
		if n == none && m.places[0].locked != id && m.places[1].locked != id && m.committing != id {
			return id
		}
	}
	return none
}

// traffic visits what clients, the stream and the bus do.
func (x *explorer) traffic(m *model) {
	for who, name := range []string{"the node", "the wire client"} {
		if next := *m; next.connect(who) {
			x.visit(choice{func() string { return name + " begins to write" }, next, nil})
		}
		if m.clients[who].at != none {
			x.can(m, name+" commits", func(m *model) error { return m.write(who) })
		}
	}
	if next := *m; next.apply() {
		x.visit(choice{func() string { return "a change is applied" }, next, nil})
	}
	for i, msg := range m.bus {
		if msg.kind == 0 {
			continue
		}
		x.can(m, "a message arrives", func(m *model) error { m.bus[i] = message{}; m.deliver(msg); return nil })
		if m.left.doubles > 0 {
			x.can(m, "a message arrives, and will again", func(m *model) error { m.left.doubles--; m.deliver(msg); return nil })
		}
	}
	if m.held != none {
		x.can(m, "the node's hold runs out", func(m *model) error { m.held = none; return nil })
	}
	if m.cacheEpoch < m.epoch {
		x.can(m, "the node sees the placement", func(m *model) error { m.deliver(message{placementMessage, none, m.epoch, m.home}); return nil })
	}
}

// check is what must be so now.
func (x *explorer) check(m *model) error {
	if err := m.safe(); err != nil {
		return err
	}
	if m.op.step != over || m.awake != none {
		return nil
	}
	end := m.state
	if !x.mutant.noKeeper {
		end.tend()
	}
	return end.served()
}

// stuck is an error if nothing can happen and the operation is not over.
func (m *model) stuck() error {
	if m.op.step != over {
		return fmt.Errorf("nobody can go on, and the operation is not over")
	}
	return nil
}

// violation is a run that ended in what must not be.
type violation struct {
	err   error
	story []string
}

func (v *violation) String() string { return strings.Join(v.story, "\n") + "\n" + v.err.Error() }

// tally is what an exploration saw.
type tally struct {
	states, transitions, ends int
	complete                  bool // there was no more to see
}

// explore walks every run within the budget, shortest first, until there are
// most states, and stops at the first violation.
func explore(b budget, mut mutant, most int) (t tally, found *violation) {
	x := &explorer{automaton: newAutomaton(mut)}
	first := x.begin(b)
	seen := map[model]int32{first: 0} // to its number
	queue := []model{first}
	type step struct {
		from int32
		nth  int16
	}
	came := []step{{-1, 0}}
	report := func(at int32, last string, err error) *violation {
		story := []string{last}
		for ; came[at].from >= 0; at = came[at].from {
			story = append(story, x.nth(&queue[came[at].from], came[at].nth))
		}
		for i, j := 0, len(story)-1; i < j; i, j = i+1, j-1 {
			story[i], story[j] = story[j], story[i]
		}
		return &violation{err, story}
	}
	for at := int32(0); int(at) < len(queue); at++ {
		m := queue[at] // a copy: the queue grows
		nth := int16(0)
		x.visit = func(c choice) {
			defer func() { nth++ }()
			if found != nil {
				return
			}
			t.transitions++
			if c.err == nil {
				c.err = x.check(&c.next)
			}
			if c.err != nil {
				found = &violation{err: c.err, story: []string{c.what()}}
				return
			}
			if _, been := seen[c.next]; !been && len(queue) < most {
				seen[c.next] = int32(len(queue)) //nolint:gosec // fewer than most
				queue = append(queue, c.next)
				came = append(came, step{at, nth})
			}
		}
		x.choices(&m)
		if nth == 0 {
			t.ends++
			if err := m.stuck(); err != nil {
				found = &violation{err: err, story: []string{"the end"}}
			}
		}
		if found != nil {
			t.states = len(queue)
			return t, report(at, found.story[0], found.err)
		}
	}
	t.states, t.complete = len(queue), len(queue) < most
	return t, nil
}

// nth tells the nth choice at m.
func (x *explorer) nth(m *model, nth int16) (what string) {
	i := int16(0)
	x.visit = func(c choice) {
		if i == nth {
			what = c.what()
		}
		i++
	}
	x.choices(m)
	return what
}

// wander makes one run of choices by the seed, to its end.
func wander(x *explorer, b budget, seed uint64) (steps int, found *violation) {
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // no secret
	m := x.begin(b)
	var story []string
	for {
		var chosen choice
		n := 0
		x.visit = func(c choice) {
			n++
			if random.IntN(n) == 0 {
				chosen = c
			}
		}
		x.choices(&m)
		if n == 0 {
			if err := m.stuck(); err != nil {
				return len(story), &violation{err, story}
			}
			return len(story), nil
		}
		story = append(story, chosen.what())
		err := chosen.err
		if err == nil {
			err = x.check(&chosen.next)
		}
		if err != nil {
			return len(story), &violation{err, story}
		}
		m = chosen.next
	}
}
