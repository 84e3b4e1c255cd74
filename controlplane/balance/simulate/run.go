package simulate

import (
	"time"

	"github.com/freehold-db/freehold/controlplane/balance"
)

// Result is a plan and how the fleet stands with it.
type Result struct {
	Tenants int `json:"tenants"`
	Shards  int `json:"shards"`
	// WorstBefore and WorstAfter are the fullest shard over its bound, see [balance.Standing].
	WorstBefore float64 `json:"worst_before"`
	WorstAfter  float64 `json:"worst_after"`
	LeastBytes  float64 `json:"least_bytes"` // that have to move at least
	Seconds     float64 `json:"seconds"`     // that planning took
	// Plan is for what is asked; Rivals are other ways to do it, if they are wanted.
	Plan   *balance.Plan `json:"plan"`
	Rivals []Outcome     `json:"rivals,omitempty"`
}

// Run plans for a fleet, and judges the plan. Errors: as [balance.Make]'s.
func Run(f *balance.Fleet, p *balance.Policy, ask balance.Ask, rivals bool) (*Result, error) {
	assumed, err := ask.Scenario.Apply(f)
	if err != nil {
		return nil, err
	}
	before, err := balance.Stand(assumed, p)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	plan, err := balance.Make(f, p, ask)
	if err != nil {
		return nil, err
	}
	r := &Result{Tenants: len(f.Tenants), Shards: len(f.Shards), WorstBefore: before.Worst, LeastBytes: before.LeastBytes,
		Seconds: time.Since(began).Seconds(), Plan: plan}
	ours, err := Judge(assumed, p, plan)
	if err != nil {
		return nil, err
	}
	r.WorstAfter = ours.Worst
	if !rivals {
		return r, nil
	}
	r.Rivals = append(r.Rivals, ours)
	for _, rival := range Rivals {
		o, err := rival.Play(assumed, p)
		if err != nil {
			return nil, err
		}
		r.Rivals = append(r.Rivals, o)
	}
	return r, nil
}
