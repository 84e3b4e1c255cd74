package provision

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/shardmap"
)

// This is what others need who make a tenant's database in a way of their own.

// KindClone is the kind of operation that makes a tenant from another's
// database. Like a creation's, its document says in the field "database" which
// row of the inventory it is building.
const KindClone = "tenant-clone"

// KindImport is the kind of operation that makes a tenant from a sealed copy;
// its document says so too.
const KindImport = "tenant-import"

// builders are the kinds of operations that build databases.
var builders = []string{KindCreate, KindClone, KindImport}

// Limits are those of each tenant's login.
func (s *Service) Limits() shard.Limits { return s.opt.Limits }

// NewDatabaseName is opaque and unique in the fleet: names leak, and a move keeps them.
func NewDatabaseName() string { return newDatabaseName() }

// Abandon drops what there is of a database under construction: database,
// roles, secret and row. A row that is gone is no error.
func (s *Service) Abandon(ctx context.Context, on shardmap.ShardID, database string) error {
	conn, err := s.fleet.Admin(ctx, on, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	return s.abandon(ctx, conn, on, database, catalog.DatabaseBuilding)
}

// Open lets a database's logins in.
func (s *Service) Open(ctx context.Context, on shardmap.ShardID, database string) error {
	return s.open(ctx, shardmap.Placement{Shard: on, Database: database})
}

// Admit refuses a shard that a tenant with these needs may not be made on, and
// keeps that from changing until tx ends. Errors: catalog.ErrNotFound (no such
// shard), ErrConflict (it takes no tenants), ErrNoRoom with what stands against it.
func (s *Service) Admit(ctx context.Context, tx pgx.Tx, id shardmap.TenantID, on shardmap.ShardID, needs catalog.Needs) error {
	_, err := s.desk.Choose(ctx, tx, wish(id, catalog.Fit{Shard: on}, needs))
	return err
}

// Choose picks the shard that is best for a tenant with these needs, of those
// that fit, and keeps that from changing until tx ends. Errors: as Admit's.
func (s *Service) Choose(ctx context.Context, tx pgx.Tx, id shardmap.TenantID, fit catalog.Fit, needs catalog.Needs) (shardmap.ShardID, error) {
	return s.desk.Choose(ctx, tx, wish(id, fit, needs))
}

// underConstruction names the databases that unfinished operations build.
func (k *keeper) underConstruction(ctx context.Context) (map[string]bool, error) {
	worked := map[string]bool{}
	for _, kind := range builders {
		for after, more := "", true; more; {
			ops, next, err := k.engine.List(ctx, operation.Filter{Kind: kind, Unfinished: true}, catalog.Page{After: after, Limit: 1000})
			if err != nil {
				return nil, err
			}
			for _, op := range ops {
				var doc struct {
					Database string `json:"database"`
				}
				if err := json.Unmarshal(op.Data, &doc); err != nil {
					return nil, err
				}
				worked[doc.Database] = true
			}
			after, more = next, next != ""
		}
	}
	return worked, nil
}
