package catalog

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// RebalanceMoveState is the life of one move of a run.
type RebalanceMoveState string

const (
	MoveLeft    RebalanceMoveState = "left"     // not begun; running next, or planned away
	MoveRunning RebalanceMoveState = "running"  // its operation is under way
	MoveMoved   RebalanceMoveState = "moved"    // final: the tenant has arrived
	MoveFailed  RebalanceMoveState = "failed"   // final: the tenant stays where it was; Error says why
	MoveGivenUp RebalanceMoveState = "given-up" // final: it could not begin; Error says why
)

// RebalanceMove is one move of a run.
type RebalanceMove struct {
	N                int // place in the run's order, from 1; 0 before it is added
	Tenant           shardmap.TenantID
	From, To         shardmap.ShardID
	Bytes            float64
	Kind, Why        string
	State            RebalanceMoveState
	Operation        string // the move's; empty: it was not begun
	BegunAt, EndedAt *time.Time
	Error            string
}

const rebalanceMoveColumns = `n, tenant, from_shard, to_shard, bytes, kind, why, state, coalesce(operation::text, ''), begun_at, ended_at, error`

func scanRebalanceMove(row pgx.CollectableRow) (RebalanceMove, error) {
	var m RebalanceMove
	err := row.Scan(&m.N, &m.Tenant, &m.From, &m.To, &m.Bytes, &m.Kind, &m.Why, &m.State, &m.Operation, &m.BegunAt, &m.EndedAt, &m.Error)
	return m, err
}

// RebalanceMoves reads the first moves of a run in one of the states, in its order; a limit of 0 is none.
func (s *Store) RebalanceMoves(ctx context.Context, run string, limit int, states ...RebalanceMoveState) ([]RebalanceMove, error) {
	moves, err := many(ctx, s.pool, scanRebalanceMove, `select `+rebalanceMoveColumns+` from rebalance_moves
		where run = $1 and state = any($2) order by n limit nullif($3, 0)`, run, states, limit)
	if err != nil {
		return nil, fmt.Errorf("moves of run %s: %w", run, err)
	}
	return moves, nil
}

// ListRebalanceMoves reads a page of the moves of a run, in its order; after is the N of the page before.
func (s *Store) ListRebalanceMoves(ctx context.Context, run string, after, limit int) ([]RebalanceMove, error) {
	moves, err := many(ctx, s.pool, scanRebalanceMove, `select `+rebalanceMoveColumns+` from rebalance_moves
		where run = $1 and n > $2 order by n limit $3`, run, after, limit)
	if err != nil {
		return nil, fmt.Errorf("moves of run %s: %w", run, err)
	}
	return moves, nil
}

// RebalanceCount is how many moves of a run are in a state, and their bytes.
type RebalanceCount struct {
	Moves int
	Bytes float64
}

// RebalanceTroubles reads the last move of each tenant that the run did not move and does not try to any more.
func (s *Store) RebalanceTroubles(ctx context.Context, run string) ([]RebalanceMove, error) {
	moves, err := many(ctx, s.pool, scanRebalanceMove, `select `+rebalanceMoveColumns+` from
		(select distinct on (tenant) * from rebalance_moves where run = $1 order by tenant, n desc) last
		where state in ('failed', 'given-up') order by n`, run)
	if err != nil {
		return nil, fmt.Errorf("moves of run %s: %w", run, err)
	}
	return moves, nil
}

// RebalanceFailure is a tenant whose moves failed, in whichever runs.
type RebalanceFailure struct {
	Tenant shardmap.TenantID
	Failed int       // since one of its moves arrived, as far as moves are remembered
	Last   time.Time // when the last of them failed
	Why    string    // the last of them did
}

// RebalanceFailures reads the tenants whose last move in a run failed after that time.
func (s *Store) RebalanceFailures(ctx context.Context, after time.Time) ([]RebalanceFailure, error) {
	failures, err := many(ctx, s.pool, pgx.RowToStructByPos[RebalanceFailure], `
		select m.tenant, count(*), max(m.ended_at), (array_agg(m.error order by m.ended_at desc))[1] from rebalance_moves m
		where m.state = 'failed' and m.tenant in (select tenant from rebalance_moves where state = 'failed' and ended_at > $1)
			and not exists (select from rebalance_moves o where o.tenant = m.tenant and o.state = 'moved' and o.ended_at > m.ended_at)
		group by m.tenant having max(m.ended_at) > $1 order by m.tenant`, after)
	if err != nil {
		return nil, fmt.Errorf("moves that failed: %w", err)
	}
	return failures, nil
}

// CountRebalanceTries counts the moves of the tenant that failed in the run.
func (s *Store) CountRebalanceTries(ctx context.Context, run string, tenant shardmap.TenantID) (n int, err error) {
	err = s.pool.QueryRow(ctx, `select count(*) from rebalance_moves where run = $1 and tenant = $2 and state = 'failed'`, run, tenant).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("moves of run %s: %w", run, translate(err))
	}
	return n, nil
}

// CountRebalanceMoves counts the moves of a run by their state.
func (s *Store) CountRebalanceMoves(ctx context.Context, run string) (map[RebalanceMoveState]RebalanceCount, error) {
	counts := map[RebalanceMoveState]RebalanceCount{}
	rows, err := s.pool.Query(ctx, `select state, count(*), coalesce(sum(bytes), 0) from rebalance_moves where run = $1 group by state`, run)
	if err == nil {
		var state RebalanceMoveState
		var c RebalanceCount
		_, err = pgx.ForEachRow(rows, []any{&state, &c.Moves, &c.Bytes}, func() error {
			counts[state] = c
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("moves of run %s: %w", run, translate(err))
	}
	return counts, nil
}

// movesUnderWay counts the moves of the run that has not ended, by their state.
func (s *Store) movesUnderWay(ctx context.Context) (map[RebalanceMoveState]int, error) {
	counts := map[RebalanceMoveState]int{}
	rows, err := s.pool.Query(ctx, `select m.state, count(*) from operations o join rebalance_moves m on m.run = o.id
		where o.kind = 'rebalance' and o.state in ('pending', 'running', 'undoing') group by m.state`)
	if err == nil {
		var state RebalanceMoveState
		var n int
		_, err = pgx.ForEachRow(rows, []any{&state, &n}, func() error {
			counts[state] = n
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("count moves of the run: %w", translate(err))
	}
	return counts, nil
}

// ReplaceMovesLeft puts these moves, in their order, in the place of those that a run has left.
func (s *Store) ReplaceMovesLeft(ctx context.Context, tx pgx.Tx, run string, moves []RebalanceMove) error {
	tenants, from, to := make([]string, len(moves)), make([]string, len(moves)), make([]string, len(moves))
	kinds, whys, bytes := make([]string, len(moves)), make([]string, len(moves)), make([]float64, len(moves))
	for i, m := range moves {
		tenants[i], from[i], to[i], kinds[i], whys[i], bytes[i] = string(m.Tenant), string(m.From), string(m.To), m.Kind, m.Why, m.Bytes
	}
	_, err := tx.Exec(ctx, `delete from rebalance_moves where run = $1 and state = 'left'`, run)
	if err == nil {
		_, err = tx.Exec(ctx, `insert into rebalance_moves (run, n, tenant, from_shard, to_shard, kind, why, bytes)
			select $1, (select coalesce(max(n), 0) from rebalance_moves where run = $1) + ordinal, tenant, from_shard, to_shard, kind, why, bytes
			from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::float8[])
				with ordinality as q (tenant, from_shard, to_shard, kind, why, bytes, ordinal)`, run, tenants, from, to, kinds, whys, bytes)
	}
	if err != nil {
		return fmt.Errorf("moves of run %s: %w", run, translate(err))
	}
	return nil
}

// AddRebalanceMove puts a move behind those of the run.
func (s *Store) AddRebalanceMove(ctx context.Context, tx pgx.Tx, run string, m RebalanceMove) error {
	_, err := tx.Exec(ctx, `insert into rebalance_moves (run, n, tenant, from_shard, to_shard, bytes, kind, why)
		select $1, coalesce(max(n), 0) + 1, $2, $3, $4, $5, $6, $7 from rebalance_moves where run = $1`,
		run, m.Tenant, m.From, m.To, m.Bytes, m.Kind, m.Why)
	if err != nil {
		return fmt.Errorf("moves of run %s: %w", run, translate(err))
	}
	return nil
}

// BeginRebalanceMove records the operation of a move that was left. Errors: ErrConflict, if it is not left.
func (s *Store) BeginRebalanceMove(ctx context.Context, tx pgx.Tx, run string, n int, operation string, at time.Time) error {
	return s.changeRebalanceMove(ctx, tx, run, n, `update rebalance_moves set state = 'running', operation = $3, begun_at = $4
		where run = $1 and n = $2 and state = 'left'`, operation, at)
}

// EndRebalanceMove records how a move ended. Errors: ErrConflict, if it has ended already.
func (s *Store) EndRebalanceMove(ctx context.Context, tx pgx.Tx, run string, n int, state RebalanceMoveState, why string, at time.Time) error {
	return s.changeRebalanceMove(ctx, tx, run, n, `update rebalance_moves set state = $3, error = $4, ended_at = $5
		where run = $1 and n = $2 and state in ('left', 'running')`, state, why, at)
}

func (s *Store) changeRebalanceMove(ctx context.Context, tx pgx.Tx, run string, n int, sql string, args ...any) error {
	tag, err := tx.Exec(ctx, sql, append([]any{run, n}, args...)...)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrConflict
	}
	if err != nil {
		return fmt.Errorf("move %d of run %s: %w", n, run, translate(err))
	}
	return nil
}

// RebalanceMovesBegun reads the moves of all runs that were begun after a time: when, and of how many bytes.
func (s *Store) RebalanceMovesBegun(ctx context.Context, after time.Time) (at []time.Time, bytes []float64, err error) {
	rows, err := s.pool.Query(ctx, `select begun_at, bytes from rebalance_moves where begun_at > $1 order by begun_at`, after)
	if err == nil {
		var t time.Time
		var b float64
		_, err = pgx.ForEachRow(rows, []any{&t, &b}, func() error {
			at, bytes = append(at, t), append(bytes, b)
			return nil
		})
	}
	if err != nil {
		return nil, nil, fmt.Errorf("moves begun: %w", translate(err))
	}
	return at, bytes, nil
}

// ForgetRebalanceMoves drops the moves of runs that ended longer ago than that.
func (s *Store) ForgetRebalanceMoves(ctx context.Context, tx pgx.Tx, age time.Duration) error {
	_, err := tx.Exec(ctx, `delete from rebalance_moves where run in (select id from operations
		where kind = 'rebalance' and finished_at < clock_timestamp() - make_interval(secs => $1))`, age.Seconds())
	if err != nil {
		return fmt.Errorf("moves of old runs: %w", translate(err))
	}
	return nil
}
