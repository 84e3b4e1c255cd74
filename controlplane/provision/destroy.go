package provision

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// This is what the erasure of a tenant needs.

// Databases lists the tenant's databases, on whatever shard: its own, the
// leftovers of moves, and what is being dropped.
func (s *Service) Databases(ctx context.Context, id shardmap.TenantID) ([]catalog.Database, error) {
	return s.databasesOf(ctx, id)
}

// CondemnTx writes down that these databases of a deleted tenant are to be
// dropped, from which on nobody can keep them. One that is gone is no error.
func (s *Service) CondemnTx(ctx context.Context, tx pgx.Tx, databases []catalog.Database) error {
	for _, d := range databases {
		_, err := s.store.SetDatabaseState(ctx, tx, d.Shard, d.Name, []catalog.DatabaseState{catalog.DatabaseAssigned,
			catalog.DatabaseTarget, catalog.DatabaseRetired}, catalog.DatabaseDropping, nil)
		if err != nil && !errors.Is(err, catalog.ErrNotFound) {
			return err
		}
	}
	return nil
}

// Shut keeps every login out of a tenant's database and ends its sessions.
func (s *Service) Shut(ctx context.Context, on shardmap.ShardID, database string) error {
	return s.shut(ctx, shardmap.Placement{Shard: on, Database: database})
}

// Destroy drops a condemned database with its roles and its PgBouncer entry,
// and asks the server whether anything of it is left: on nil there is not.
func (s *Service) Destroy(ctx context.Context, on shardmap.ShardID, database string) error {
	d, err := s.store.GetDatabase(ctx, on, database)
	if err == nil {
		if d.State != catalog.DatabaseDropping {
			return fmt.Errorf("database %s on %s is %s, not condemned: %w", database, on, d.State, catalog.ErrConflict)
		}
		err = s.dropOne(ctx, d)
	}
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	conn, err := s.fleet.Admin(ctx, on, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	var left int
	err = conn.QueryRow(ctx, `SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_database WHERE datname = $1)
		+ (SELECT pg_catalog.count(*) FROM pg_catalog.pg_roles WHERE rolname = $1 OR pg_catalog.starts_with(rolname, $1 || '_'))`, database).Scan(&left)
	if err != nil {
		return fmt.Errorf("what is left of %s on %s: %w", database, on, err)
	}
	if left > 0 {
		return fmt.Errorf("database %s on %s: %d of database and roles are still there", database, on, left)
	}
	return nil
}

// ForgetLogins takes the secret away that the logins of a database follow from.
func (s *Service) ForgetLogins(ctx context.Context, database string) error {
	return s.secrets.Delete(ctx, secret.DatabaseAuth(database))
}
