package catalog

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// ShardUsage is a shard and what is on it.
type ShardUsage struct {
	Shard
	Tenants   int // databases a placement names
	Ready     int // databases in the warm pool
	Databases int // all rows of the inventory but those being dropped; what MaxDatabases bounds
}

// AddShard registers a shard and publishes it. A zero State means ShardActive. Errors: ErrExists.
func (s *Store) AddShard(ctx context.Context, tx pgx.Tx, shard Shard) (Shard, error) {
	return Shard{}, errTODO
}

// UpdateShard writes everything but ID, State, Version and CreatedAt (new
// addresses after a restart or a failover, labels, bounds), and publishes it. Errors: ErrNotFound.
func (s *Store) UpdateShard(ctx context.Context, tx pgx.Tx, shard Shard) (Shard, error) {
	return Shard{}, errTODO
}

// GetShard reads one shard. Errors: ErrNotFound.
func (s *Store) GetShard(ctx context.Context, id shardmap.ShardID) (Shard, error) {
	return Shard{}, errTODO
}

// GetShardUsage reads one shard with its counts. Errors: ErrNotFound.
func (s *Store) GetShardUsage(ctx context.Context, id shardmap.ShardID) (ShardUsage, error) {
	return ShardUsage{}, errTODO
}

// ListShards lists all shards by ID (a fleet has at most thousands).
func (s *Store) ListShards(ctx context.Context) ([]ShardUsage, error) { return nil, errTODO }

// SetShardState changes the state if it is one of from; a shard that already is in state to is left as it is.
// Errors: ErrNotFound, ErrConflict.
func (s *Store) SetShardState(ctx context.Context, tx pgx.Tx, id shardmap.ShardID, from []ShardState, to ShardState) (Shard, error) {
	return Shard{}, errTODO
}

// Fit says which shards will do; zero fields don't narrow.
type Fit struct {
	Shard         shardmap.ShardID // this one and no other
	Region, Class string
	Exclude       []shardmap.ShardID
}

// LeastLoaded picks the active shard with room that has the fewest tenants for its capacity.
// Errors: ErrNoRoom; for a named Fit.Shard also ErrNotFound (no such shard) and ErrConflict (it takes no tenants).
func (s *Store) LeastLoaded(ctx context.Context, tx pgx.Tx, fit Fit) (Shard, error) {
	return Shard{}, errTODO
}
