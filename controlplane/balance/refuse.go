package balance

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/freehold-db/freehold/shardmap"
)

// Constraint names what keeps a tenant from a shard.
type Constraint string

const (
	ByState     Constraint = "state"     // the shard takes no tenants
	ByRegion    Constraint = "region"    // it is in another region
	ByClass     Constraint = "class"     // it is of another class
	ByLabel     Constraint = "label"     // it lacks a required label, or has a forbidden one
	ByExclusive Constraint = "exclusive" // it, or the tenant, is to be had alone
	ByApart     Constraint = "apart"     // another tenant of the anti-affinity group is there
	ByCapacity  Constraint = "capacity"  // it would be filled beyond its headroom
	ByPinned    Constraint = "pinned"    // the tenant is never moved
	BySpace     Constraint = "space"     // the end is possible, but there is no free space to get there
)

// Refusal is a demand that cannot be met, and the constraint that makes it so:
// the one that rules the last shards out.
type Refusal struct {
	Tenant     shardmap.TenantID `json:"tenant"`
	Constraint Constraint        `json:"constraint"`
	Detail     string            `json:"detail"`
}

func (r Refusal) String() string { return fmt.Sprintf("%s: %s: %s", r.Tenant, r.Constraint, r.Detail) }

// ErrInfeasible is what every [InfeasibleError] is.
var ErrInfeasible = errors.New("infeasible")

// Is makes it one for errors.Is.
func (e *InfeasibleError) Is(target error) bool { return target == ErrInfeasible } //nolint:errorlint // the sentinel itself

// InfeasibleError refuses a plan or a place; nothing was planned.
type InfeasibleError struct{ Refusals []Refusal }

// shown bounds the refusals in an error's text.
const shown = 3

func (e *InfeasibleError) Error() string {
	var lines []string
	for i, r := range e.Refusals {
		if i == shown {
			lines = append(lines, fmt.Sprintf("and %d more", len(e.Refusals)-shown))
			break
		}
		lines = append(lines, r.String())
	}
	return "infeasible: " + strings.Join(lines, "; ")
}

// obstacle tells what keeps the tenant from arriving at the shard as it is now, and how; "" if nothing.
func (st *state) obstacle(t, s int32) (Constraint, string) {
	c := st.bar(t, s)
	sh, k := &st.shards[s], st.kind(t)
	switch c {
	case "":
		return "", ""
	case ByState:
		return c, fmt.Sprintf("%s is %s", sh.ID, sh.State)
	case ByExclusive:
		if sh.exclusives > 0 {
			return c, fmt.Sprintf("%s belongs to one tenant alone", sh.ID)
		}
		return c, fmt.Sprintf("the tenant wants a shard to itself, and %s has %d tenants", sh.ID, len(sh.members))
	case ByApart:
		return c, fmt.Sprintf("%s has a tenant of the group %s already", sh.ID, k.Apart)
	case ByCapacity:
		u := st.tenants[t].use()
		d, _ := sh.full(&u)
		return c, fmt.Sprintf("%s has no room: %s would be %s of at most %s", sh.ID, d, figure(d, sh.load[d]+u[d]), figure(d, sh.limit[d]))
	}
	return k.Refuses(sh.Shard)
}

// bar is the constraint that keeps the tenant from arriving at the shard as it is now; "" if none.
func (st *state) bar(t, s int32) Constraint {
	sh, k := &st.shards[s], st.kind(t)
	switch {
	case sh.State != Active:
		return ByState
	case !st.classes[k.class].fits[s]:
		c, _ := k.Refuses(sh.Shard)
		return c
	case sh.exclusives > 0 || k.Exclusive && len(sh.members) > 0:
		return ByExclusive
	case k.group != 0 && st.apart[groupAt{k.group, s}] > 0:
		return ByApart
	}
	u := st.tenants[t].use()
	if _, full := sh.full(&u); full {
		return ByCapacity
	}
	return ""
}

// full tells in which dimension u is most too much for the shard.
func (sh *shard) full(u *Vector) (in Dimension, full bool) {
	worst := 1 + slack
	for d := range sh.limit {
		if fill := (sh.load[d] + u[d]) / sh.limit[d]; fill > worst {
			worst, in, full = fill, Dimension(d), true //nolint:gosec // five of them
		}
	}
	return in, full
}

// order in which constraints rule shards out.
var order = []Constraint{ByState, ByRegion, ByClass, ByLabel, ByExclusive, ByApart, ByCapacity}

// refusal works out why no shard may take the tenant.
func (st *state) refusal(t int32) Refusal {
	r := Refusal{Tenant: st.tenants[t].ID, Constraint: ByState, Detail: "there is no shard"}
	deepest, last := -1, none
	counts := map[Constraint]int{}
	for i := range st.shards {
		s := int32(i) //nolint:gosec // fleets have thousands of shards
		c := st.bar(t, s)
		counts[c]++
		if at := slices.Index(order, c); at > deepest {
			deepest, last = at, s
		}
	}
	if last != none {
		r.Constraint, r.Detail = st.obstacle(t, last)
	}
	if n := counts[r.Constraint]; n > 1 {
		r.Detail += fmt.Sprintf("; so it is with %d shards, and the other %d don't come into question", n, len(st.shards)-n)
	}
	return r
}

// figure writes a value of a dimension for people.
func figure(d Dimension, v float64) string {
	switch d {
	case Bytes, WAL:
		unit := "B"
		for _, u := range []string{"kB", "MB", "GB", "TB", "PB"} {
			if v < 1000 {
				break
			}
			v, unit = v/1000, u
		}
		if d == WAL {
			unit += "/s"
		}
		return fmt.Sprintf("%.3g %s", v, unit)
	case Load:
		return fmt.Sprintf("%.3g", v)
	}
	return fmt.Sprintf("%.4g", v)
}
