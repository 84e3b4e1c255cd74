package move

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move/protocol"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
)

// target puts the database into the inventory, then makes it: nothing on a
// shard is unknown to the catalog.
func (s *Service) target(ctx context.Context, r *run) error {
	start := time.Now()
	src, dst, err := s.servers(ctx, r)
	if err != nil {
		return err
	}
	defer closeConn(src)
	defer closeConn(dst)
	if err := s.claimName(ctx, r); err != nil {
		return err
	}
	if err := s.createTarget(ctx, r, src, dst); err != nil {
		return err
	}
	r.Data.Receipt.phase("target", start)
	return nil
}

// servers connects to both servers' maintenance databases.
func (s *Service) servers(ctx context.Context, r *run) (src, dst *pgx.Conn, err error) {
	if src, err = s.connect(ctx, r.Data.From.Shard, maintenance); err != nil {
		return nil, nil, err
	}
	if dst, err = s.connect(ctx, r.Data.To, maintenance); err != nil {
		closeConn(src)
		return nil, nil, err
	}
	return src, dst, nil
}

// claimName enters the target database into the inventory. What an earlier
// move left there is taken over, row first, so that nobody else drops it
// later; it is replaced when the database is made. Who is dropping it this
// moment has it reserved, and is stopped or done when we make it (see owning).
func (s *Service) claimName(ctx context.Context, r *run) error {
	from, err := s.store.GetDatabase(ctx, r.Data.From.Shard, r.Data.database())
	if err != nil {
		return err
	}
	return s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		db, err := s.store.SetDatabaseState(ctx, tx, r.Data.To, r.Data.database(),
			[]catalog.DatabaseState{catalog.DatabaseRetired, catalog.DatabaseDropping, catalog.DatabaseTarget}, catalog.DatabaseTarget, nil)
		if errors.Is(err, catalog.ErrNotFound) {
			return s.store.InsertDatabase(ctx, tx, catalog.Database{Shard: r.Data.To, Name: r.Data.database(),
				State: catalog.DatabaseTarget, Tenant: r.Data.Tenant, SchemaVersion: from.SchemaVersion})
		}
		if err != nil {
			return err
		}
		if db.Tenant != r.Data.Tenant {
			return operation.Permanent(fmt.Errorf("database %s on %s belongs to another tenant: %w", db.Name, db.Shard, catalog.ErrConflict))
		}
		return s.store.SetSchemaVersion(ctx, tx, r.Data.To, r.Data.database(), from.SchemaVersion)
	})
}

// createTarget makes roles and the empty, fenced database, anew if it was begun before.
func (s *Service) createTarget(ctx context.Context, r *run, src, dst *pgx.Conn) error {
	// Subscriptions go with the database. To connect to it first would wait for
	// whoever is dropping it this moment, whom owning stops.
	return s.owning(ctx, r, dst, func() error { return shard.CreateTarget(ctx, src, dst, r.Data.database()) })
}

// owning runs fn, which makes or drops the target, while nobody else can: not
// the inventory's keeper, nor a worker before us that was stopped inside this
// and wakes up. dst is an admin connection to the target's maintenance database.
func (s *Service) owning(ctx context.Context, r *run, dst *pgx.Conn, fn func() error) error {
	if err := r.Held(ctx); err != nil { // before we stop anybody
		return err
	}
	release, err := shard.Seize(ctx, dst, r.Data.database())
	if err != nil {
		return err
	}
	defer release()
	if err := r.Held(ctx); err != nil {
		return err
	}
	start := time.Now()
	stop := s.whileWaiting(ctx, r, r.Data.To, operation.Progress{Phase: "target"}, busySQL, dst.PgConn().PID())
	err = fn()
	if what := stop(); time.Since(start) > slowTarget {
		s.opt.Logger.WarnContext(ctx, "move: the target's server takes long to make or drop the database", "operation", r.Op.ID, "shard", r.Data.To,
			"took", time.Since(start).Round(time.Millisecond), "waited for", what, "error", err)
	}
	return err
}

// slowTarget is how long an empty database takes where something is wrong.
const slowTarget = 15 * time.Second

// busySQL tells what a session is busy with.
const busySQL = `SELECT 'the server, which takes its time with ' || split_part(query, ' ', 1) || ' ' || split_part(query, ' ', 2) || ' and waits for ' || coalesce(wait_event_type || ' ' || wait_event, 'nothing')
FROM pg_catalog.pg_stat_activity WHERE pid = $1 AND state = 'active'`

// undoTarget drops what target made.
func (s *Service) undoTarget(ctx context.Context, r *run) error {
	if err := s.stillAtSource(ctx, r); err != nil {
		return err
	}
	db, err := s.store.GetDatabase(ctx, r.Data.To, r.Data.database())
	if errors.Is(err, catalog.ErrNotFound) || err == nil && db.State != catalog.DatabaseTarget {
		return nil // the step came to nothing
	}
	if err != nil {
		return err
	}
	var routed bool
	gone, err := s.unlessGone(ctx, r, r.Data.To, func() error {
		if err := s.dropSubscription(ctx, r); err != nil {
			return err
		}
		dst, err := s.connect(ctx, r.Data.To, maintenance)
		if err != nil {
			return err
		}
		defer closeConn(dst)
		if err := s.owning(ctx, r, dst, func() error { return shard.DropDatabaseAndRoles(ctx, dst, r.Data.database()) }); err != nil {
			return err
		}
		routed, err = s.routed(ctx, r)
		return err
	})
	if err != nil {
		return err
	}
	return s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if routed || gone { // the row stays until no client is attached there any more, or what it names is dropped; the inventory's keeper sees to that
			_, err := s.store.SetDatabaseState(ctx, tx, r.Data.To, r.Data.database(),
				[]catalog.DatabaseState{catalog.DatabaseTarget}, catalog.DatabaseDropping, nil)
			return err
		}
		return s.store.DeleteDatabase(ctx, tx, r.Data.To, r.Data.database())
	})
}

// routed tells whether the target's PgBouncer, from a time when the tenant
// lived there, still has an entry that leads its clients to the source.
func (s *Service) routed(ctx context.Context, r *run) (bool, error) {
	routes, err := s.fleet.Routes(ctx, r.Data.To)
	if errors.Is(err, shard.ErrNoRoutes) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer routes.Close()
	return routes.Has(r.Data.database())
}

// stillAtSource asks the catalog before anything is taken back.
func (s *Service) stillAtSource(ctx context.Context, r *run) error {
	flipped, err := s.stage(r).Flipped(ctx)
	if flipped {
		return operation.Permanent(protocol.ErrFlipped)
	}
	return err
}
