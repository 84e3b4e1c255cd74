package placement

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/usage"
	"github.com/freehold-db/freehold/shardmap"
)

// Desk chooses shards for new tenants, one replica's. It reads no tenant but those
// whose needs matter, and counts databases anew only now and then where there
// are very many. All methods are safe for concurrent use.
type Desk struct {
	store *catalog.Store

	mu       sync.Mutex
	counts   map[shardmap.ShardID]catalog.DatabaseCounts
	counted  time.Time // when they were, and how many there were
	all      int
	recently []placed
}

// placed is a tenant that was put on a shard.
type placed struct {
	on shardmap.ShardID
	at time.Time
}

const (
	// manyDatabases is from where on counting them takes longer than a creation should.
	manyDatabases = 20_000
	countEvery    = 5 * time.Second
	// settling is how long new tenants count as typical ones beside what was
	// measured: a burst of them would else go where it is quietest, all of it.
	settling = time.Hour
	// remembered bounds the new tenants that are counted so.
	remembered = 50_000
)

// NewDesk makes one.
func NewDesk(store *catalog.Store) *Desk { return &Desk{store: store} }

// Wish says what a shard is wanted for.
type Wish struct {
	catalog.GroundAsk
	// Ready wants one with a ready database.
	Ready bool
}

// Choose picks the shard that a new tenant is best put on, of those that fit,
// and keeps what it chose by from changing until tx ends. What is placed
// is told to Placed once tx is committed.
// Errors: catalog.ErrNoRoom with what stands against it; catalog.ErrPoolEmpty,
// if there is none with a ready database; for a named Fit.Shard catalog.ErrNotFound
// (no such shard) and ErrConflict (it takes no tenants).
func (d *Desk) Choose(ctx context.Context, tx pgx.Tx, w Wish) (shardmap.ShardID, error) {
	g, err := d.store.PlacementGround(ctx, tx, w.GroundAsk)
	if err != nil {
		return "", err
	}
	policy, err := Policy(g.Policy)
	if err != nil {
		return "", err
	}
	counts, err := d.count(ctx, tx)
	if err != nil {
		return "", err
	}
	usual := balance.Vector{balance.Databases: 1}
	if slices.ContainsFunc(g.Shards, func(s catalog.FleetShard) bool { return s.Figures.Tenants.Databases > 0 }) {
		usual = typical(g.Shards)
	}
	f := d.fleet(&g, &policy, w, counts, usual)
	on, err := balance.Place(f, &policy, balance.Tenant{ID: w.Tenant, Usage: usual, Needs: NeedsOf(w.Needs)})
	var infeasible *balance.InfeasibleError
	switch {
	case errors.As(err, &infeasible) && w.Ready:
		return "", catalog.ErrPoolEmpty
	case errors.As(err, &infeasible):
		r := infeasible.Refusals[0]
		return "", fmt.Errorf("%w: %s: %s", catalog.ErrNoRoom, r.Constraint, r.Detail)
	}
	return on, err
}

// fleet is the ground as the planner wants it: of most tenants it has the sum.
func (d *Desk) fleet(g *catalog.Ground, p *balance.Policy, w Wish, counts map[shardmap.ShardID]catalog.DatabaseCounts, usual balance.Vector) *balance.Fleet {
	rows := g.Shards
	// A shard that does not answer is offered to nobody who does not name it, unless
	// none answers: then it is us who hear nothing.
	sound := slices.DeleteFunc(slices.Clone(rows), func(r catalog.FleetShard) bool { return r.Trouble != "" })
	if len(sound) > 0 && w.Fit.Shard == "" {
		rows = sound
	}
	lately, uncounted := d.fresh()
	f := &balance.Fleet{}
	index := map[shardmap.ShardID]int{}
	for i := range rows {
		row := &rows[i]
		if !w.Fit.Admits(*row) || w.Ready && !g.Ready[row.ID] {
			continue
		}
		c := counts[row.ID]
		spare := c.All - c.Tenants
		if w.Ready {
			spare -= c.Ready // one of which becomes the tenant's
		}
		sh := shardOf(row, p)
		tenants := c.Tenants + uncounted[row.ID]
		sh.Other = carried(row.Figures, usual, max(tenants-row.Figures.Tenants.Databases, lately[row.ID]))
		sh.Other[balance.Databases] = float64(tenants) + takenOf(row, spare)
		index[row.ID] = len(f.Shards)
		f.Shards = append(f.Shards, sh)
	}
	live := func(on shardmap.ShardID, n *balance.Needs) {
		i, has := index[on]
		if !has {
			return
		}
		// It is in the shard's sums already.
		f.Shards[i].Other[balance.Databases] = max(0, f.Shards[i].Other[balance.Databases]-1)
		f.Tenants = append(f.Tenants, balance.Tenant{ID: "neighbour", Shard: on, Needs: n})
	}
	for _, n := range g.Neighbours {
		live(n.Shard, &balance.Needs{Apart: n.Apart, Exclusive: n.Exclusive})
	}
	for _, on := range g.Inhabited {
		live(on, nil)
	}
	return f
}

// carried is what a shard carries in all: as it was measured, and so many
// tenants beside of which nothing is known yet, or nothing that will stay so.
func carried(f catalog.ShardFigures, usual balance.Vector, beside int) balance.Vector {
	v := usage.Other(catalog.ShardReading{ShardFigures: f})
	v[balance.Bytes] += f.Tenants.Bytes
	v[balance.Connections] += f.Tenants.Connections
	v[balance.Load] += f.Tenants.Load
	v[balance.WAL] += f.Tenants.WAL
	for d := range v {
		v[d] += float64(max(0, beside)) * usual[d]
	}
	return v
}

// Placed tells that a tenant was put on a shard.
func (d *Desk) Placed(on shardmap.ShardID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.recently) >= remembered {
		d.recently = d.recently[len(d.recently)/2:]
	}
	d.recently = append(d.recently, placed{on, time.Now()})
}

// fresh counts what this replica placed on each shard lately, and since databases were counted.
func (d *Desk) fresh() (lately, uncounted map[shardmap.ShardID]int) {
	lately, uncounted = map[shardmap.ShardID]int{}, map[shardmap.ShardID]int{}
	d.mu.Lock()
	defer d.mu.Unlock()
	old := time.Now().Add(-settling)
	for len(d.recently) > 0 && d.recently[0].at.Before(old) {
		d.recently = d.recently[1:]
	}
	for _, p := range d.recently {
		lately[p.on]++
		if p.at.After(d.counted) {
			uncounted[p.on]++
		}
	}
	return lately, uncounted
}

// count counts the databases of each shard; where there are very many, what was counted lately will do.
func (d *Desk) count(ctx context.Context, tx pgx.Tx) (map[shardmap.ShardID]catalog.DatabaseCounts, error) {
	d.mu.Lock()
	counts, fresh := d.counts, d.all > manyDatabases && time.Since(d.counted) < countEvery
	d.mu.Unlock()
	if fresh {
		return counts, nil
	}
	began := time.Now()
	counts, err := d.store.CountDatabases(ctx, tx)
	if err != nil {
		return nil, err
	}
	all := 0
	for _, c := range counts {
		all += c.All
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts, d.counted, d.all = counts, began, all
	return counts, nil
}
