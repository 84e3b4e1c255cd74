package provision

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/shardmap"
)

// tendEvery is how often each shard is looked after; tests have less patience.
var tendEvery = 3 * time.Second

const (
	tendFor    = 10 * time.Minute
	maxBackoff = time.Minute // between tries at a shard that fails
	restFor    = 20 * time.Millisecond
)

// Wake has the background work looked at now.
func (s *Service) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run keeps the warm pools and templates, purges what is due and sweeps
// expired logins, until ctx ends; then it returns nil. Of several replicas one
// tends a shard at a time.
func (s *Service) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	k := &keeper{Service: s, shards: map[shardmap.ShardID]*tended{}}
	for {
		if err := k.round(ctx, &running); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "background work of provisioning", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-time.After(tendEvery + rand.N(tendEvery/4)):
		}
	}
}

// keeper is the memory of Run between rounds.
type keeper struct {
	*Service
	mu     sync.Mutex
	shards map[shardmap.ShardID]*tended
}

// tended is how one shard is doing.
type tended struct {
	busy    bool
	again   bool // woken while busy
	failed  int  // times in a row
	notNow  time.Time
	lastErr string
	logins  time.Time // when its databases' logins are looked at again
	pauses  time.Time // when its PgBouncer is looked at for forgotten pauses
}

// round starts looking after every shard that is not being looked after, and purges what is due.
func (k *keeper) round(ctx context.Context, running *sync.WaitGroup) error {
	shards, err := k.store.ListShards(ctx)
	if err != nil {
		return err
	}
	for _, u := range shards {
		if u.State != catalog.ShardDown && k.claim(u.ID) {
			running.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, tendFor)
				defer cancel()
				k.release(ctx, u.ID, k.tend(ctx, u.Shard))
			})
		}
	}
	return k.startPurges(ctx)
}

func (k *keeper) claim(id shardmap.ShardID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.shards[id]
	if t == nil {
		t = &tended{}
		k.shards[id] = t
	}
	if t.busy || time.Now().Before(t.notNow) {
		t.again = t.busy
		return false
	}
	t.busy, t.again = true, false
	return true
}

func (k *keeper) release(ctx context.Context, id shardmap.ShardID, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.shards[id]
	t.busy = false
	if err == nil || ctx.Err() != nil {
		t.failed, t.lastErr = 0, ""
		if t.again {
			k.Wake()
		}
		return
	}
	t.failed++
	wait := min(tendEvery<<min(t.failed, 10), maxBackoff)
	t.notNow = time.Now().Add(wait/2 + rand.N(wait/2))
	if err.Error() != t.lastErr { // say it once, not every time
		k.log.WarnContext(ctx, "shard is not looked after", "shard", id, "error", err)
		t.lastErr = err.Error()
	}
}

// startPurges starts the purge of tenants whose grace period is over.
func (k *keeper) startPurges(ctx context.Context) error {
	due, _, err := k.store.ListTenants(ctx, catalog.TenantFilter{PurgeDue: true}, catalog.Page{Limit: 100})
	if err != nil {
		return err
	}
	for _, t := range due {
		stillDue := func(now catalog.Tenant) error {
			// It may have been restored and deleted anew since it was listed, with a grace of its own.
			if now.PurgeAfter == nil || !now.PurgeAfter.Equal(*t.PurgeAfter) {
				return fmt.Errorf("tenant %s: %w: it is not due any more", t.ID, catalog.ErrConflict)
			}
			return only(shardmap.Deleted)(now)
		}
		_, err := k.begin(ctx, KindPurge, t.ID, system("grace period is over"), "", stillDue)
		if err != nil && !errors.Is(err, catalog.ErrBusy) && !errors.Is(err, catalog.ErrConflict) {
			return err
		}
	}
	return nil
}

// tend does whatever one shard needs, if no other replica is at it.
func (k *keeper) tend(ctx context.Context, on catalog.Shard) error {
	conn, err := k.fleet.Admin(ctx, on.ID, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	if mine, err := shard.Keep(ctx, conn); !mine || err != nil {
		return err
	}
	// What closes doors and keeps clients served comes first, and none of it is in the way of the rest.
	_, swept := shard.SweepTempLogins(ctx, conn)
	_, followed := k.fleet.FollowAddresses(ctx, on, k.home)
	going := k.endPauses(ctx, on)
	completed := k.completeLogins(ctx, conn, on.ID)
	return errors.Join(swept, followed, going, completed, k.stock(ctx, conn, on))
}

// stock keeps the templates and the warm pool, and clears what has no future.
func (k *keeper) stock(ctx context.Context, conn *pgx.Conn, on catalog.Shard) error {
	schema, err := shard.EnsureTemplatesOn(ctx, conn, k.opt.MigrationsDir)
	if err != nil {
		return err
	}
	cleared := k.clear(ctx, conn, on, schema.Version)
	if on.State != catalog.ShardActive || conn.IsClosed() {
		return cleared
	}
	return errors.Join(cleared, k.fill(ctx, conn, on.ID, schema.Version))
}

// home is where a database is served from, unless that may be about to change.
func (k *keeper) home(ctx context.Context, database string) (shardmap.ShardID, bool, error) {
	on, busy, err := k.store.Home(ctx, database)
	if errors.Is(err, catalog.ErrNotFound) {
		return "", false, nil
	}
	return on, !busy, err
}

// fill makes databases until the pool is full, one at a time and with a rest
// after each as long as its making took, so that the shard's tenants get at least half of it.
func (k *keeper) fill(ctx context.Context, conn *pgx.Conn, on shardmap.ShardID, schema int64) error {
	for {
		have, err := k.store.CountReady(ctx, on, schema)
		if err != nil || have >= k.opt.WarmPool {
			return err
		}
		start := time.Now()
		if err := k.buildReady(ctx, conn, on, schema); err != nil {
			if errors.Is(err, catalog.ErrNoRoom) {
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(max(restFor, time.Since(start))):
		}
	}
}

// buildReady makes one database for the pool: row, secret, roles, database, open, ready.
func (k *keeper) buildReady(ctx context.Context, conn *pgx.Conn, on shardmap.ShardID, schema int64) error {
	name := newDatabaseName()
	err := k.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return k.store.InsertDatabase(ctx, tx, catalog.Database{Shard: on, Name: name, State: catalog.DatabaseBuilding, SchemaVersion: schema})
	})
	if err != nil {
		return err
	}
	if err := k.makeRoles(ctx, conn, name); err != nil {
		return err
	}
	if err := k.fleet.CreateDatabase(ctx, on, name, shard.TemplateApp, k.opt.Limits); err != nil {
		return err
	}
	if err := shard.Unfence(ctx, conn, name); err != nil {
		return err
	}
	return k.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := k.store.SetDatabaseState(ctx, tx, on, name, []catalog.DatabaseState{catalog.DatabaseBuilding}, catalog.DatabaseReady, nil)
		return err
	})
}

// clear drops what has no future on the shard: half-made databases of crashed
// tries, pool databases of an old schema or of a shard that is being emptied,
// leftovers of moves past their grace, and what was being dropped.
func (k *keeper) clear(ctx context.Context, conn *pgx.Conn, on catalog.Shard, schema int64) error {
	rows, err := k.list(ctx, catalog.DatabaseFilter{Shard: on.ID, State: catalog.DatabaseBuilding})
	if err != nil {
		return err
	}
	// Rows first, then who works on which: an operation that came in between has no row among them.
	var worked map[string]bool
	if len(rows) > 0 {
		if worked, err = k.underConstruction(ctx); err != nil {
			return err
		}
	}
	hopeless := slices.DeleteFunc(rows, func(d catalog.Database) bool { return worked[d.Name] })
	ready, err := k.list(ctx, catalog.DatabaseFilter{Shard: on.ID, State: catalog.DatabaseReady})
	if err != nil {
		return err
	}
	hopeless = append(hopeless, slices.DeleteFunc(ready, func(d catalog.Database) bool {
		return d.SchemaVersion == schema && on.State != catalog.ShardDraining
	})...)
	retired, err := k.list(ctx, catalog.DatabaseFilter{Shard: on.ID, State: catalog.DatabaseRetired, DropDue: true})
	if err != nil {
		return err
	}
	hopeless = append(hopeless, retired...)
	dropping, err := k.list(ctx, catalog.DatabaseFilter{Shard: on.ID, State: catalog.DatabaseDropping})
	if err != nil {
		return err
	}
	// One that can't be dropped now is no reason to keep the others, or to fill no pool.
	var failed []error
	try := func(err error) bool {
		if err != nil {
			failed = append(failed, err)
		}
		return ctx.Err() == nil && !conn.IsClosed()
	}
	for _, d := range hopeless {
		if !try(k.discard(ctx, conn, d)) {
			return errors.Join(failed...)
		}
	}
	for _, d := range dropping {
		if _, err := k.dropRow(ctx, conn, d); !try(err) {
			return errors.Join(failed...)
		}
	}
	return errors.Join(failed...)
}

// discard drops a row's database unless somebody gave it another state meanwhile.
func (k *keeper) discard(ctx context.Context, conn *pgx.Conn, d catalog.Database) error {
	err := k.abandon(ctx, conn, d.Shard, d.Name, d.State)
	if errors.Is(err, catalog.ErrConflict) {
		return nil
	}
	return err
}

func (k *keeper) list(ctx context.Context, f catalog.DatabaseFilter) ([]catalog.Database, error) {
	rows, _, err := k.store.ListDatabases(ctx, f, catalog.Page{Limit: 1000}) // what is beyond comes next round
	return rows, err
}
