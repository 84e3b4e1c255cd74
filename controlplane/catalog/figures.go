package catalog

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// Figures are what an operator watches the catalog by, at one moment.
type Figures struct {
	// Operations counts those that have not ended, by kind and state.
	Operations []OperationCount
	// OutboxAge is how long the oldest change has waited to be published, AuditAge
	// how long the oldest record has waited for the audit log; 0: none waits.
	OutboxAge, AuditAge time.Duration
	// Soaks counts those that have not ended; SoakBytes is the most log that a shard
	// keeps for one of them, as of the last looks.
	Soaks     int
	SoakBytes int64
	// Moves counts those of the run under way, by their state.
	Moves map[RebalanceMoveState]int
	// Ready counts the warm pool of each shard, at every version of the schema.
	Ready map[shardmap.ShardID]int
}

// OperationCount is how many operations of a kind are in a state.
type OperationCount struct {
	Kind, State string
	Count       int
}

// Figures reads them. It costs a few look-ups in indexes, whatever the history's length.
func (s *Store) Figures(ctx context.Context) (Figures, error) {
	var f Figures
	var err error
	f.Operations, err = many(ctx, s.pool, pgx.RowToStructByPos[OperationCount], `select kind, state, count(*) from operations
		where state in ('pending', 'running', 'undoing') group by kind, state`)
	if err != nil {
		return f, fmt.Errorf("count operations: %w", err)
	}
	var outbox, audit float64
	err = s.pool.QueryRow(ctx, `select
		coalesce((select extract(epoch from clock_timestamp() - created_at) from outbox order by id limit 1), 0)::float8,
		coalesce((select extract(epoch from clock_timestamp() - (record->>'Time')::timestamptz) from audit_outbox order by id limit 1), 0)::float8`).
		Scan(&outbox, &audit)
	if err != nil {
		return f, fmt.Errorf("age of the outboxes: %w", Classify(err))
	}
	f.OutboxAge, f.AuditAge = time.Duration(outbox*float64(time.Second)), time.Duration(audit*float64(time.Second))
	err = s.pool.QueryRow(ctx, `select count(*), coalesce(max(kept_bytes), 0) from soaks where ended_at is null`).Scan(&f.Soaks, &f.SoakBytes)
	if err != nil {
		return f, fmt.Errorf("count soaks: %w", Classify(err))
	}
	if f.Moves, err = s.movesUnderWay(ctx); err != nil {
		return f, err
	}
	shards, err := s.ListShards(ctx)
	if err != nil {
		return f, err
	}
	f.Ready = make(map[shardmap.ShardID]int, len(shards))
	for _, u := range shards {
		f.Ready[u.ID] = u.Ready
	}
	return f, nil
}
