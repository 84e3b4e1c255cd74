package rebalance

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/placement"
	"github.com/freehold-db/freehold/shardmap"
)

// mustsOnly is the policy as a plan wants it that moves nobody for the sake of balance.
func mustsOnly(p balance.Policy) balance.Policy {
	const wide = 10
	p.Tolerance, p.Margin = wide, wide
	return p
}

// mostRefused bounds the refusals that a run keeps.
const mostRefused = 20

// replan puts the moves of a new plan in the place of those that are left, and
// returns the first of them. Who is under way counts as arrived, and who can't
// be moved, or rests as far as auto mode is concerned, stays where it is.
func (s *Service) replan(ctx context.Context, r *run, at *placement.Snapshot, shards conditions, running []catalog.RebalanceMove, ground, why string, now time.Time) ([]catalog.RebalanceMove, error) {
	stay, err := s.staying(ctx, r.Op.ID)
	if err != nil {
		return nil, err
	}
	if r.Data.Trigger != "" {
		resting, err := s.resting(ctx, now)
		if err != nil {
			return nil, err
		}
		asked, err := r.Asked(ctx)
		if err != nil {
			return nil, err
		}
		w, err := readWish(asked)
		if err != nil {
			return nil, err
		}
		w.wanted(at.Fleet, resting)
		for id := range resting {
			stay[id] = true
		}
	}
	policy := at.Policy
	if r.Data.Must {
		policy = mustsOnly(policy)
	}
	plan, err := balance.Make(expected(shards.without(at.Fleet), running, stay), &policy, balance.Ask{Now: now, Partial: true})
	if err != nil {
		return nil, err
	}
	r.Data.Refused = slices.DeleteFunc(plan.Refused, func(ref balance.Refusal) bool {
		return stay[ref.Tenant] || slices.ContainsFunc(running, func(m catalog.RebalanceMove) bool { return m.Tenant == ref.Tenant })
	})
	r.Data.Refused = r.Data.Refused[:min(len(r.Data.Refused), mostRefused)]
	err = r.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return s.store.ReplaceMovesLeft(ctx, tx, r.Op.ID, kept(plan.Moves))
	})
	if err != nil {
		return nil, err
	}
	if len(plan.Moves) > 0 && (r.Data.Plans > 0 || r.Data.Plan != "") {
		r.Data.Replanned = why
	}
	s.count.plans.Inc()
	r.Data.Ground, r.Data.Plans = ground, r.Data.Plans+1
	s.log.InfoContext(ctx, "rebalance: planned", "operation", r.Op.ID, "why", why, "moves", len(plan.Moves), "refused", len(plan.Refused))
	return s.store.RebalanceMoves(ctx, r.Op.ID, window, catalog.MoveLeft)
}

// staying are the tenants that a run leaves where they are: their moves failed, or can't begin.
func (s *Service) staying(ctx context.Context, id string) (map[shardmap.TenantID]bool, error) {
	troubles, err := s.store.RebalanceTroubles(ctx, id)
	if err != nil {
		return nil, err
	}
	stay := make(map[shardmap.TenantID]bool, len(troubles))
	for _, m := range troubles {
		stay[m.Tenant] = true
	}
	return stay, nil
}

// expected is the fleet once those who are under way have arrived, where nobody
// of them and of those who stay is moved. f is not changed.
func expected(f *balance.Fleet, running []catalog.RebalanceMove, stay map[shardmap.TenantID]bool) *balance.Fleet {
	if len(running) == 0 && len(stay) == 0 {
		return f
	}
	to := make(map[shardmap.TenantID]shardmap.ShardID, len(running))
	for _, m := range running {
		to[m.Tenant] = m.To
	}
	e := &balance.Fleet{Shards: f.Shards, Tenants: slices.Clone(f.Tenants)}
	for i := range e.Tenants {
		t := &e.Tenants[i]
		target, moves := to[t.ID]
		if !moves && !stay[t.ID] {
			continue
		}
		if moves {
			t.Shard = target
		}
		var n balance.Needs
		if t.Needs != nil {
			n = *t.Needs
		}
		n.Pinned = true
		t.Needs = &n
	}
	return e
}
