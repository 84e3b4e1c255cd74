package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// ShardSpec asks for a new shard; State, Version and CreatedAt are not read.
type ShardSpec struct {
	Shard   catalog.Shard
	Admin   secret.Login // a superuser of the Postgres server
	Console secret.Login // may use PgBouncer's console
}

// AddShard checks the server (reachable both ways, superuser, version, logical
// replication), keeps its logins in the secret store, prepares it, and
// registers it. The same spec again is no error and renews addresses and logins.
// Errors: shard.ErrUnfit (with what to change), catalog.ErrConflict (the server
// is another shard already, or the ID another server's), ErrInvalid.
func (s *Service) AddShard(ctx context.Context, spec ShardSpec, actor catalog.Actor) (catalog.Shard, error) {
	id := spec.Shard.ID
	if _, err := shardmap.ParseShardID(string(id)); err != nil {
		return catalog.Shard{}, err
	}
	for _, l := range []secret.Login{spec.Admin, spec.Console} {
		if l.User == "" || l.Password == "" {
			return catalog.Shard{}, fmt.Errorf("%w: both logins need a user and a password", ErrInvalid)
		}
	}
	if spec.Shard.PostgresPort == 0 || spec.Shard.BouncerPort == 0 || spec.Shard.MaxDatabases < 0 {
		return catalog.Shard{}, fmt.Errorf("%w: ports must not be 0 and max_databases not negative", ErrInvalid)
	}
	is, err := s.fleet.Check(ctx, spec.Shard, spec.Admin, spec.Console)
	if err != nil {
		return catalog.Shard{}, err
	}
	was, err := s.store.GetShardUsage(ctx, id)
	known := err == nil
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return catalog.Shard{}, err
	}
	switch {
	case known && was.State == catalog.ShardRemoved:
		return catalog.Shard{}, fmt.Errorf("shard %s was removed: %w; IDs are never used again", id, catalog.ErrConflict)
	case is != "" && is != id:
		return catalog.Shard{}, fmt.Errorf("shard %s: %w: the server is shard %s", id, catalog.ErrConflict, is)
	case known && was.Databases > 0 && is != id:
		return catalog.Shard{}, fmt.Errorf("shard %s: %w: the shard's %d databases are on another server", id, catalog.ErrConflict, was.Databases)
	}
	if err := s.keepAdmin(ctx, spec, known); err != nil {
		return catalog.Shard{}, err
	}
	if err := s.keepLogin(ctx, secret.ShardBouncer(string(id)), spec.Console); err != nil {
		return catalog.Shard{}, err
	}
	// The catalog has no row of it before it is ready to take tenants.
	fleet := s.fleet.Among(candidate(spec.Shard))
	if err := fleet.PrepareShard(ctx, id); err != nil {
		return catalog.Shard{}, err
	}
	if _, err := fleet.EnsureTemplates(ctx, id, s.opt.MigrationsDir); err != nil {
		return catalog.Shard{}, err
	}
	return s.register(ctx, spec.Shard, known, actor)
}

func (s *Service) register(ctx context.Context, row catalog.Shard, known bool, actor catalog.Actor) (catalog.Shard, error) {
	details, err := json.Marshal(map[string]any{"postgres": fmt.Sprintf("%s:%d", row.PostgresHost, row.PostgresPort),
		"pgbouncer": fmt.Sprintf("%s:%d", row.BouncerHost, row.BouncerPort), "renewed": known})
	if err != nil {
		return catalog.Shard{}, err
	}
	row.State = ""
	var added catalog.Shard
	err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		if known {
			added, err = s.store.UpdateShard(ctx, tx, row)
		} else {
			added, err = s.store.AddShard(ctx, tx, row)
		}
		if err != nil {
			return err
		}
		return s.store.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: actor, Action: "shard.add", Object: "shard/" + string(row.ID), Outcome: "ok", Details: details})
	})
	if err != nil {
		return catalog.Shard{}, err
	}
	s.Wake()
	return added, nil
}

// keepAdmin keeps the admin login that is given, unless that is the one which the
// shard's present login was rotated from, and the present one is let in.
func (s *Service) keepAdmin(ctx context.Context, spec ShardSpec, known bool) error {
	path := secret.ShardAdmin(string(spec.Shard.ID))
	if was, _, err := s.secrets.Get(ctx, path); known && err == nil && was.User != spec.Admin.User && shard.FirstAdmin(was.User) == spec.Admin.User {
		conn, err := s.fleet.Among(candidate(spec.Shard)).AdminAs(ctx, spec.Shard.ID, was)
		if err == nil {
			_ = conn.Close(ctx)
			return nil
		}
	}
	return s.keepLogin(ctx, path, spec.Admin)
}

// keepLogin writes a login over the one that is there.
func (s *Service) keepLogin(ctx context.Context, path string, l secret.Login) error {
	was, version, err := s.secrets.Get(ctx, path)
	if err != nil && !errors.Is(err, secret.ErrNotFound) {
		return err
	}
	if err == nil && was.User == l.User && was.Password == l.Password {
		return nil
	}
	l.Generation = was.Generation + 1
	_, err = s.secrets.Put(ctx, path, l, version)
	return err
}

// candidate is a shard that the catalog need not know.
type candidate catalog.Shard

// GetShard implements shard.Shards.
func (c candidate) GetShard(_ context.Context, id shardmap.ShardID) (catalog.Shard, error) {
	if id != c.ID {
		return catalog.Shard{}, fmt.Errorf("shard %s: %w", id, catalog.ErrNotFound)
	}
	return catalog.Shard(c), nil
}
