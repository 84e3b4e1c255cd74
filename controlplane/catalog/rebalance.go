package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// RebalanceState is what is kept of the fleet's coordinator of moves.
type RebalanceState struct {
	// Auto: runs begin by themselves.
	Auto               bool
	AutoBy, AutoReason string
	AutoAt             *time.Time
	// LookedAt is when auto mode looked for something to do, Says what it found
	// then, and Memory what it has to know of that at the next look.
	LookedAt *time.Time
	Says     string
	Memory   json.RawMessage
	// PausedAt is set while the run under way begins no move.
	PausedAt               *time.Time
	PausedBy, PausedReason string
}

const rebalanceColumns = `auto, auto_by, auto_reason, auto_at, looked_at, says, memory, paused_at, paused_by, paused_reason`

func scanRebalance(row pgx.CollectableRow) (RebalanceState, error) {
	var r RebalanceState
	err := row.Scan(&r.Auto, &r.AutoBy, &r.AutoReason, &r.AutoAt, &r.LookedAt, &r.Says, &r.Memory, &r.PausedAt, &r.PausedBy, &r.PausedReason)
	return r, err
}

// RebalanceState reads it.
func (s *Store) RebalanceState(ctx context.Context) (RebalanceState, error) {
	r, err := one(ctx, s.pool, scanRebalance, `select `+rebalanceColumns+` from rebalance_state`)
	if err != nil {
		return r, fmt.Errorf("state of rebalancing: %w", err)
	}
	return r, nil
}

// LockRebalance is RebalanceState, and has others who would begin a run, or
// change anything of this, wait until tx ends.
func (s *Store) LockRebalance(ctx context.Context, tx pgx.Tx) (RebalanceState, error) {
	r, err := one(ctx, tx, scanRebalance, `select `+rebalanceColumns+` from rebalance_state for update`)
	if err != nil {
		return r, fmt.Errorf("state of rebalancing: %w", err)
	}
	return r, nil
}

// TryLockRebalance is LockRebalance for who must not wait. free: the lock was to be had.
func (s *Store) TryLockRebalance(ctx context.Context, tx pgx.Tx) (free bool, err error) {
	err = tx.QueryRow(ctx, `select exists (select from (select from rebalance_state for update skip locked) r)`).Scan(&free)
	if err != nil {
		return false, fmt.Errorf("state of rebalancing: %w", translate(err))
	}
	return free, nil
}

// SetRebalanceAuto has runs begin by themselves, or not. What was seen before counts no more.
func (s *Store) SetRebalanceAuto(ctx context.Context, tx pgx.Tx, on bool, by Actor) error {
	_, err := tx.Exec(ctx, `update rebalance_state set auto = $1, auto_by = $2, auto_reason = $3, auto_at = clock_timestamp(),
		looked_at = null, says = '', memory = '{}'`, on, by.Name, by.Reason)
	if err != nil {
		return fmt.Errorf("state of rebalancing: %w", translate(err))
	}
	return nil
}

// SetRebalancePaused keeps the run under way from beginning moves, or lets it.
func (s *Store) SetRebalancePaused(ctx context.Context, tx pgx.Tx, paused bool, by Actor) error {
	_, err := tx.Exec(ctx, `update rebalance_state set paused_at = case when $1 then coalesce(paused_at, clock_timestamp()) end,
		paused_by = case when $1 then $2 else '' end, paused_reason = case when $1 then $3 else '' end`, paused, by.Name, by.Reason)
	if err != nil {
		return fmt.Errorf("state of rebalancing: %w", translate(err))
	}
	return nil
}

// TakeRebalanceLook gives one caller the look of auto mode that is due: none was taken
// within the time that is given, and auto mode is on. Errors: ErrNotFound, if none is due.
func (s *Store) TakeRebalanceLook(ctx context.Context, every time.Duration) (RebalanceState, error) {
	return one(ctx, s.pool, scanRebalance, `update rebalance_state set looked_at = clock_timestamp()
		where auto and (looked_at is null or looked_at <= clock_timestamp() - make_interval(secs => $1)) returning `+rebalanceColumns, every.Seconds())
}

// NoteRebalanceLook keeps what a look found, while auto mode is on.
func (s *Store) NoteRebalanceLook(ctx context.Context, tx pgx.Tx, says string, memory json.RawMessage) error {
	if _, err := tx.Exec(ctx, `update rebalance_state set says = $1, memory = $2 where auto`, says, memory); err != nil {
		return fmt.Errorf("state of rebalancing: %w", translate(err))
	}
	return nil
}

// RebalanceGround names the shards, as they are, and the version of the policy:
// it changes whenever any of that does.
func (s *Store) RebalanceGround(ctx context.Context) (string, error) {
	var ground string
	err := s.pool.QueryRow(ctx, `select format('policy %s, shards %s/%s', (select version from placement_policy), count(*), coalesce(sum(version), 0))
		from shards`).Scan(&ground)
	if err != nil {
		return "", fmt.Errorf("shards and policy: %w", translate(err))
	}
	return ground, nil
}

// ComingToDraining says how many databases are being made for tenants on shards that are
// being emptied, or moved there: whoever sent them did so before. Empty: none.
func (s *Store) ComingToDraining(ctx context.Context) (string, error) {
	var why string
	err := s.pool.QueryRow(ctx, `select coalesce(string_agg(format('%s databases are still being made on shard %s, or moved there', n, id), ', ' order by id), '')
		from (select s.id, count(*) as n from shards s join databases d on d.shard = s.id and (d.state = 'target' or d.state = 'building'
				and exists (select from operations o where o.state in ('pending', 'running', 'undoing') and o.data->>'database' = d.name))
			where s.state = 'draining' group by s.id) on_the_way`).Scan(&why)
	if err != nil {
		return "", fmt.Errorf("databases on the way to draining shards: %w", translate(err))
	}
	return why, nil
}

// Drain is a shard that is being emptied.
type Drain struct {
	Shard shardmap.ShardID
	// Was is the shard's state before, which it gets back when the drain is taken back.
	Was             ShardState
	BegunBy, Reason string
	BegunAt         time.Time
}

func scanDrain(row pgx.CollectableRow) (Drain, error) {
	var d Drain
	err := row.Scan(&d.Shard, &d.Was, &d.BegunBy, &d.Reason, &d.BegunAt)
	return d, err
}

// BeginDrain makes a shard one that is being emptied, and remembers what it was.
// One that is already is left as it is. Errors: ErrNotFound, ErrConflict (it is down).
func (s *Store) BeginDrain(ctx context.Context, tx pgx.Tx, id shardmap.ShardID, by Actor) (Drain, error) {
	// Who has chosen the shard for a tenant has said so by then, or finds it draining.
	if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock($1)`, int64(lockChoosing)); err != nil {
		return Drain{}, fmt.Errorf("drain of shard %s: %w", id, translate(err))
	}
	var was ShardState
	err := tx.QueryRow(ctx, `select state from shards where id = $1 for no key update`, id).Scan(&was)
	if errors.Is(err, pgx.ErrNoRows) {
		return Drain{}, fmt.Errorf("shard %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return Drain{}, fmt.Errorf("shard %s: %w", id, translate(err))
	}
	if was == ShardDraining { // also one that somebody else made so: it took tenants before
		_, err = tx.Exec(ctx, `insert into shard_drains (shard, was, begun_by, reason) values ($1, 'active', $2, $3) on conflict do nothing`, id, by.Name, by.Reason)
	} else if _, err = s.SetShardState(ctx, tx, id, []ShardState{ShardActive, ShardCordoned}, ShardDraining); err == nil {
		_, err = tx.Exec(ctx, `insert into shard_drains (shard, was, begun_by, reason) values ($1, $2, $3, $4)`, id, was, by.Name, by.Reason)
	}
	if err != nil {
		return Drain{}, fmt.Errorf("drain of shard %s: %w", id, translate(err))
	}
	return one(ctx, tx, scanDrain, `select shard, was, begun_by, reason, begun_at from shard_drains where shard = $1`, id)
}

// EndDrain gives a shard that is being emptied its old state back. Errors: ErrNotFound, ErrConflict (it is not being emptied).
func (s *Store) EndDrain(ctx context.Context, tx pgx.Tx, id shardmap.ShardID) (Shard, error) {
	d, err := one(ctx, tx, scanDrain, `delete from shard_drains where shard = $1 returning shard, was, begun_by, reason, begun_at`, id)
	if errors.Is(err, ErrNotFound) {
		d.Was, err = ShardActive, nil
	}
	if err != nil {
		return Shard{}, fmt.Errorf("drain of shard %s: %w", id, err)
	}
	shard, err := getShard(ctx, tx, id)
	if err == nil && shard.State != ShardDraining {
		err = fmt.Errorf("shard %s is %s and not being drained: %w", id, shard.State, ErrConflict)
	}
	if err != nil {
		return shard, err
	}
	return s.SetShardState(ctx, tx, id, []ShardState{ShardDraining}, d.Was)
}

// GetDrain reads it. Errors: ErrNotFound, if the shard is not being emptied.
func (s *Store) GetDrain(ctx context.Context, id shardmap.ShardID) (Drain, error) {
	d, err := one(ctx, s.pool, scanDrain, `select d.shard, was, begun_by, reason, begun_at from shard_drains d join shards s on s.id = d.shard
		where d.shard = $1 and s.state = 'draining'`, id)
	if err != nil {
		return d, fmt.Errorf("drain of shard %s: %w", id, err)
	}
	return d, nil
}

// OnShard counts what a shard has of tenants.
type OnShard struct {
	Living  int // tenants that live there
	Deleted int // deleted ones whose database is kept until they are purged
	// Leftovers are other databases: of the warm pool, of moves, being made or dropped.
	Leftovers int
	// Gone is when the last database that is kept for a while may be dropped; nil: none is.
	Gone *time.Time
}

// CountTenantsOn counts what a shard has of tenants.
func (s *Store) CountTenantsOn(ctx context.Context, id shardmap.ShardID) (OnShard, error) {
	var on OnShard
	err := s.pool.QueryRow(ctx, `select count(*) filter (where p.state <> 'deleted'), count(*) filter (where p.state = 'deleted'),
			count(*) filter (where p.tenant is null), greatest(max(d.drop_after), max(t.purge_after) filter (where p.state = 'deleted'))
		from databases d
			left join placements p on p.tenant = d.tenant and p.shard = d.shard and d.state = 'assigned'
			left join tenants t on t.id = p.tenant
		where d.shard = $1`, id).Scan(&on.Living, &on.Deleted, &on.Leftovers, &on.Gone)
	if err != nil {
		return on, fmt.Errorf("tenants on shard %s: %w", id, translate(err))
	}
	return on, nil
}
