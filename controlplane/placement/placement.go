// Package placement reads the catalog as package balance wants it: the fleet, and
// the policy that tenants are placed by.
//
// Import law: of this module, placement imports shardmap, controlplane/catalog,
// controlplane/balance and balance/policyfile, and controlplane/usage.
package placement

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/balance/policyfile"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/usage"
	"github.com/freehold-db/freehold/shardmap"
)

// Snapshot is the fleet and its policy at one moment.
type Snapshot struct {
	Fleet  *balance.Fleet
	Policy balance.Policy
	// Version is the policy's, see [catalog.PlacementPolicy].
	Version int64
	// Rows are the fleet's shards as the catalog has them, in the same order.
	Rows []catalog.FleetShard
	// Other is what they carry beside the fleet's tenants, likewise.
	Other []balance.Vector
}

// readFor bounds the reading of a whole fleet: a million tenants take seconds.
const readFor = 2 * time.Minute

// Read reads the whole fleet, in one transaction that sees one state. Deleted
// tenants are no part of it; what they still take counts as their shards' Other.
func Read(ctx context.Context, store *catalog.Store) (*Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, readFor)
	defer cancel()
	var s *Snapshot
	err := store.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		s, err = ReadTx(ctx, store, tx)
		return err
	})
	return s, err
}

// ReadTx is Read inside a transaction of the caller's, which sees one state all the time.
func ReadTx(ctx context.Context, store *catalog.Store, tx pgx.Tx) (*Snapshot, error) {
	if _, err := tx.Exec(ctx, `select set_config('statement_timeout', $1, true)`, fmt.Sprint(readFor.Milliseconds())); err != nil {
		return nil, fmt.Errorf("read the fleet: %w", catalog.Classify(err))
	}
	stored, err := store.PlacementPolicy(ctx, tx)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{Fleet: &balance.Fleet{}, Version: stored.Version}
	if s.Policy, err = Policy(stored); err != nil {
		return nil, err
	}
	if s.Rows, err = store.FleetShards(ctx, tx); err != nil {
		return nil, err
	}
	s.Fleet.Shards, s.Other = make([]balance.Shard, len(s.Rows)), make([]balance.Vector, len(s.Rows))
	for i := range s.Rows {
		s.Other[i] = usage.Other(catalog.ShardReading{ShardFigures: s.Rows[i].Figures})
		s.Fleet.Shards[i] = s.Shard(i)
	}
	typical, needs := typical(s.Rows), interned{}
	at := make(map[shardmap.ShardID]*balance.Shard, len(s.Rows))
	for i := range s.Fleet.Shards {
		at[s.Fleet.Shards[i].ID] = &s.Fleet.Shards[i]
	}
	err = store.EachFleetTenant(ctx, tx, func(t catalog.FleetTenant) error {
		on := at[t.Shard]
		use, busy := usage.Tenant(t.PlacedTenant, typical)
		if t.State == shardmap.Deleted {
			use[balance.Databases] = 0
			for d := range use {
				on.Other[d] += use[d]
			}
			return nil
		}
		tenant := balance.Tenant{ID: t.Tenant, Shard: on.ID, Usage: use, Needs: needs.of(t.Needs), Busy: busy}
		if t.Moved != nil {
			tenant.Moved = *t.Moved
		}
		s.Fleet.Tenants = append(s.Fleet.Tenants, tenant)
		return nil
	})
	if err != nil {
		return nil, err
	}
	figures := make([]catalog.ShardFigures, len(s.Rows))
	for i := range s.Rows {
		figures[i] = s.Rows[i].Figures
	}
	usage.Faint(s.Fleet, figures, s.Policy.Floor)
	for i := range s.Fleet.Shards {
		s.Other[i] = s.Fleet.Shards[i].Other
	}
	return s, nil
}

// typical is what a tenant is taken to use of which nothing is known.
func typical(rows []catalog.FleetShard) balance.Vector {
	readings := make([]catalog.ShardReading, len(rows))
	for i := range rows {
		readings[i].ShardFigures = rows[i].Figures
	}
	return usage.Typical(readings)
}

// Policy reads a stored policy.
func Policy(stored catalog.PlacementPolicy) (balance.Policy, error) {
	d, err := policyfile.Parse([]byte(stored.Text))
	if err != nil {
		return balance.Policy{}, fmt.Errorf("stored policy, version %d: %w", stored.Version, err)
	}
	return d.Policy, nil
}

// Shard is row i as the planner wants it, by the snapshot's policy.
func (s *Snapshot) Shard(i int) balance.Shard {
	sh := shardOf(&s.Rows[i], &s.Policy)
	sh.Other = s.Other[i]
	sh.Other[balance.Databases] = takenOf(&s.Rows[i], s.Rows[i].Spare)
	return sh
}

func shardOf(row *catalog.FleetShard, p *balance.Policy) balance.Shard {
	sh := balance.Shard{ID: row.ID, State: balance.State(row.State), Region: row.Region, Class: row.Class, Labels: row.Labels, Capacity: Vector(row.Capacity)}
	if row.MaxDatabases > 0 {
		// The catalog itself keeps this bound, to the last database: headroom is none of it.
		most := float64(row.MaxDatabases) / (1 - p.Headroom)
		if c := &sh.Capacity[balance.Databases]; *c == 0 || *c > most {
			*c = most
		}
	}
	return sh
}

// takenOf is how many databases count that are no tenant's: all of them where the
// catalog bounds databases of whatever kind, else none, for the warm pool comes and goes.
func takenOf(row *catalog.FleetShard, spare int) float64 {
	if row.MaxDatabases == 0 {
		return 0
	}
	return float64(max(0, spare))
}

// Vector is a capacity as the planner wants it.
func Vector(c catalog.Capacity) balance.Vector {
	return balance.Vector{balance.Bytes: c.Bytes, balance.Connections: c.Connections, balance.Load: c.Load, balance.WAL: c.WAL, balance.Databases: c.Databases}
}

// Capacity is the catalog's word for a vector.
func Capacity(v balance.Vector) catalog.Capacity {
	return catalog.Capacity{Bytes: v[balance.Bytes], Connections: v[balance.Connections], Load: v[balance.Load], WAL: v[balance.WAL], Databases: v[balance.Databases]}
}

// NeedsOf are a tenant's needs as the planner wants them; nil: none.
func NeedsOf(n catalog.Needs) *balance.Needs {
	if n.None() {
		return nil
	}
	b := balance.Needs(n)
	return &b
}

// interned keeps equal needs once: a million tenants have few different ones.
type interned map[string]*balance.Needs

func (all interned) of(n *catalog.Needs) *balance.Needs {
	if n == nil {
		return nil
	}
	key, err := json.Marshal(n) // strings and booleans; maps in the order of their keys
	if err != nil {
		return NeedsOf(*n)
	}
	known, has := all[string(key)]
	if !has {
		known = NeedsOf(*n)
		all[string(key)] = known
	}
	return known
}
