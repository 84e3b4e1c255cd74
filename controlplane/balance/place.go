package balance

import (
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// Place returns the best shard for a tenant that is not in the fleet yet: of
// those that may take it, the one that carries least of its even share then.
// t.Shard doesn't matter, and t.Usage is what it is expected to use.
//
// It need not know every tenant: those of t's anti-affinity group and those with
// a shard to themselves must be in the fleet, of the others the shards' Other
// may hold the sum. Errors: ErrInvalid; *InfeasibleError, with t's refusal.
func Place(f *Fleet, p *Policy, t Tenant) (shardmap.ShardID, error) {
	if err := p.Validate(); err != nil {
		return "", err
	}
	if len(f.Shards) == 0 {
		return "", &InfeasibleError{[]Refusal{{t.ID, ByState, "there is no shard"}}}
	}
	t.Shard = f.Shards[0].ID
	with := &Fleet{Shards: f.Shards, Tenants: append(f.Tenants[:len(f.Tenants):len(f.Tenants)], t)}
	st, err := newState(with, p, time.Time{})
	if err != nil {
		return "", err
	}
	n := int32(len(f.Tenants)) //nolint:gosec // a fleet has fewer than 2^31 tenants
	st.lift(n)
	st.makePools()
	st.setLevels()
	s := st.seek(n)
	if st.kind(n).Exclusive {
		s = st.emptyFor(n)
	}
	if s == none {
		return "", &InfeasibleError{[]Refusal{st.refusal(n)}}
	}
	return st.shards[s].ID, nil
}
