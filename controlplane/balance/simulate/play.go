package simulate

import (
	"slices"
	"time"

	"github.com/freehold-db/freehold/controlplane/balance"
)

// Outcome is what one way of balancing made of a fleet.
type Outcome struct {
	Name  string  `json:"name"`
	Moves int     `json:"moves"`
	Bytes float64 `json:"bytes"`
	// Worst is the fullest shard over the bound, see [balance.Standing].
	Worst float64 `json:"worst"`
}

// Play plays a rival's way on a fleet that the scenario was applied to.
func (r Rival) Play(f *balance.Fleet, p *balance.Policy) (Outcome, error) {
	after := &balance.Fleet{Shards: f.Shards, Tenants: slices.Clone(f.Tenants)}
	r.Run(after)
	o := Outcome{Name: r.Name}
	for t := range f.Tenants {
		if f.Tenants[t].Shard != after.Tenants[t].Shard {
			o.Moves++
			o.Bytes += f.Tenants[t].Usage[balance.Bytes]
		}
	}
	return o.judged(after, p)
}

// Judge says what a plan makes of the fleet that its scenario was applied to.
func Judge(f *balance.Fleet, p *balance.Policy, plan *balance.Plan) (Outcome, error) {
	after, err := plan.Carry(f, time.Time{})
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{Name: "freehold", Moves: len(plan.Moves), Bytes: plan.Bytes}.judged(after, p)
}

func (o Outcome) judged(after *balance.Fleet, p *balance.Policy) (Outcome, error) {
	s, err := balance.Stand(after, p)
	o.Worst = s.Worst
	return o, err
}
