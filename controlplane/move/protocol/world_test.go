package protocol_test

import "fmt"

// place is one of the two shards.
type place = int8

// nobody and none, where an index is kept.
const none = -1

// The steps of the operation that the model knows.
const (
	cutover int8 = iota
	open
	clean
	undo
	over
)

// What the simulated clients are: a data-plane node, with a cache of its own,
// and a client that is attached to the PgBouncer of place 0 for ever.
const (
	onNode = iota
	onWire
	clients
)

// The most that the model has of each. Workers are told apart by their index.
const (
	maxWorkers  = 6
	maxMessages = 4
)

// state is all of the simulated world but what is inside of workers. It is
// comparable: equal states have equal futures.
type state struct {
	// The catalog.
	home  place
	epoch int8
	op    operationRow
	// committing is the worker whose flip is under way: it holds the rows'
	// locks. sent: the worker waits for it no more.
	committing int8
	sent       bool

	places  [2]database
	paused  [2]bool  // PgBouncers
	routes  [2]place // where their entries lead
	clients [clients]client
	// cache is where the node believes the tenant is, as of epoch.
	cache      place
	cacheEpoch int8
	held       int8 // the hold that the node keeps to; none
	// bus are messages under way to the node.
	bus [maxMessages]message

	acked uint8 // the writes that were acknowledged
	left  budget
	// awake is the worker without its lease that goes on now; none. Nothing else happens meanwhile.
	awake int8
	// moves is how many moves were started.
	moves int8
}

type operationRow struct {
	from   place
	epoch  int8 // of the placement it starts from
	token  int8
	step   int8
	worker int8 // who has the lease; none
	cancel bool
}

// database is the tenant's at one place.
type database struct {
	fenced bool
	// The guard: whom the database obeys, and whose session has it locked.
	move, token, locked int8
	has                 uint8 // the writes that are in it
	next                int8  // what its sequence gives next
}

// client has at most one transaction open: at a place, through a PgBouncer.
type client struct{ at, via place }

// message is a hold or a release. Placements come with releases.
type message struct {
	kind  int8 // 0: there is none
	hold  int8
	epoch int8
	at    place
}

const (
	holdMessage int8 = iota + 1
	releaseMessage
	placementMessage
)

// budget is what may still go wrong or be done.
type budget struct {
	faults  int8 // actions that fail, or whose answer is lost
	crashes int8 // workers that die
	lapses  int8 // leases that run out while their worker lives, or is stopped
	wakes   int8 // times that a worker without its lease goes on for a while
	doubles int8 // messages that come twice
	cancels int8
	writes  int8
	moves   int8 // back, after the first
	deaf    bool // no message arrives at the node
}

func begin(b budget) state {
	s := state{committing: none, held: none, awake: none, left: b}
	for i := range s.clients {
		s.clients[i] = client{none, none}
	}
	for i := range s.places {
		s.places[i].move, s.places[i].locked = none, none
	}
	s.op.step, s.op.worker = over, none
	s.places[1].fenced = true
	s.startMove()
	return s
}

// startMove starts a move from where the tenant is to the other place, which
// has been copied to and follows.
func (s *state) startMove() {
	s.moves++
	s.op = operationRow{from: s.home, epoch: s.epoch, step: cutover, worker: none}
}

// leave ends a worker's session inside the guard of a place, if it is there still.
func (s *state) leave(at place, worker int8) {
	if s.places[at].locked == worker {
		s.places[at].locked = none
	}
}

// drain ends the sessions at a place.
func (s *state) drain(at place) {
	for i := range s.clients {
		if s.clients[i].at == at {
			s.clients[i] = client{none, none}
		}
	}
}

// restart is a PgBouncer that goes away and comes back.
func (s *state) restart(via place) {
	s.paused[via] = false
	for i := range s.clients {
		if s.clients[i].via == via {
			s.clients[i] = client{none, none}
		}
	}
}

// through tells whether a transaction is open through a PgBouncer.
func (s *state) through(via place) bool {
	for _, c := range s.clients {
		if c.via == via {
			return true
		}
	}
	return false
}

// connect is a client's new transaction: false if it can't be tried now.
func (s *state) connect(who int) bool {
	via := place(0)
	if who == onNode {
		if s.held != none {
			return false
		}
		via = s.cache
	}
	if s.paused[via] || s.clients[who].at != none || s.left.writes == 0 {
		return false
	}
	at := s.routes[via]
	if !s.places[at].fenced {
		s.clients[who] = client{at, via}
		s.left.writes--
		return true
	}
	if who == onNode && s.cacheEpoch < s.epoch { // refused: it looks again
		s.cache, s.cacheEpoch = s.home, s.epoch
		return true
	}
	return false
}

// write commits a client's transaction, and acknowledges it.
func (s *state) write(who int) error {
	at := s.clients[who].at
	db := &s.places[at]
	id := uint8(1) << db.next
	s.clients[who] = client{none, none}
	if at != s.home {
		return fmt.Errorf("place %d acknowledges a write of a tenant that lives at %d", at, s.home)
	}
	if s.acked&id != 0 {
		return fmt.Errorf("place %d gives the key %d a second time", at, db.next)
	}
	db.has |= id
	db.next++
	s.acked |= id
	return nil
}

// apply brings one change from the tenant's home to the other place.
func (s *state) apply() bool {
	missing := s.places[s.home].has &^ s.places[1-s.home].has
	s.places[1-s.home].has |= missing & -missing
	return missing != 0
}

func (s *state) send(m message) {
	if s.left.deaf {
		return
	}
	for i := range s.bus {
		if s.bus[i].kind == 0 {
			s.bus[i] = m
			return
		}
	} // what does not fit is lost
}

// deliver has the node take a message in.
func (s *state) deliver(m message) {
	switch m.kind {
	case holdMessage:
		if m.epoch >= s.cacheEpoch {
			s.held = m.hold
		}
	case releaseMessage, placementMessage:
		if m.kind == placementMessage && m.epoch > s.cacheEpoch {
			s.cache, s.cacheEpoch, s.held = m.at, m.epoch, none
		}
		if s.held == m.hold {
			s.held = none
		}
	}
}

// commitFlip is the flip's COMMIT arriving.
func (s *state) commitFlip() {
	s.committing, s.sent = none, false
	s.home, s.epoch = 1-s.op.from, s.epoch+1
	s.op.step = open
}

// safe is what must be so in every state.
func (s *state) safe() error {
	accepting := 0
	for at := range s.places {
		at := place(at)
		if !s.places[at].fenced || s.clients[onNode].at == at || s.clients[onWire].at == at {
			accepting++
		}
	}
	if accepting > 1 {
		return fmt.Errorf("two places accept writes")
	}
	if lost := s.acked &^ s.places[s.home].has; lost != 0 {
		return fmt.Errorf("acknowledged writes %b are not where the tenant lives", lost)
	}
	return nil
}

// served is what must be so when every worker has run to its end, nodes' holds
// have run out and the keepers have made their round (see tend).
func (s *state) served() error {
	for at := range s.places {
		if fenced := s.places[at].fenced; fenced == (place(at) == s.home) {
			return fmt.Errorf("the tenant lives at %d, and place %d has its fence up: %v", s.home, at, fenced)
		}
		if s.paused[at] {
			return fmt.Errorf("PgBouncer %d stays paused", at)
		}
		if s.routes[at] != s.home {
			return fmt.Errorf("PgBouncer %d leads to %d, and the tenant lives at %d", at, s.routes[at], s.home)
		}
	}
	return nil
}

// tend is the round of the keepers of package provision over a tenant that
// nobody is at work on: entries lead where the catalog says, and what is
// paused goes on.
func (s *state) tend() {
	s.routes = [2]place{s.home, s.home}
	s.paused = [2]bool{}
}
