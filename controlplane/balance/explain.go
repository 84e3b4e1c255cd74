package balance

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// ErrUnknownTenant: the fleet has no such tenant.
var ErrUnknownTenant = errors.New("unknown tenant")

// Explanation says why a tenant is where it is, and why not elsewhere.
type Explanation struct {
	Tenant shardmap.TenantID `json:"tenant"`
	Shard  shardmap.ShardID  `json:"shard"`
	// Here are the reasons to stay or to go.
	Here []string `json:"here"`
	// Elsewhere has the other shards: those that could take it, the best first, then the rest.
	Elsewhere []Option `json:"elsewhere"`
}

// Option is another shard, seen by a tenant.
type Option struct {
	Shard shardmap.ShardID `json:"shard"`
	// Constraint keeps the tenant from it; empty: it could take the tenant.
	Constraint Constraint `json:"constraint,omitempty"`
	Detail     string     `json:"detail"`
	// Share is how many times its even share the shard would carry with the tenant.
	Share float64 `json:"share,omitempty"`
}

// Explain tells a tenant's story. Errors: ErrInvalid, ErrUnknownTenant.
func Explain(f *Fleet, p *Policy, id shardmap.TenantID, now time.Time) (*Explanation, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(f.Tenants, func(t Tenant) bool { return t.ID == id })
	if i < 0 {
		return nil, fmt.Errorf("%w: %s", ErrUnknownTenant, id)
	}
	st, err := newState(f, p, now)
	if err != nil {
		return nil, err
	}
	st.makePools()
	st.setLevels()
	t := int32(i) //nolint:gosec // a fleet has fewer than 2^31 tenants
	e := &Explanation{Tenant: id, Shard: f.Tenants[i].Shard, Here: st.here(t)}
	for s := range st.shards {
		if s := int32(s); s != st.at[t] { //nolint:gosec // fleets have thousands of shards
			e.Elsewhere = append(e.Elsewhere, st.option(t, s))
		}
	}
	slices.SortStableFunc(e.Elsewhere, func(a, b Option) int {
		return cmp.Or(
			cmp.Compare(bit(a.Constraint != ""), bit(b.Constraint != "")),
			cmp.Compare(a.Share, b.Share),
		)
	})
	return e, nil
}

// here says why the tenant may or may not stay.
func (st *state) here(t int32) (reasons []string) {
	say := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	s, k := st.at[t], st.kind(t)
	sh := &st.shards[s]
	switch sh.State {
	case Draining:
		say("%s is being drained: the tenant has to leave", sh.ID)
	case Down:
		say("%s is down: nothing can be moved off it", sh.ID)
	case Cordoned:
		say("%s is cordoned: it keeps its tenants and takes no others", sh.ID)
	}
	if _, detail := k.Refuses(sh.Shard); detail != "" {
		say("it may not stay: %s", detail)
	}
	if k.group != 0 && st.apart[groupAt{k.group, s}] > 1 {
		say("%s has another tenant of the group %s: one of them has to leave", sh.ID, k.Apart)
	}
	switch {
	case sh.exclusives > 0 && len(sh.members) > 1:
		say("%s is to be had by one tenant alone, and has %d", sh.ID, len(sh.members))
	case k.Exclusive:
		say("it has %s to itself", sh.ID)
	}
	if k.Pinned {
		say("it is pinned: it is never moved")
	}
	if until, cooling := st.policy.Cooling(&st.tenants[t], st.now); cooling {
		say("it was moved at %s, and is not moved again for the sake of balance before %s", st.tenants[t].Moved.UTC().Format(time.RFC3339), until.UTC().Format(time.RFC3339))
	}
	if sh.pool == none {
		return reasons
	}
	share, in := sh.share()
	most := st.bearable(sh)
	if _, over := sh.excess(&most); over {
		say("%s carries %.2f × its even share of %s, which is too much: some of its tenants should leave", sh.ID, share, in)
	} else {
		say("%s carries at most %.2f × its even share (of %s), which is within bounds: nobody has to leave", sh.ID, share, in)
	}
	return reasons
}

func (st *state) option(t, s int32) Option {
	sh := &st.shards[s]
	o := Option{Shard: sh.ID}
	if o.Constraint, o.Detail = st.obstacle(t, s); o.Constraint != "" || sh.pool == none {
		return o
	}
	u := st.tenants[t].use()
	before, _ := sh.share()
	o.Share = sh.shareWith(&u)
	o.Detail = fmt.Sprintf("it would go from %.2f to %.2f × its even share", before, o.Share)
	if !st.within(s, &u) {
		o.Detail += ", which is too much"
	}
	return o
}
