package rebalance

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/placement"
	"github.com/freehold-db/freehold/shardmap"
)

// possible refuses a policy that the fleet cannot keep: a headroom that cannot be
// kept free even if all were spread evenly, and needs that nobody meets. What
// the fleet could not keep before is no reason to refuse, unless it gets worse.
func possible(before, after *placement.Snapshot, now time.Time) error {
	was := demands(before)
	for key, d := range demands(after) {
		dimension, fill := d.fullest()
		if fill <= 1 {
			continue
		}
		if old := was[key]; old != nil && old.fill(dimension) >= fill {
			continue
		}
		return fmt.Errorf("%w: %s use %.3g × the %s that their shards may hold with %.3g%% of it free", ErrImpossible, d.who, fill, dimension, 100*after.Policy.Headroom)
	}
	refused, err := refusals(after, now)
	if err != nil || len(refused) == 0 {
		return err
	}
	known, err := refusals(before, now)
	if err != nil {
		return err
	}
	refused = slices.DeleteFunc(refused, func(r balance.Refusal) bool {
		return slices.ContainsFunc(known, func(k balance.Refusal) bool { return k.Tenant == r.Tenant })
	})
	if len(refused) > 0 {
		return fmt.Errorf("%w: %w", ErrImpossible, &balance.InfeasibleError{Refusals: refused})
	}
	return nil
}

// refusals are the demands that no plan can meet.
func refusals(at *placement.Snapshot, now time.Time) ([]balance.Refusal, error) {
	plan, err := balance.Make(at.Fleet, &at.Policy, balance.Ask{Now: now, Partial: true})
	var infeasible *balance.InfeasibleError
	if errors.As(err, &infeasible) {
		return infeasible.Refusals, nil
	}
	if err != nil {
		return nil, err
	}
	return plan.Refused, nil
}

// demand is what all tenants use together that want the same of a shard.
type demand struct {
	who   string
	use   balance.Vector
	limit balance.Vector // what their shards may hold
}

func (d *demand) fill(in balance.Dimension) float64 {
	if d.use[in] == 0 {
		return 0
	}
	return d.use[in] / d.limit[in]
}

func (d *demand) fullest() (in balance.Dimension, fill float64) {
	for i := range balance.Dimension(balance.Dimensions) {
		if f := d.fill(i); f > fill {
			in, fill = i, f
		}
	}
	return in, fill
}

// demands are those of the fleet as a whole, and of the tenants of each region,
// class and set of labels, by the words for them.
func demands(at *placement.Snapshot) map[string]*demand {
	all := map[string]*demand{}
	byNeeds := map[*balance.Needs]*demand{}
	down := map[shardmap.ShardID]bool{}
	for i := range at.Fleet.Shards {
		down[at.Fleet.Shards[i].ID] = at.Fleet.Shards[i].State == balance.Down
	}
	whole := demandFor(at, &balance.Needs{}, "the tenants")
	all[whole.who] = whole
	for i := range at.Fleet.Tenants {
		t := &at.Fleet.Tenants[i]
		if down[t.Shard] {
			continue
		}
		use := t.Usage
		use[balance.Databases] = 1
		add(&whole.use, use)
		if t.Needs == nil {
			continue
		}
		d, known := byNeeds[t.Needs]
		if !known {
			who := describe(t.Needs)
			if d = all[who]; d == nil {
				d = demandFor(at, t.Needs, who)
				all[who] = d
			}
			byNeeds[t.Needs] = d
		}
		if d != whole {
			add(&d.use, use)
		}
	}
	return all
}

func demandFor(at *placement.Snapshot, n *balance.Needs, who string) *demand {
	d := &demand{who: who}
	fits := false
	for i := range at.Fleet.Shards {
		s := &at.Fleet.Shards[i]
		if by, _ := n.Refuses(s); by != "" || s.State == balance.Down || s.State == balance.Draining {
			continue
		}
		fits = true
		for dim, c := range s.Capacity {
			if c == 0 {
				d.limit[dim] = math.Inf(1)
			}
			d.limit[dim] += max(0, c*(1-at.Policy.Headroom)-s.Other[dim])
		}
	}
	if !fits { // which is the planner's to refuse
		for dim := range d.limit {
			d.limit[dim] = math.Inf(1)
		}
	}
	return d
}

func add(v *balance.Vector, w balance.Vector) {
	for d := range v {
		v[d] += w[d]
	}
}

// describe says who the tenants are that want this of a shard.
func describe(n *balance.Needs) string {
	var parts []string
	if n.Region != "" {
		parts = append(parts, "region "+n.Region)
	}
	if n.Class != "" {
		parts = append(parts, "class "+n.Class)
	}
	for word, labels := range map[string]map[string]string{"with": n.Require, "without": n.Forbid} {
		for k, v := range labels {
			parts = append(parts, word+" "+k+"="+v)
		}
	}
	if len(parts) == 0 {
		return "the tenants"
	}
	slices.Sort(parts)
	return "the tenants of " + strings.Join(parts, ", ")
}

// list names the first few.
func list[ID ~string](ids iter.Seq[ID]) string {
	all := slices.Sorted(ids)
	var words []string
	for i, id := range all {
		if i == 3 {
			words = append(words, fmt.Sprintf("and %d more", len(all)-3))
			break
		}
		words = append(words, string(id))
	}
	return strings.Join(words, ", ")
}
