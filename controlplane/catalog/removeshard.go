package catalog

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// RemovedShards lists the shards that were removed.
func (s *Store) RemovedShards(ctx context.Context) ([]Shard, error) {
	shards, err := many(ctx, s.pool, scanShard, `select `+shardColumns+` from shards s where s.state = 'removed' order by s.id`)
	if err != nil {
		return nil, fmt.Errorf("list removed shards: %w", err)
	}
	return shards, nil
}

// RemoveShard takes a drained shard out of the fleet: its row stays, for the
// placements of purged tenants that name it, and its ID is never used again.
// One that is removed is left as it is. Errors: ErrNotFound, ErrConflict (it is
// in use, or not drained, with what stands against it).
func (s *Store) RemoveShard(ctx context.Context, tx pgx.Tx, id shardmap.ShardID) (Shard, error) {
	// The lock keeps others from adding a database meanwhile: their row refers to this one.
	shard, err := one(ctx, tx, scanShard, `select `+shardColumns+` from shards s where id = $1 for update`, id)
	if err != nil {
		return shard, fmt.Errorf("shard %s: %w", id, err)
	}
	if shard.State == ShardRemoved {
		return shard, nil
	}
	if shard.State != ShardDraining && shard.State != ShardDown {
		return shard, fmt.Errorf("shard %s is %s: %w; drain it first", id, shard.State, ErrConflict)
	}
	var databases, soaks, operations int
	err = tx.QueryRow(ctx, `select (select count(*) from databases where shard = $1),
		(select count(*) from soaks where ended_at is null and (home = $1 or old = $1)),
		(select count(*) from operations where finished_at is null and (data->>'shard' = $1 or data->>'to' = $1 or data->'from'->>'shard' = $1))`, id).
		Scan(&databases, &soaks, &operations)
	if err != nil {
		return shard, fmt.Errorf("shard %s: %w", id, translate(err))
	}
	var why []string
	for what, n := range map[string]int{"databases (tenants', deleted tenants' in their grace, leftovers of moves)": databases, "soaking moves": soaks, "unfinished operations": operations} {
		if n > 0 {
			why = append(why, fmt.Sprintf("%d %s", n, what))
		}
	}
	if len(why) > 0 {
		return shard, fmt.Errorf("shard %s is in use by %s: %w", id, strings.Join(why, " and "), ErrConflict)
	}
	for _, sql := range []string{`delete from shard_drains where shard = $1`, `delete from shard_capacities where shard = $1`,
		`delete from shard_usage where shard = $1`, `delete from credentials where kind = 'shard' and subject = $1`} {
		if _, err := tx.Exec(ctx, sql, id); err != nil {
			return shard, fmt.Errorf("shard %s: %w", id, translate(err))
		}
	}
	shard, err = one(ctx, tx, scanShard, `update shards s set state = 'removed' where id = $1 returning `+shardColumns, id)
	if err != nil {
		return shard, fmt.Errorf("shard %s: %w", id, err)
	}
	return shard, nil
}
