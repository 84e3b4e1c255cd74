// Package share divides a tenant's request rate among the nodes, without a
// coordinator. Every [Every] each node publishes the demand it sees for tenants
// near their limit; from what it heard of the others each computes its own
// part of the rate, by demand. A part is a lease: a report that is not renewed
// ends after DemandFor, a silent node is forgotten after NodeFor.
//
// The part of a node is the greater of
//
//   - what the others' demand leaves of the rate: below the limit nobody is
//     kept from using what nobody else uses;
//   - its demand ÷ everybody's: beyond the limit each client gets the same
//     part of what it asks for, whichever node it asks.
//
// A small floor for everybody makes it never zero. A node which does not hear
// itself is cut off: it takes rate ÷ nodes known before, until it hears itself
// again. So the sum of the parts is the rate, but for what has changed within
// one report's way (an error of once demand × Every at most, on top of the
// burst) and what is too small to be reported (see reportBelow).
//
// Book is pure: it has no clock, no goroutine and no bus.
//
// Import law: of this module, share imports shardmap only.
package share

import (
	"math"
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

const (
	// Every is the time between a node's reports.
	Every = 100 * time.Millisecond
	// DemandFor is how long a report's demand counts, NodeFor how long a node is known after its last word.
	DemandFor = 10 * Every
	NodeFor   = 30 * Every
	// helloEvery is how often a node speaks that has nothing to report.
	helloEvery = 10 * Every

	floor = 0.02 // of the rate, over all nodes
	// A node begins to report a tenant at alarmAt × rate ÷ nodes. As long as
	// the demand of all nodes is above alarmAt × rate, one of them does. Once
	// one does, all do that have reportBelow × rate ÷ nodes.
	alarmAt     = 0.5
	reportBelow = 0.02

	maxNodes   = 1000    // known at a time
	maxTenants = 100_000 // of which others' demand is remembered
)

// Demand is what a node sees of one tenant.
type Demand struct {
	Tenant shardmap.TenantID
	// Demand is requests per second that came, whether they were let pass or not.
	Demand float64
	// Rate is what the tenant may have over all nodes.
	Rate float64
}

// Book is what a node knows of the others. It is not safe for concurrent use.
// All times are since the same moment.
type Book struct {
	self    string
	least   int // nodes to reckon with when cut off
	nodes   map[string]*node
	tenants map[shardmap.TenantID]*demands
	echo    time.Duration // when this node last heard itself
	heard   bool          // it ever did
	spoke   time.Duration // when it last had something to say
	silent  bool          // it is to speak at the next occasion in any case
	said    map[shardmap.TenantID]bool
}

type node struct {
	at   time.Duration // last heard
	more bool          // it could not say all
}

// demands of one tenant at other nodes.
type demands struct{ of []demand }

type demand struct {
	node   *node
	demand float64
	until  time.Duration
}

// NewBook returns the book of the node self. least is how many nodes to reckon
// with, at least, while it is cut off from them; at least 1.
func NewBook(self string, least int) *Book {
	return &Book{
		self: self, least: max(1, least), silent: true, nodes: map[string]*node{},
		tenants: map[shardmap.TenantID]*demands{}, said: map[shardmap.TenantID]bool{},
	}
}

// Hear takes a report in. One that comes back to its sender shows that it is not cut off.
func (b *Book) Hear(r Report, now time.Duration) {
	n := b.nodes[r.Node]
	if n == nil {
		if len(b.nodes) >= maxNodes {
			return
		}
		n = &node{}
		b.nodes[r.Node] = n
		b.silent = true // it should hear of this node soon, too
	}
	n.at, n.more = now, r.More
	if r.Node == b.self {
		b.echo, b.heard = now, true
		return
	}
	for tenant, d := range r.Demand {
		b.note(tenant, n, d, now)
	}
}

func (b *Book) note(tenant shardmap.TenantID, from *node, d float64, now time.Duration) {
	t := b.tenants[tenant]
	if t == nil {
		if d <= 0 || len(b.tenants) >= maxTenants {
			return
		}
		t = &demands{}
		b.tenants[tenant] = t
	}
	for i := range t.of {
		if t.of[i].node == from {
			t.of[i].demand, t.of[i].until = d, now+DemandFor
			return
		}
	}
	if d > 0 {
		t.of = append(t.of, demand{from, d, now + DemandFor})
	}
}

// CutOff tells whether this node does not hear itself.
func (b *Book) CutOff(now time.Duration) bool { return !b.heard || now-b.echo > NodeFor }

// Nodes is how many are known, with this one. While it is cut off, those count that were there before.
func (b *Book) Nodes(now time.Duration) int {
	cut := b.CutOff(now)
	if cut {
		now = b.echo
	}
	others := 0
	for name, n := range b.nodes {
		if name != b.self && now-n.at <= NodeFor {
			others++
		}
	}
	if cut {
		return max(b.least, 1+others)
	}
	return 1 + others
}

// Share is this node's part of a tenant's rate, in (0, 1]. own is the demand it
// sees itself.
func (b *Book) Share(tenant shardmap.TenantID, rate, own float64, now time.Duration) float64 {
	n := float64(b.Nodes(now))
	if b.CutOff(now) {
		return 1 / n
	}
	others, more := b.others(tenant, now)
	if more && others == 0 {
		return 1 / n // somebody has a demand that did not fit into the report, maybe this one
	}
	f := floor * rate / n
	return max((own+f)/(own+others+n*f), 1-others/rate)
}

// others is the demand at other nodes, and whether some could not say theirs.
func (b *Book) others(tenant shardmap.TenantID, now time.Duration) (sum float64, more bool) {
	if t := b.tenants[tenant]; t != nil {
		for _, d := range t.of {
			if now <= d.until {
				sum += d.demand
			}
		}
	}
	if sum > 0 {
		return sum, false
	}
	for name, n := range b.nodes {
		if n.more && name != b.self && now-n.at <= NodeFor {
			return 0, true
		}
	}
	return 0, false
}

// alarmed tells whether another node reports more than its even part of what makes a tenant worth reporting.
func (b *Book) alarmed(d Demand, nodes float64, now time.Duration) bool {
	t := b.tenants[d.Tenant]
	if t == nil {
		return false
	}
	for _, other := range t.of {
		if now <= other.until && other.demand >= alarmAt*d.Rate/nodes {
			return true
		}
	}
	return false
}

// Report is what this node has to say of what it sees; nothing (ok is false)
// when nobody needs to know. It is to be asked every [Every].
func (b *Book) Report(seen []Demand, now time.Duration) (r Report, ok bool) {
	b.prune(now)
	nodes := float64(b.Nodes(now))
	r = Report{Node: b.self, Demand: map[shardmap.TenantID]float64{}}
	var worth []Demand
	if nodes > 1 {
		for _, d := range seen {
			even := d.Rate / nodes
			if d.Demand >= alarmAt*even || d.Demand >= reportBelow*even && b.alarmed(d, nodes, now) {
				worth = append(worth, d)
			}
		}
	}
	if len(worth) > maxDemands {
		worth, r.More = nearest(worth, maxDemands), true
	}
	said := b.said
	b.said = make(map[shardmap.TenantID]bool, len(worth))
	for _, d := range worth {
		r.Demand[d.Tenant] = digits(d.Demand)
		b.said[d.Tenant] = true
		delete(said, d.Tenant)
	}
	for tenant := range said { // so that the others need not wait for the lease's end
		if len(r.Demand) < 2*maxDemands {
			r.Demand[tenant] = 0
		}
	}
	if len(r.Demand) == 0 && !b.silent && now-b.spoke < helloEvery {
		return r, false
	}
	b.silent, b.spoke = false, now
	return r, true
}

// digits keeps a report short: nobody needs more of a demand than three.
func digits(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(max(v, 1e-3)))-2)
	return math.Round(v/unit) * unit
}

// prune forgets what has ended.
func (b *Book) prune(now time.Duration) {
	if b.CutOff(now) {
		return // it is what we go by until we hear again
	}
	for name, n := range b.nodes {
		if now-n.at > NodeFor {
			delete(b.nodes, name)
		}
	}
	for tenant, t := range b.tenants {
		live := t.of[:0]
		for _, d := range t.of {
			if now <= d.until && d.demand > 0 {
				live = append(live, d)
			}
		}
		if t.of = live; len(live) == 0 {
			delete(b.tenants, tenant)
		}
	}
}
