package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// ShardUsage is a shard and what is on it.
type ShardUsage struct {
	Shard
	Tenants   int // databases in use by tenants (also of deleted ones until they are purged)
	Ready     int // databases in the warm pool
	Databases int // all rows of the inventory but those being dropped; what MaxDatabases bounds
}

const shardColumns = `s.id, s.state, s.region, s.class, s.labels, s.postgres_host, s.postgres_port,
	s.bouncer_host, s.bouncer_port, s.routes_file, s.postgres_tls_dir, s.max_databases, s.version, s.created_at`

func (s *Shard) fields() []any {
	return []any{&s.ID, &s.State, &s.Region, &s.Class, &s.Labels, &s.PostgresHost, &s.PostgresPort,
		&s.BouncerHost, &s.BouncerPort, &s.RoutesFile, &s.PostgresTLSDir, &s.MaxDatabases, &s.Version, &s.CreatedAt}
}

func scanShard(row pgx.CollectableRow) (Shard, error) {
	var s Shard
	err := row.Scan(s.fields()...)
	return s, err
}

func scanUsage(row pgx.CollectableRow) (ShardUsage, error) {
	var u ShardUsage
	err := row.Scan(append(u.fields(), &u.Tenants, &u.Ready, &u.Databases)...)
	return u, err
}

// AddShard registers a shard and publishes it. A zero State means ShardActive. Errors: ErrExists.
func (s *Store) AddShard(ctx context.Context, tx pgx.Tx, shard Shard) (Shard, error) {
	if shard.State == "" {
		shard.State = ShardActive
	}
	added, err := one(ctx, tx, scanShard, `insert into shards as s (id, state, region, class, labels, postgres_host, postgres_port,
			bouncer_host, bouncer_port, routes_file, postgres_tls_dir, max_databases)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) on conflict do nothing returning `+shardColumns,
		shard.ID, shard.State, shard.Region, shard.Class, labels(shard), shard.PostgresHost, shard.PostgresPort,
		shard.BouncerHost, shard.BouncerPort, shard.RoutesFile, shard.PostgresTLSDir, shard.MaxDatabases)
	if errors.Is(err, ErrNotFound) {
		err = ErrExists
	}
	if err != nil {
		return added, fmt.Errorf("shard %s: %w", shard.ID, err)
	}
	return added, nil
}

func labels(s Shard) map[string]string {
	if s.Labels == nil {
		return map[string]string{}
	}
	return s.Labels
}

// UpdateShard writes everything but ID, State, Version and CreatedAt (new
// addresses after a restart or a failover, labels, bounds), and publishes it. Errors: ErrNotFound.
func (s *Store) UpdateShard(ctx context.Context, tx pgx.Tx, shard Shard) (Shard, error) {
	updated, err := one(ctx, tx, scanShard, `update shards s set region = $2, class = $3, labels = $4, postgres_host = $5,
			postgres_port = $6, bouncer_host = $7, bouncer_port = $8, routes_file = $9, postgres_tls_dir = $10, max_databases = $11
		where id = $1 returning `+shardColumns,
		shard.ID, shard.Region, shard.Class, labels(shard), shard.PostgresHost, shard.PostgresPort,
		shard.BouncerHost, shard.BouncerPort, shard.RoutesFile, shard.PostgresTLSDir, shard.MaxDatabases)
	if err != nil {
		return updated, fmt.Errorf("shard %s: %w", shard.ID, err)
	}
	return updated, nil
}

// GetShard reads one shard. Errors: ErrNotFound.
func (s *Store) GetShard(ctx context.Context, id shardmap.ShardID) (Shard, error) {
	return getShard(ctx, s.pool, id)
}

func getShard(ctx context.Context, q querier, id shardmap.ShardID) (Shard, error) {
	shard, err := one(ctx, q, scanShard, `select `+shardColumns+` from shards s where id = $1`, id)
	if err != nil {
		return shard, fmt.Errorf("shard %s: %w", id, err)
	}
	return shard, nil
}

const selectUsage = `select ` + shardColumns + `, coalesce(d.tenants, 0), coalesce(d.ready, 0), coalesce(d.databases, 0)
	from shards s left join lateral (
		select count(*) filter (where state = 'assigned') as tenants, count(*) filter (where state = 'ready') as ready,
			count(*) filter (where state <> 'dropping') as databases
		from databases where shard = s.id) d on true`

// GetShardUsage reads one shard with its counts. Errors: ErrNotFound.
func (s *Store) GetShardUsage(ctx context.Context, id shardmap.ShardID) (ShardUsage, error) {
	u, err := one(ctx, s.pool, scanUsage, selectUsage+` where s.id = $1`, id)
	if err != nil {
		return u, fmt.Errorf("shard %s: %w", id, err)
	}
	return u, nil
}

// ListShards lists all shards by ID (a fleet has at most thousands), but for those that were removed.
func (s *Store) ListShards(ctx context.Context) ([]ShardUsage, error) {
	shards, err := many(ctx, s.pool, scanUsage, selectUsage+` where s.state <> 'removed' order by s.id`)
	if err != nil {
		return nil, fmt.Errorf("list shards: %w", err)
	}
	return shards, nil
}

// SetShardState changes the state if it is one of from; a shard that already is in state to is left as it is.
// Errors: ErrNotFound, ErrConflict.
func (s *Store) SetShardState(ctx context.Context, tx pgx.Tx, id shardmap.ShardID, from []ShardState, to ShardState) (Shard, error) {
	shard, err := one(ctx, tx, scanShard, `update shards s set state = $3 where id = $1 and state = any($2) and state <> $3
		returning `+shardColumns, id, from, to)
	if err == nil {
		return shard, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return shard, fmt.Errorf("shard %s: %w", id, err)
	}
	shard, err = getShard(ctx, tx, id)
	if err == nil && shard.State != to {
		err = fmt.Errorf("shard %s is %s and must be %s to become %s: %w", id, shard.State, Either(from), to, ErrConflict)
	}
	return shard, err
}

// Fit says which shards will do; zero fields don't narrow.
type Fit struct {
	Shard         shardmap.ShardID // this one and no other
	Region, Class string
	Exclude       []shardmap.ShardID
}

func (f Fit) args() []any {
	exclude := f.Exclude
	if exclude == nil {
		exclude = []shardmap.ShardID{}
	}
	return []any{f.Shard, f.Region, f.Class, exclude}
}

const (
	// fitting narrows shards s to those that fit the arguments $1 to $4 of Fit.args.
	fitting = `s.state = 'active' and ($1 = '' or s.id = $1) and ($2 = '' or s.region = $2)
		and ($3 = '' or s.class = $3) and s.id <> all($4::text[])`
	// load orders by tenants per capacity; a shard without a bound counts as one for 1,000 databases.
	load = `(select count(*) from databases where shard = s.id and state = 'assigned')::float8
		/ coalesce(nullif(s.max_databases, 0), 1000)`
)

// LeastLoaded picks the active shard with room that has the fewest tenants for its capacity.
// Errors: ErrNoRoom; for a named Fit.Shard also ErrNotFound (no such shard) and ErrConflict (it takes no tenants).
func (s *Store) LeastLoaded(ctx context.Context, tx pgx.Tx, fit Fit) (Shard, error) {
	shard, err := one(ctx, tx, scanShard, `select `+shardColumns+` from shards s where `+fitting+`
		and (s.max_databases = 0 or s.max_databases > (select count(*) from databases where shard = s.id and state <> 'dropping'))
		order by `+load+`, s.id limit 1`, fit.args()...)
	if err == nil {
		return shard, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return shard, fmt.Errorf("choose a shard: %w", err)
	}
	if fit.Shard != "" {
		named, err := getShard(ctx, tx, fit.Shard)
		if err != nil {
			return Shard{}, err
		}
		if named.State != ShardActive {
			return Shard{}, fmt.Errorf("shard %s is %s and takes no tenants: %w", named.ID, named.State, ErrConflict)
		}
		return Shard{}, fmt.Errorf("shard %s: %w", named.ID, ErrNoRoom)
	}
	return Shard{}, ErrNoRoom
}
