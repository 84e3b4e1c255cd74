// Package balance decides where tenants live: which shard takes a new one, who
// moves when a shard is added, drained or overloaded, and why.
//
// It is pure: a plan follows from the fleet, the policy and the time that it is
// given, and from nothing else. It reads no clock and does no I/O, so that what
// a person reviewed is what anybody gets who asks again.
//
// Import law: balance imports shardmap and the standard library only.
package balance

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// Dimension is one thing that a shard can run out of.
type Dimension uint8

const (
	Bytes       Dimension = iota // of databases on disk
	Connections                  // server connections in use
	Load                         // seconds of Postgres' work a second: 1 keeps one core busy
	WAL                          // bytes of write-ahead log a second
	Databases                    // number of databases; every tenant is one, whatever its usage says

	Dimensions = 5
)

var dimensionNames = [Dimensions]string{"bytes", "connections", "load", "wal", "databases"}

func (d Dimension) String() string { return dimensionNames[d] }

// Vector has a value for each [Dimension].
type Vector [Dimensions]float64

// State says what may be done to a shard. The values are the catalog's.
type State string

const (
	Active   State = "active"   // takes tenants
	Cordoned State = "cordoned" // keeps its tenants and takes no others; it is not balanced
	Draining State = "draining" // all its tenants have to leave
	Down     State = "down"     // gone: nothing can be moved off it
)

// Shard is one server of the fleet.
type Shard struct {
	ID            shardmap.ShardID
	State         State
	Region, Class string
	Labels        map[string]string
	// Capacity bounds each dimension; 0: there is no bound, and the shard
	// counts as large as the average of those that have one.
	Capacity Vector
	// Other is what the shard carries beside the fleet's tenants: the warm
	// pool, leftovers of moves.
	Other Vector
}

// Needs are a tenant's constraints. The zero value allows any shard. Tenants
// with the same needs may share one Needs.
type Needs struct {
	Region, Class string            // empty: any
	Require       map[string]string // labels that the shard must have
	Forbid        map[string]string // labels that the shard must not have
	Apart         string            // no two tenants of this group share a shard; empty: no group
	Pinned        bool              // is never moved
	Exclusive     bool              // shares its shard with nobody
}

// Tenant is one tenant, where it is now and what it uses there.
type Tenant struct {
	ID    shardmap.TenantID
	Shard shardmap.ShardID
	Usage Vector
	Needs *Needs    // nil: none
	Moved time.Time // when it was moved last; zero: never
	Busy  Hours     // when it is better not moved
}

// Fleet is what there is.
type Fleet struct {
	Shards  []Shard
	Tenants []Tenant
}

// ErrInvalid is wrapped by every refusal of a fleet, a policy or a scenario that makes no sense.
var ErrInvalid = errors.New("invalid")

// Validate refuses a fleet that cannot be: doubled shards, tenants of shards that
// are not there, values that are no numbers. Doubled tenants are not looked for.
func (f *Fleet) Validate() error {
	_, err := f.index()
	return err
}

// index numbers the shards, and validates on the way.
func (f *Fleet) index() (map[shardmap.ShardID]int32, error) {
	index := make(map[shardmap.ShardID]int32, len(f.Shards))
	for i := range f.Shards {
		s := &f.Shards[i]
		if _, doubled := index[s.ID]; doubled {
			return nil, fmt.Errorf("%w fleet: shard %s is in it twice", ErrInvalid, s.ID)
		}
		switch s.State {
		case Active, Cordoned, Draining, Down:
		default:
			return nil, fmt.Errorf("%w fleet: shard %s: unknown state %q", ErrInvalid, s.ID, s.State)
		}
		if !s.Capacity.sound() || !s.Other.sound() {
			return nil, fmt.Errorf("%w fleet: shard %s: capacity and use have to be finite and not negative", ErrInvalid, s.ID)
		}
		index[s.ID] = int32(i) //nolint:gosec // fleets have thousands of shards
	}
	for i := range f.Tenants {
		t := &f.Tenants[i]
		if _, known := index[t.Shard]; !known {
			return nil, fmt.Errorf("%w fleet: tenant %s lives on %q, which is not there", ErrInvalid, t.ID, t.Shard)
		}
		if !t.Usage.sound() {
			return nil, fmt.Errorf("%w fleet: tenant %s: usage has to be finite and not negative", ErrInvalid, t.ID)
		}
	}
	return index, nil
}

func (v *Vector) sound() bool {
	for _, x := range v {
		if !(x >= 0) || math.IsInf(x, 1) {
			return false
		}
	}
	return true
}

func (v *Vector) add(w *Vector) {
	for d := range v {
		v[d] += w[d]
	}
}

func (v *Vector) sub(w *Vector) {
	for d := range v {
		v[d] -= w[d]
	}
}

// use is what the tenant takes from a shard.
func (t *Tenant) use() Vector {
	u := t.Usage
	u[Databases] = 1
	return u
}
