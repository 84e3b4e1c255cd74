package catalog

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// FleetShard is a shard as the planner of placement sees it.
type FleetShard struct {
	ID            shardmap.ShardID
	State         ShardState
	Region, Class string
	Labels        map[string]string
	MaxDatabases  int
	Capacity      Capacity
	// Spare are databases that are no living tenant's: the warm pool, what is
	// being made, leftovers of moves, deleted tenants.
	Spare int
	// Figures are what was measured of it last; Trouble is why the last look failed.
	Figures ShardFigures
	Trouble string
}

// FleetTenant is a tenant with a database, as the planner of placement sees it.
type FleetTenant struct {
	PlacedTenant
	Needs *Needs     // nil: none
	Moved *time.Time // when it came to its shard by a move; nil: never moved
}

// ReadTx runs fn in a transaction that only reads and sees one state of the
// catalog all the time.
func (s *Store) ReadTx(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error {
	tx, err := s.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return fmt.Errorf("catalog: begin: %w", Classify(err))
	}
	defer rollback(ctx, tx)
	if err := fn(ctx, tx); err != nil {
		if tx.Conn().IsClosed() {
			return unavailable(err)
		}
		return Classify(err)
	}
	return nil
}

const fleetShardColumns = `s.id, s.state, s.region, s.class, s.labels, s.max_databases, coalesce(c.bytes, 0), coalesce(c.connections, 0),
	coalesce(c.load, 0), coalesce(c.wal, 0), coalesce(c.databases, 0), coalesce(u.figures, '{}'), coalesce(u.trouble, '')`

func (f *FleetShard) fields() []any {
	c := &f.Capacity
	return []any{&f.ID, &f.State, &f.Region, &f.Class, &f.Labels, &f.MaxDatabases, &c.Bytes, &c.Connections, &c.Load, &c.WAL, &c.Databases, &f.Figures, &f.Trouble}
}

// FleetShards reads all shards by ID, but for those that were removed.
func (s *Store) FleetShards(ctx context.Context, tx pgx.Tx) ([]FleetShard, error) {
	shards, err := many(ctx, tx, func(row pgx.CollectableRow) (f FleetShard, err error) {
		return f, row.Scan(append(f.fields(), &f.Spare)...)
	}, `select `+fleetShardColumns+`, coalesce(d.spare, 0)
		from shards s left join shard_capacities c on c.shard = s.id left join shard_usage u on u.shard = s.id
		left join (select d.shard, count(*) as spare from databases d where d.state <> 'dropping' and not exists (
			select from placements p where p.tenant = d.tenant and p.shard = d.shard and d.state = 'assigned' and p.state <> 'deleted')
			group by d.shard) d on d.shard = s.id
		where s.state <> 'removed' order by s.id`)
	if err != nil {
		return nil, fmt.Errorf("shards of the fleet: %w", err)
	}
	return shards, nil
}

// EachFleetTenant calls fn with every tenant that has a database, deleted ones
// too, by ID, until fn fails.
func (s *Store) EachFleetTenant(ctx context.Context, tx pgx.Tx, fn func(FleetTenant) error) error {
	rows, err := tx.Query(ctx, `select p.tenant, p.shard, p.state, p.moved_at, u.tenant is not null, coalesce(u.bytes, 0)::float8,
			coalesce(greatest(u.connections, u.day_connections), 0), coalesce(greatest(u.load, u.day_load), 0),
			coalesce(greatest(u.wal, u.day_wal), 0), coalesce(u.busy, 0),
			n.tenant is not null, coalesce(n.region, ''), coalesce(n.class, ''), n.require, n.forbid, coalesce(n.apart, ''),
			coalesce(n.pinned, false), coalesce(n.exclusive, false)
		from placements p left join tenant_needs n on n.tenant = p.tenant left join tenant_usage u on u.tenant = p.tenant
		where p.state <> 'deleted' or exists (select from tenants t where t.id = p.tenant and t.purged_at is null)
		order by p.tenant`)
	if err != nil {
		return fmt.Errorf("tenants of the fleet: %w", translate(err))
	}
	defer rows.Close()
	for rows.Next() {
		var t FleetTenant
		var n Needs
		var has bool
		if err := rows.Scan(&t.Tenant, &t.Shard, &t.State, &t.Moved, &t.Measured, &t.Bytes, &t.Connections, &t.Load, &t.WAL, &t.Busy,
			&has, &n.Region, &n.Class, &n.Require, &n.Forbid, &n.Apart, &n.Pinned, &n.Exclusive); err != nil {
			return fmt.Errorf("tenants of the fleet: %w", err)
		}
		if has {
			t.Needs = &n
		}
		if err := fn(t); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("tenants of the fleet: %w", translate(err))
	}
	return nil
}
