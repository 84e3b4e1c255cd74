package provision

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// maintenance is the database in which admin connections work on a server as a whole.
const maintenance = "postgres"

// newDatabaseName is opaque and unique in the fleet: names leak, and a move keeps them.
func newDatabaseName() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return "t_" + hex.EncodeToString(b[:])
}

// makeLogin makes sure that there is the database's secret, which all of its
// logins follow from, and returns it. The secret comes before the role: a role whose password nobody
// kept would be of no use.
func (s *Service) makeLogin(ctx context.Context, database string) (secret.Login, error) {
	path := secret.DatabaseAuth(database)
	login, _, err := s.secrets.Get(ctx, path)
	if err == nil {
		return login, nil
	}
	if !errors.Is(err, secret.ErrNotFound) {
		return login, err
	}
	login = secret.Login{User: shard.AuthLogin(database), Password: pg.NewPassword(), Generation: 1}
	if _, err := s.secrets.Put(ctx, path, login, 0); err != nil {
		return login, err
	}
	return login, nil
}

// makeRoles makes the database's secret and roles.
func (s *Service) makeRoles(ctx context.Context, conn *pgx.Conn, database string) error {
	login, err := s.makeLogin(ctx, database)
	if err != nil {
		return err
	}
	return shard.CreateRoles(ctx, conn, database, login, s.opt.Limits)
}

// dropRow drops a database on one shard, with its roles and its PgBouncer
// entry, and takes its row, which says dropping, out of the inventory.
// It returns false if the row stays: clients are still attached to the entry
// and served from elsewhere, or a move back has taken the row over.
func (s *Service) dropRow(ctx context.Context, conn *pgx.Conn, d catalog.Database) (bool, error) {
	if ours, err := s.dropReserved(ctx, conn, d); !ours || err != nil {
		return false, err
	}
	if gone, err := s.dropRoute(ctx, d); !gone || err != nil {
		return false, err
	}
	if d.Tenant == "" {
		if err := s.secrets.Delete(ctx, secret.DatabaseAuth(d.Name)); err != nil {
			return false, err
		}
	}
	return s.stillDropping(ctx, d, s.store.DeleteDatabase)
}

// dropReserved drops database and roles if the row says dropping once nobody
// else can make it: a move that takes the row over comes before or after all of this.
func (s *Service) dropReserved(ctx context.Context, conn *pgx.Conn, d catalog.Database) (bool, error) {
	release, err := shard.Reserve(ctx, conn, d.Name)
	if err != nil {
		return false, err
	}
	defer release()
	ours, err := s.stillDropping(ctx, d, func(context.Context, pgx.Tx, shardmap.ShardID, string) error { return nil })
	if !ours || err != nil {
		return false, err
	}
	return true, shard.DropDatabaseAndRoles(ctx, conn, d.Name)
}

// stillDropping runs fn in a transaction with the row locked, if it says dropping; a row that is gone is none of ours.
func (s *Service) stillDropping(ctx context.Context, d catalog.Database, fn func(context.Context, pgx.Tx, shardmap.ShardID, string) error) (bool, error) {
	err := s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := s.store.SetDatabaseState(ctx, tx, d.Shard, d.Name, []catalog.DatabaseState{catalog.DatabaseDropping}, catalog.DatabaseDropping, nil)
		if err != nil {
			return err
		}
		return fn(ctx, tx, d.Shard, d.Name)
	})
	if errors.Is(err, catalog.ErrNotFound) || errors.Is(err, catalog.ErrConflict) {
		return false, nil
	}
	return err == nil, err
}

// dropRoute takes the database's explicit entry out of the shard's PgBouncer, unless it is in use.
func (s *Service) dropRoute(ctx context.Context, d catalog.Database) (bool, error) {
	routes, err := s.fleet.Routes(ctx, d.Shard)
	if errors.Is(err, shard.ErrNoRoutes) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer routes.Close()
	there, err := routes.Has(d.Name)
	if err != nil || !there {
		return err == nil, err
	}
	clients, err := routes.Console().Clients(ctx, d.Name)
	if err != nil || clients > 0 {
		return false, err
	}
	return true, routes.Drop(ctx, d.Name)
}

// abandon drops a database that nobody uses yet, in any state of being made. A row that is gone is no error.
func (s *Service) abandon(ctx context.Context, conn *pgx.Conn, on shardmap.ShardID, name string, from ...catalog.DatabaseState) error {
	var d catalog.Database
	err := s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		d, err = s.store.SetDatabaseState(ctx, tx, on, name, from, catalog.DatabaseDropping, nil)
		return err
	})
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = s.dropRow(ctx, conn, d)
	return err
}

// closeConn ends an admin connection within its own bound.
func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_ = conn.Close(ctx) // the server notices either way
}

// shut keeps every login out of a tenant's database and ends its sessions, at Postgres and at PgBouncer.
func (s *Service) shut(ctx context.Context, p shardmap.Placement) error {
	conn, err := s.fleet.Admin(ctx, p.Shard, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	if err := shard.Fence(ctx, conn, p.Database); err != nil {
		return fmt.Errorf("shard %s: %w", p.Shard, err)
	}
	s.forget(ctx, p)
	return nil
}

// forget has PgBouncer close the database's clients and forget its pools. The
// fence is what counts; this is so that clients hear of it at once, and that a
// database just opened is not refused for the failed logins of before.
func (s *Service) forget(ctx context.Context, p shardmap.Placement) {
	console, err := s.fleet.Console(ctx, p.Shard)
	if err == nil {
		defer console.Close()
		// Resume even if Kill failed half-way: a database left paused would serve nobody.
		err = errors.Join(console.Kill(ctx, p.Database), console.Resume(ctx, p.Database))
	}
	if err != nil {
		s.log.WarnContext(ctx, "pgbouncer did not forget a database", "shard", p.Shard, "database", p.Database, "error", err)
	}
}

// open lets a tenant's logins in.
func (s *Service) open(ctx context.Context, p shardmap.Placement) error {
	conn, err := s.fleet.Admin(ctx, p.Shard, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	return shard.Unfence(ctx, conn, p.Database)
}
