// Package network is the cable between the parts of a fleet on one machine:
// each server is given to the others under the address of a front, which passes
// on what it gets until the cable is cut, goes dead, or is slow. A fault is
// between two parts: who called is asked of the kernel, so that the callers
// need not know.
//
// It is a small program of its own because it needs three kinds of faults and
// the caller's name; toxiproxy has neither the latter nor had a release since 2022.
//
// Import law: of this module, network imports nothing.
package network

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// Anybody as a caller or a server stands for all of them.
const Anybody = ""

// Condition of a cable. The zero condition is fine.
type Condition struct {
	// Cut ends what is connected, and whoever connects is thrown out at once.
	Cut bool
	// Dead passes nothing on and says nothing, as a network that loses everything; what was sent arrives when it is over.
	Dead bool
	// Delay of each piece that is passed on, in each direction.
	Delay time.Duration
	// BytesPerSecond passed on in each direction; 0: as many as come.
	BytesPerSecond int
}

// Network is all fronts of a fleet. Its methods are safe for concurrent use.
type Network struct {
	// callers lists the processes that may call, with their names; asked while a fault lasts.
	callers func() map[string]int

	mu     sync.Mutex
	fronts map[string]*front // by server and address
	faults map[int]fault
	next   int
	wg     sync.WaitGroup
}

type fault struct {
	from, to  string
	condition Condition
}

// New makes a network. callers names the processes that may call by their IDs;
// whoever is none of them nor a child of one is called [Outside].
func New(callers func() map[string]int) *Network {
	return &Network{callers: callers, fronts: map[string]*front{}, faults: map[int]fault{}}
}

// Outside is the name of a caller that is no part of the fleet.
const Outside = "outside"

// Front returns the address, on loopback, under which others are to reach the
// server of that name at that address. Asked again it returns the same.
func (n *Network) Front(name, address string) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := name + " " + address
	if f := n.fronts[key]; f != nil {
		return f.listener.Addr().String(), nil
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("network: a front for %s: %w", name, err)
	}
	f := &front{n: n, name: name, address: address, listener: l, conns: map[*conn]struct{}{}}
	n.fronts[key] = f
	n.wg.Go(f.accept)
	return l.Addr().String(), nil
}

// Break puts the cable from one part to another in a condition until heal is called.
func (n *Network) Break(from, to string, c Condition) (heal func()) {
	n.mu.Lock()
	id := n.next
	n.next++
	n.faults[id] = fault{from, to, c}
	n.mu.Unlock()
	n.renew(to)
	return sync.OnceFunc(func() {
		n.mu.Lock()
		delete(n.faults, id)
		n.mu.Unlock()
		n.renew(to)
	})
}

// renew has the connections to a server obey the faults there are now.
func (n *Network) renew(to string) {
	for _, f := range n.frontsOf(to) {
		for _, c := range f.all() {
			f.renew(c)
		}
	}
}

func (n *Network) frontsOf(name string) (found []*front) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range n.fronts {
		if name == Anybody || f.name == name {
			found = append(found, f)
		}
	}
	return found
}

// condition is the sum of all faults between a caller and a server.
func (n *Network) condition(to string, c *conn) (sum Condition) {
	n.mu.Lock()
	var faults []fault
	for _, f := range n.faults {
		if f.to == Anybody || f.to == to {
			faults = append(faults, f)
		}
	}
	n.mu.Unlock()
	for _, f := range faults {
		if f.from != Anybody && f.from != c.caller(n.callers) {
			continue
		}
		sum.Cut = sum.Cut || f.condition.Cut
		sum.Dead = sum.Dead || f.condition.Dead
		sum.Delay += f.condition.Delay
		if b := f.condition.BytesPerSecond; b > 0 && (sum.BytesPerSecond == 0 || b < sum.BytesPerSecond) {
			sum.BytesPerSecond = b
		}
	}
	return sum
}

// Close ends all fronts and connections and waits until nothing of them runs.
func (n *Network) Close() {
	for _, f := range n.frontsOf(Anybody) {
		_ = f.listener.Close()
		for _, c := range f.all() {
			c.obey(Condition{Cut: true})
		}
	}
	n.wg.Wait()
}
