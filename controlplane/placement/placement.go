// Package placement reads the catalog as package balance wants it: the fleet, and
// the policy that tenants are placed by.
//
// Import law: of this module, placement imports shardmap, controlplane/catalog,
// controlplane/balance and balance/policyfile.
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
	s.Fleet.Shards = make([]balance.Shard, len(s.Rows))
	ids := make(map[shardmap.ShardID]shardmap.ShardID, len(s.Rows)) // one string for each
	for i := range s.Rows {
		s.Fleet.Shards[i] = s.Shard(i)
		ids[s.Rows[i].ID] = s.Rows[i].ID
	}
	needs := interned{}
	err = store.EachFleetTenant(ctx, tx, func(t catalog.FleetTenant) error {
		tenant := balance.Tenant{ID: t.ID, Shard: ids[t.Shard], Usage: balance.Vector{balance.Databases: 1}, Needs: needs.of(t.Needs)}
		if t.Moved != nil {
			tenant.Moved = *t.Moved
		}
		s.Fleet.Tenants = append(s.Fleet.Tenants, tenant)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
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
	row := &s.Rows[i]
	sh := balance.Shard{
		ID: row.ID, State: balance.State(row.State), Region: row.Region, Class: row.Class, Labels: row.Labels,
		Capacity: Vector(row.Capacity), Other: balance.Vector{balance.Databases: float64(row.Spare)},
	}
	if row.MaxDatabases > 0 {
		// The catalog itself keeps this bound, to the last database: headroom is none of it.
		most := float64(row.MaxDatabases) / (1 - s.Policy.Headroom)
		if c := &sh.Capacity[balance.Databases]; *c == 0 || *c > most {
			*c = most
		}
	}
	return sh
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
