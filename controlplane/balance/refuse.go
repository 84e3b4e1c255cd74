package balance

import (
	"errors"
	"fmt"
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

// obstacle tells what keeps the tenant from arriving at the shard as it is now; "" if nothing.
func (st *state) obstacle(t, s int32) (Constraint, string) {
	sh, k := &st.shards[s], st.kind(t)
	if sh.State != Active {
		return ByState, fmt.Sprintf("%s is %s", sh.ID, sh.State)
	}
	if c, detail := k.refuses(sh.Shard); c != "" {
		return c, detail
	}
	switch {
	case sh.exclusives > 0:
		return ByExclusive, fmt.Sprintf("%s belongs to one tenant alone", sh.ID)
	case k.Exclusive && len(sh.members) > 0:
		return ByExclusive, fmt.Sprintf("the tenant wants a shard to itself, and %s has %d tenants", sh.ID, len(sh.members))
	case k.group != 0 && st.apart[groupAt{k.group, s}] > 0:
		return ByApart, fmt.Sprintf("%s has a tenant of the group %s already", sh.ID, k.Apart)
	}
	u := st.tenants[t].use()
	if d, full := sh.full(&u); full {
		return ByCapacity, fmt.Sprintf("%s has no room: %s would be %s of at most %s", sh.ID, d, figure(d, sh.load[d]+u[d]), figure(d, sh.limit[d]))
	}
	return "", ""
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
	deepest := -1
	counts := map[Constraint]int{}
	for s := range st.shards {
		c, detail := st.obstacle(t, int32(s)) //nolint:gosec // fleets have thousands of shards
		counts[c]++
		for i, o := range order {
			if o == c && i > deepest {
				deepest, r.Constraint, r.Detail = i, c, detail
			}
		}
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
