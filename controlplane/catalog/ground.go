package catalog

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// Ground is what a shard for a new tenant is chosen on: what must be right is
// read anew for each tenant, whatever the fleet's size.
type Ground struct {
	Policy PlacementPolicy
	// Shards are the active ones, whether they fit or not; their Spare is not set.
	Shards []FleetShard
	// Ready are those with a ready database.
	Ready map[shardmap.ShardID]bool
	// Neighbours are tenants, also some in the making or on their way, by whose needs a new one
	// may be kept from a shard: those of its group, and those with a shard to themselves.
	Neighbours []Neighbour
	// Inhabited are shards that some tenant lives on, moves to or is made on;
	// read only for a tenant that wants one to itself.
	Inhabited []shardmap.ShardID
}

// Neighbour is a tenant on a shard.
type Neighbour struct {
	Shard     shardmap.ShardID
	Apart     string
	Exclusive bool
}

// GroundAsk says for whom.
type GroundAsk struct {
	Tenant        shardmap.TenantID
	Needs         Needs
	Fit           Fit
	SchemaVersion int64 // of ready databases
	// Living leaves deleted tenants out, as plans do; else they count until they
	// are purged, for they may come back.
	Living   bool
	Builders []string // kinds of operations that make tenants; their documents may have shard and needs; nil: all that have them
}

// Keys of advisory locks, which keep those who choose at the same time from
// choosing what goes together badly.
const (
	lockChoosing = 0x66686c64_0001 // shared, but for a tenant that wants a shard to itself
	lockApart    = 0x66686c64      // with the group's hash: one at a time
)

// PlacementGround reads the ground, and keeps it firm until tx ends: nobody else
// chooses for the same anti-affinity group, and nobody at all beside a tenant that
// wants a shard to itself. Errors: for a named Fit.Shard ErrNotFound (no such
// shard) and ErrConflict (it takes no tenants).
func (s *Store) PlacementGround(ctx context.Context, tx pgx.Tx, ask GroundAsk) (Ground, error) {
	g := Ground{Ready: map[shardmap.ShardID]bool{}}
	var b pgx.Batch
	lock := `select pg_advisory_xact_lock_shared($1)`
	if ask.Needs.Exclusive {
		lock = `select pg_advisory_xact_lock($1)`
	}
	b.Queue(lock, int64(lockChoosing))
	if ask.Needs.Apart != "" {
		h := fnv.New32a()
		_, _ = h.Write([]byte(ask.Needs.Apart))                                             // a hash never fails
		b.Queue(`select pg_advisory_xact_lock($1, $2)`, int32(lockApart), int32(h.Sum32())) //nolint:gosec // any bits will do
	}
	b.Queue(`select ` + policyColumns + ` from placement_policy`).Query(func(rows pgx.Rows) (err error) {
		g.Policy, err = pgx.CollectExactlyOneRow(rows, scanPolicy)
		return err
	})
	b.Queue(`select `+fleetShardColumns+`, exists (select from databases d where d.shard = s.id and d.state = 'ready' and d.schema_version = $1)
		from shards s left join shard_capacities c on c.shard = s.id left join shard_usage u on u.shard = s.id
		where s.state = 'active' order by s.id`, ask.SchemaVersion).Query(func(rows pgx.Rows) (err error) {
		g.Shards, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (f FleetShard, err error) {
			var ready bool
			if err = row.Scan(append(f.fields(), &ready)...); err == nil && ready {
				g.Ready[f.ID] = true
			}
			return f, err
		})
		return err
	})
	living := ` from tenant_needs n join databases d on d.tenant = n.tenant and d.state in ('assigned', 'target')`
	counts := `true`
	if ask.Living {
		counts = `not exists (select from placements p where p.tenant = d.tenant and p.state = 'deleted')`
		living += ` and ` + counts
	}
	const moving = ` from operations o join tenant_needs n on n.tenant = o.tenant` // whose documents say where to
	b.Queue(`select d.shard, n.apart, n.exclusive`+living+` where n.exclusive
		union all select d.shard, n.apart, n.exclusive`+living+` where n.apart <> '' and n.apart = $1 and not n.exclusive
		union all select o.data->>'shard', coalesce(o.data->'needs'->>'apart', ''), coalesce((o.data->'needs'->>'exclusive')::boolean, false)
			from operations o where o.state in ('pending', 'running', 'undoing') and ($2::text[] is null or o.kind = any($2)) and o.tenant <> $3
			and coalesce(o.data->>'shard', '') <> '' and jsonb_typeof(o.data->'needs') = 'object'
		union all select o.data->>'to', n.apart, n.exclusive`+moving+` where o.state in ('pending', 'running', 'undoing') and o.tenant <> $3
			and coalesce(o.data->>'to', '') <> '' and (n.exclusive or n.apart <> '' and n.apart = $1)`,
		ask.Needs.Apart, ask.Builders, ask.Tenant).Query(func(rows pgx.Rows) (err error) {
		g.Neighbours, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Neighbour])
		return err
	})
	if ask.Needs.Exclusive {
		b.Queue(`select s.id from shards s where exists (select from databases d where d.shard = s.id and d.state in ('assigned', 'target') and d.tenant <> $2 and `+counts+`)
			or exists (select from operations o where o.state in ('pending', 'running', 'undoing') and o.tenant <> $2
				and (($1::text[] is null or o.kind = any($1)) and o.data->>'shard' = s.id or o.data->>'to' = s.id))`,
			ask.Builders, ask.Tenant).Query(func(rows pgx.Rows) (err error) {
			g.Inhabited, err = pgx.CollectRows(rows, pgx.RowTo[shardmap.ShardID])
			return err
		})
	}
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return g, fmt.Errorf("choose a shard: %w", translate(err))
	}
	if named := ask.Fit.Shard; named != "" && !slices.ContainsFunc(g.Shards, func(f FleetShard) bool { return f.ID == named }) {
		on, err := getShard(ctx, tx, named)
		if err == nil {
			err = fmt.Errorf("shard %s is %s and takes no tenants: %w", on.ID, on.State, ErrConflict)
		}
		return g, err
	}
	return g, nil
}

// Admits tells whether the shard fits.
func (f Fit) Admits(s FleetShard) bool {
	return (f.Shard == "" || f.Shard == s.ID) && (f.Region == "" || f.Region == s.Region) && (f.Class == "" || f.Class == s.Class) &&
		!slices.Contains(f.Exclude, s.ID)
}

// DatabaseCounts are the databases of a shard, but for those being dropped.
type DatabaseCounts struct{ Tenants, Ready, All int }

// CountDatabases counts those of each shard; shards without any are left out. It reads the whole inventory.
func (s *Store) CountDatabases(ctx context.Context, tx pgx.Tx) (map[shardmap.ShardID]DatabaseCounts, error) {
	counts := map[shardmap.ShardID]DatabaseCounts{}
	rows, err := tx.Query(ctx, `select shard, count(*) filter (where state = 'assigned'), count(*) filter (where state = 'ready'), count(*)
		from databases where state <> 'dropping' group by shard`)
	if err == nil {
		var id string
		var c DatabaseCounts
		_, err = pgx.ForEachRow(rows, []any{&id, &c.Tenants, &c.Ready, &c.All}, func() error {
			counts[shardmap.ShardID(id)] = c
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("count databases: %w", translate(err))
	}
	return counts, nil
}
