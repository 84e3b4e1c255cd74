package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/shardmap"
)

// CreateSpec asks for a tenant. A zero Fit takes the least loaded shard.
type CreateSpec struct {
	ID          shardmap.TenantID
	DisplayName string
	Fit         catalog.Fit
}

// createDoc is the document of a tenant-create: what was asked, then what the steps chose.
type createDoc struct {
	DisplayName string           `json:"display_name,omitempty"`
	Fit         catalog.Fit      `json:"fit"`
	Shard       shardmap.ShardID `json:"shard,omitempty"`
	Database    string           `json:"database,omitempty"`
}

// CreateReceipt is the receipt of a finished tenant-create.
type CreateReceipt struct {
	Placement shardmap.Placement `json:"placement"`
	Warm      bool               `json:"warm"` // taken from the pool
}

// Create makes a tenant. From the warm pool it is ready when Create returns
// (the operation is Done); else the operation is Pending and a worker takes it
// up at once. The same actor and request key with the same spec return the same operation.
// Errors: catalog.ErrExists, ErrNoRoom, ErrBusy, ErrKeyReused; for a named
// shard ErrNotFound (no such shard) and ErrConflict (it takes no tenants).
func (s *Service) Create(ctx context.Context, spec CreateSpec, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	if _, err := shardmap.ParseTenantID(string(spec.ID)); err != nil {
		return nil, err
	}
	ospec := operation.Spec{Kind: KindCreate, Tenant: spec.ID, Data: createDoc{DisplayName: spec.DisplayName, Fit: spec.Fit},
		Actor: actor, RequestKey: requestKey}
	if op, err := s.repeated(ctx, ospec); op != nil || err != nil {
		return op, err
	}
	schema, err := shard.ReadSchema(s.opt.MigrationsDir)
	if err != nil {
		return nil, err
	}
	var op *operation.Operation
	err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		op, err = s.createWarm(ctx, tx, spec, ospec, schema.Version)
		if errors.Is(err, catalog.ErrPoolEmpty) {
			op, err = s.createCold(ctx, tx, spec, ospec)
		}
		return err
	})
	if errors.Is(err, errSentTwice) || errors.Is(err, catalog.ErrExists) || errors.Is(err, catalog.ErrBusy) {
		if op, rerr := s.repeated(ctx, ospec); op != nil && rerr == nil {
			return op, nil
		}
	}
	if err != nil {
		return nil, err
	}
	s.Wake()
	return op, nil
}

// createWarm assigns a ready database: rows of the catalog, nothing else.
func (s *Service) createWarm(ctx context.Context, tx pgx.Tx, spec CreateSpec, ospec operation.Spec, schema int64) (*operation.Operation, error) {
	d, err := s.store.TakeReady(ctx, tx, spec.Fit, schema)
	if err != nil {
		return nil, err
	}
	p, err := s.store.CreateTenant(ctx, tx, spec.ID, spec.DisplayName, d.Shard, d.Name)
	if err != nil {
		return nil, err
	}
	if err := s.record(ctx, tx, ospec.Actor, "tenant.create", spec.ID, "ok", p); err != nil {
		return nil, err
	}
	op, err := s.engine.RecordDone(ctx, tx, ospec, CreateReceipt{Placement: p, Warm: true})
	if err != nil {
		return nil, err
	}
	var receipt CreateReceipt
	if op.State != operation.Done || json.Unmarshal(op.Receipt, &receipt) != nil || receipt.Placement != p {
		return nil, errSentTwice // this one is not ours: ours must not be committed beside it
	}
	return op, nil
}

// errSentTwice: the same request, sent at the same time, was first.
var errSentTwice = errors.New("the same request was first")

// createCold starts the operation, after what can be refused at once was refused.
func (s *Service) createCold(ctx context.Context, tx pgx.Tx, spec CreateSpec, ospec operation.Spec) (*operation.Operation, error) {
	if _, err := s.store.LockTenant(ctx, tx, spec.ID); err == nil {
		return nil, fmt.Errorf("tenant %s: %w", spec.ID, catalog.ErrExists)
	} else if !errors.Is(err, catalog.ErrNotFound) {
		return nil, err
	}
	if _, err := s.store.LeastLoaded(ctx, tx, spec.Fit); err != nil {
		return nil, err
	}
	if err := s.record(ctx, tx, ospec.Actor, "tenant.create", spec.ID, "accepted", ospec.Data); err != nil {
		return nil, err
	}
	return s.engine.StartTx(ctx, tx, ospec)
}

// createKind is a tenant's creation on the spot.
func (s *Service) createKind() operation.Kind[createDoc] {
	return operation.Kind[createDoc]{Name: KindCreate, Steps: []operation.Step[createDoc]{
		{Name: "reserve", Title: "picking a shard", Do: s.reserve, Undo: s.unreserve, Timeout: time.Minute},
		{Name: "roles", Title: "creating roles", Do: s.buildRoles, Timeout: time.Minute},
		{Name: "database", Title: "creating the database", Do: s.buildDatabase, Timeout: 5 * time.Minute},
		{Name: "assign", Title: "assigning the tenant", Do: s.assign, NoReturn: true, Timeout: time.Minute},
	}}
}

// reserve picks the shard and writes the inventory's row, so that whatever is
// made on the shard from here on is known.
func (s *Service) reserve(ctx context.Context, r *operation.Run[createDoc]) error {
	schema, err := shard.ReadSchema(s.opt.MigrationsDir)
	if err != nil {
		return err
	}
	err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		on, err := s.store.LeastLoaded(ctx, tx, r.Data.Fit)
		r.Data.Shard, r.Data.Database = on.ID, newDatabaseName()
		return err
	})
	if errors.Is(err, catalog.ErrNotFound) || errors.Is(err, catalog.ErrConflict) || errors.Is(err, catalog.ErrNoRoom) {
		return operation.Permanent(err)
	}
	if err != nil {
		return err
	}
	return r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return s.store.InsertDatabase(ctx, tx, catalog.Database{Shard: r.Data.Shard, Name: r.Data.Database,
			State: catalog.DatabaseBuilding, SchemaVersion: schema.Version})
	})
}

// unreserve drops whatever the later steps made.
func (s *Service) unreserve(ctx context.Context, r *operation.Run[createDoc]) error {
	if r.Data.Database == "" {
		return nil
	}
	conn, err := s.fleet.Admin(ctx, r.Data.Shard, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	return s.abandon(ctx, conn, r.Data.Shard, r.Data.Database, catalog.DatabaseBuilding)
}

func (s *Service) buildRoles(ctx context.Context, r *operation.Run[createDoc]) error {
	conn, err := s.fleet.Admin(ctx, r.Data.Shard, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	return s.makeRoles(ctx, conn, r.Data.Database)
}

// buildDatabase leaves the database fenced: nobody is in it before the tenant exists.
func (s *Service) buildDatabase(ctx context.Context, r *operation.Run[createDoc]) error {
	return s.fleet.CreateDatabase(ctx, r.Data.Shard, r.Data.Database, shard.TemplateApp, s.opt.Limits)
}

// assign opens the database and commits the tenant.
func (s *Service) assign(ctx context.Context, r *operation.Run[createDoc]) error {
	if err := s.open(ctx, shardmap.Placement{Shard: r.Data.Shard, Database: r.Data.Database}); err != nil {
		return err
	}
	err := r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
		p, err := s.store.CreateTenant(ctx, tx, r.Op.Tenant, r.Data.DisplayName, r.Data.Shard, r.Data.Database)
		if err != nil {
			return err
		}
		if err := r.SetReceipt(CreateReceipt{Placement: p}); err != nil {
			return err
		}
		return s.record(ctx, tx, r.Op.Actor, "tenant.create", r.Op.Tenant, "ok", p)
	})
	if errors.Is(err, catalog.ErrExists) || errors.Is(err, catalog.ErrConflict) {
		return operation.Permanent(err)
	}
	return err
}
