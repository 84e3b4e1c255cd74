package catalog

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/klauspost/compress/zstd"
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

const (
	// forgetPlansAfter is how long expired plans can still be looked at.
	forgetPlansAfter = 30 * 24 * time.Hour
	// mostPlans and mostPlanBytes, as they are stored, bound what is kept of plans, the oldest
	// of which go first; fewestPlans are kept however large they are.
	mostPlans, fewestPlans = 500, 10
	mostPlanBytes          = 256 << 20
	// forgetAtOnce bounds how many plans are forgotten as another one is kept.
	forgetAtOnce = 20
)

const planColumns = `id::text, digest, policy_version, scenario, moves, bytes, created_by, reason, created_at, expires_at`

func (p *RebalancePlan) fields() []any {
	return []any{&p.ID, &p.Digest, &p.PolicyVersion, &p.Scenario, &p.Moves, &p.Bytes, &p.CreatedBy, &p.Reason, &p.CreatedAt, &p.ExpiresAt}
}

// InsertRebalancePlan keeps a plan; its times are the caller's. In passing, some
// are forgotten that expired long before it, or that are more than can be kept.
func (s *Store) InsertRebalancePlan(ctx context.Context, tx pgx.Tx, p RebalancePlan) error {
	packed, err := packPlan(p.Plan)
	if err != nil {
		return fmt.Errorf("keep a plan: %w", err)
	}
	_, err = tx.Exec(ctx, `insert into rebalance_plans (id, digest, policy_version, scenario, moves, bytes, packed, created_by, reason, created_at, expires_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		p.ID, p.Digest, p.PolicyVersion, p.Scenario, p.Moves, p.Bytes, packed, p.CreatedBy, p.Reason, p.CreatedAt, p.ExpiresAt)
	if err == nil {
		err = forgetPlans(ctx, tx, p.CreatedAt, mostPlans, fewestPlans, mostPlanBytes)
	}
	if err != nil {
		return fmt.Errorf("keep a plan: %w", translate(err))
	}
	return nil
}

func forgetPlans(ctx context.Context, tx pgx.Tx, now time.Time, most, fewest, bytes int) error {
	// Who keeps another plan at the same moment forgets the same ones: neither waits for the other.
	_, err := tx.Exec(ctx, `delete from rebalance_plans where id in (select id from rebalance_plans where id in (select id from (
			select id, expires_at, row_number() over newest as n,
				sum(coalesce(pg_column_size(packed), 0) + coalesce(pg_column_size(plan), 0)) over newest as bytes
			from rebalance_plans window newest as (order by id desc)) kept
		where expires_at < $1 or n > $2 or n > $3 and bytes > $4 order by id limit $5) for update skip locked)`,
		now.Add(-forgetPlansAfter), most, fewest, bytes, forgetAtOnce)
	return err
}

// plansPacker and plansUnpacker have no state between plans. Their options are constant, as is whether they fail.
var (
	plansPacker = sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	})
	plansUnpacker = sync.OnceValues(func() (*zstd.Decoder, error) {
		return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	})
)

func packPlan(text []byte) ([]byte, error) {
	w, err := plansPacker()
	if err != nil {
		return nil, err
	}
	return w.EncodeAll(text, nil), nil
}

func unpackPlan(packed []byte) ([]byte, error) {
	r, err := plansUnpacker()
	if err != nil {
		return nil, err
	}
	return r.DecodeAll(packed, nil)
}

// GetRebalancePlan reads one. Errors: ErrNotFound.
func (s *Store) GetRebalancePlan(ctx context.Context, id string) (RebalancePlan, error) {
	var packed []byte
	p, err := one(ctx, s.pool, func(row pgx.CollectableRow) (p RebalancePlan, err error) {
		return p, row.Scan(append(p.fields(), &p.Plan, &packed)...)
	}, `select `+planColumns+`, plan, packed from rebalance_plans where id::text = $1`, id)
	if err == nil && packed != nil {
		p.Plan, err = unpackPlan(packed)
	}
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
