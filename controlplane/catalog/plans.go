package catalog

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// RebalancePlan is a plan that was made for the fleet.
type RebalancePlan struct {
	ID            string // UUIDv7
	Digest        string // of the fleet it was made for
	PolicyVersion int64
	Scenario      string // what it supposes; empty: nothing
	Moves         int
	Bytes         float64
	// Plan is the whole as JSON; nil in lists.
	Plan              []byte
	CreatedBy, Reason string
	CreatedAt         time.Time
	ExpiresAt         time.Time // not to be carried out any more from then on
}

// forgetPlansAfter is how long expired plans can still be looked at.
const forgetPlansAfter = 30 * 24 * time.Hour

const planColumns = `id::text, digest, policy_version, scenario, moves, bytes, created_by, reason, created_at, expires_at`

func (p *RebalancePlan) fields() []any {
	return []any{&p.ID, &p.Digest, &p.PolicyVersion, &p.Scenario, &p.Moves, &p.Bytes, &p.CreatedBy, &p.Reason, &p.CreatedAt, &p.ExpiresAt}
}

// InsertRebalancePlan keeps a plan; its times are the caller's. In passing, a
// few plans that expired long before it are forgotten.
func (s *Store) InsertRebalancePlan(ctx context.Context, tx pgx.Tx, p RebalancePlan) error {
	_, err := tx.Exec(ctx, `delete from rebalance_plans where id in (select id from rebalance_plans where expires_at < $1
		order by expires_at limit 5 for update skip locked)`, p.CreatedAt.Add(-forgetPlansAfter))
	if err == nil {
		_, err = tx.Exec(ctx, `insert into rebalance_plans (id, digest, policy_version, scenario, moves, bytes, plan, created_by, reason, created_at, expires_at)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			p.ID, p.Digest, p.PolicyVersion, p.Scenario, p.Moves, p.Bytes, p.Plan, p.CreatedBy, p.Reason, p.CreatedAt, p.ExpiresAt)
	}
	if err != nil {
		return fmt.Errorf("keep a plan: %w", translate(err))
	}
	return nil
}

// GetRebalancePlan reads one. Errors: ErrNotFound.
func (s *Store) GetRebalancePlan(ctx context.Context, id string) (RebalancePlan, error) {
	p, err := one(ctx, s.pool, func(row pgx.CollectableRow) (p RebalancePlan, err error) {
		return p, row.Scan(append(p.fields(), &p.Plan)...)
	}, `select `+planColumns+`, plan from rebalance_plans where id::text = $1`, id)
	if err != nil {
		return p, fmt.Errorf("plan %s: %w", id, err)
	}
	return p, nil
}

// ListRebalancePlans lists newest first, without the plans themselves. next is
// the cursor of the following page, empty after the last.
func (s *Store) ListRebalancePlans(ctx context.Context, p Page) (plans []RebalancePlan, next string, err error) {
	plans, err = many(ctx, s.pool, func(row pgx.CollectableRow) (p RebalancePlan, err error) {
		return p, row.Scan(p.fields()...)
	}, `select `+planColumns+` from rebalance_plans where $1 = '' or id < nullif($1, '')::uuid order by id desc limit $2`, p.After, p.Rows()+1)
	if err != nil {
		return nil, "", fmt.Errorf("list plans: %w", err)
	}
	plans, next = CutPage(p, plans, func(p RebalancePlan) string { return p.ID })
	return plans, next, nil
}
