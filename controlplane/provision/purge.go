package provision

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// purgeKind drops what is left of a deleted tenant. It starts by itself when
// the grace period is over; from its first step on the tenant can't be restored.
func (s *Service) purgeKind() operation.Kind[tenantDoc] {
	return operation.Kind[tenantDoc]{Name: KindPurge, Steps: []operation.Step[tenantDoc]{
		{Name: "condemn", Title: "ending the grace period", NoReturn: true, Timeout: time.Minute, Do: s.condemn},
		{Name: "drop", Title: "dropping database, roles and secret", Timeout: 10 * time.Minute, Do: s.dropAll},
		{Name: "record", Title: "recording that it is gone", Timeout: time.Minute, Do: s.purged},
	}}
}

func (s *Service) condemn(ctx context.Context, r *operation.Run[tenantDoc]) error {
	rows, err := s.databasesOf(ctx, r.Op.Tenant)
	if err != nil {
		return err
	}
	err = r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
		t, err := s.store.LockTenant(ctx, tx, r.Op.Tenant)
		if err != nil {
			return err
		}
		if t.Placement.State != shardmap.Deleted || t.PurgedAt != nil {
			return fmt.Errorf("tenant %s: %w: it is not deleted", t.ID, catalog.ErrConflict)
		}
		for _, d := range rows {
			_, err := s.store.SetDatabaseState(ctx, tx, d.Shard, d.Name, []catalog.DatabaseState{catalog.DatabaseAssigned,
				catalog.DatabaseTarget, catalog.DatabaseRetired}, catalog.DatabaseDropping, nil)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, catalog.ErrConflict) || errors.Is(err, catalog.ErrNotFound) {
		return operation.Permanent(err)
	}
	return err
}

// databasesOf lists the tenant's databases: its own, and leftovers of moves.
func (s *Service) databasesOf(ctx context.Context, id shardmap.TenantID) ([]catalog.Database, error) {
	rows, next, err := s.store.ListDatabases(ctx, catalog.DatabaseFilter{Tenant: id}, catalog.Page{Limit: 1000})
	if err == nil && next != "" {
		err = fmt.Errorf("tenant %s has more than 1000 databases", id)
	}
	return rows, err
}

func (s *Service) dropAll(ctx context.Context, r *operation.Run[tenantDoc]) error {
	t, err := s.store.GetTenant(ctx, r.Op.Tenant)
	if err != nil {
		return err
	}
	rows, err := s.databasesOf(ctx, r.Op.Tenant)
	if err != nil {
		return err
	}
	for _, d := range rows {
		if err := s.dropOne(ctx, d); err != nil {
			return err
		}
	}
	return s.secrets.Delete(ctx, secret.DatabaseAuth(t.Placement.Database))
}

// dropOne drops one database of a tenant that is gone: clients still attached are closed.
func (s *Service) dropOne(ctx context.Context, d catalog.Database) error {
	conn, err := s.fleet.Admin(ctx, d.Shard, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	if err := s.fleet.DropRoute(ctx, d.Shard, d.Name); err != nil {
		return err
	}
	_, err = s.dropRow(ctx, conn, d)
	return err
}

func (s *Service) purged(ctx context.Context, r *operation.Run[tenantDoc]) error {
	return r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := s.store.MarkPurged(ctx, tx, r.Op.Tenant); err != nil {
			return err
		}
		return s.record(ctx, tx, r.Op.Actor, actions[KindPurge], r.Op.Tenant, "ok", nil)
	})
}
