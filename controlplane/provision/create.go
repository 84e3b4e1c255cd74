package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/placement"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/shardmap"
)

// CreateSpec asks for a tenant. It is put where the planner of placement would
// put it, of the shards that fit.
type CreateSpec struct {
	ID          shardmap.TenantID
	DisplayName string
	Labels      map[string]string
	// Fit narrows the choice of a shard, and is forgotten then.
	Fit catalog.Fit
	// Needs are what the tenant needs of its shard, for good.
	Needs catalog.Needs
}

// createDoc is the document of a tenant-create: what was asked, then what the steps chose.
type createDoc struct {
	DisplayName string            `json:"display_name,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Fit         catalog.Fit       `json:"fit"`
	Needs       catalog.Needs     `json:"needs,omitzero"`
	Shard       shardmap.ShardID  `json:"shard,omitempty"`
	Database    string            `json:"database,omitempty"`
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
	ospec := operation.Spec{Kind: KindCreate, Tenant: spec.ID, Data: createDoc{DisplayName: spec.DisplayName, Labels: spec.Labels, Fit: spec.Fit, Needs: spec.Needs},
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
	var receipt CreateReceipt
	if op.State == operation.Done && json.Unmarshal(op.Receipt, &receipt) == nil {
		s.desk.Placed(receipt.Placement.Shard)
	}
	s.Wake()
	return op, nil
}

// wish is what a shard is wanted for.
func wish(id shardmap.TenantID, fit catalog.Fit, needs catalog.Needs) placement.Wish {
	return placement.Wish{GroundAsk: catalog.GroundAsk{Tenant: id, Fit: fit, Needs: needs, Builders: builders}}
}

// takenByOthers bounds how often another shard is chosen because others were
// quicker to take the ready databases of the one before.
const takenByOthers = 4

// takeReady takes a ready database on the shard that is best for the tenant.
func (s *Service) takeReady(ctx context.Context, tx pgx.Tx, spec CreateSpec, schema int64) (d catalog.Database, err error) {
	w := wish(spec.ID, spec.Fit, spec.Needs)
	w.Ready, w.SchemaVersion = true, schema
	for range takenByOthers {
		on, err := s.desk.Choose(ctx, tx, w)
		if err != nil {
			return d, err
		}
		d, err = s.store.TakeReady(ctx, tx, catalog.Fit{Shard: on}, schema)
		if !errors.Is(err, catalog.ErrPoolEmpty) {
			return d, err
		}
		w.Fit.Exclude = append(slices.Clip(w.Fit.Exclude), on)
	}
	return d, catalog.ErrPoolEmpty
}

// createWarm assigns a ready database: rows of the catalog, nothing else.
func (s *Service) createWarm(ctx context.Context, tx pgx.Tx, spec CreateSpec, ospec operation.Spec, schema int64) (*operation.Operation, error) {
	d, err := s.takeReady(ctx, tx, spec, schema)
	if err != nil {
		return nil, err
	}
	p, err := s.enter(ctx, tx, spec.ID, spec.DisplayName, spec.Labels, spec.Needs, catalog.Database{Shard: d.Shard, Name: d.Name}, ospec.Actor)
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

// enter makes the tenant's rows.
func (s *Service) enter(ctx context.Context, tx pgx.Tx, id shardmap.TenantID, name string, labels map[string]string, needs catalog.Needs, d catalog.Database, actor catalog.Actor) (shardmap.Placement, error) {
	p, err := s.store.CreateTenant(ctx, tx, id, name, d.Shard, d.Name)
	if err == nil && len(labels) > 0 {
		err = s.store.SetLabels(ctx, tx, id, labels)
	}
	if err == nil && !needs.None() {
		err = s.store.SetNeeds(ctx, tx, id, needs, actor)
	}
	return p, err
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
	if _, err := s.desk.Choose(ctx, tx, wish(spec.ID, spec.Fit, spec.Needs)); err != nil {
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
	w := wish(r.Op.Tenant, r.Data.Fit, r.Data.Needs)
	err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		r.Data.Shard, err = s.desk.Choose(ctx, tx, w)
		r.Data.Database = newDatabaseName()
		return err
	})
	if errors.Is(err, catalog.ErrNotFound) || errors.Is(err, catalog.ErrConflict) || errors.Is(err, catalog.ErrNoRoom) {
		return operation.Permanent(err)
	}
	if err != nil {
		return err
	}
	w.Fit = catalog.Fit{Shard: r.Data.Shard}
	err = r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
		// Somebody whom it must keep away from may have come first: then once more.
		if _, err := s.desk.Choose(ctx, tx, w); err != nil {
			return err
		}
		return s.store.InsertDatabase(ctx, tx, catalog.Database{Shard: r.Data.Shard, Name: r.Data.Database,
			State: catalog.DatabaseBuilding, SchemaVersion: schema.Version})
	})
	if err == nil {
		s.desk.Placed(r.Data.Shard)
	}
	return err
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
		p, err := s.enter(ctx, tx, r.Op.Tenant, r.Data.DisplayName, r.Data.Labels, r.Data.Needs, catalog.Database{Shard: r.Data.Shard, Name: r.Data.Database}, r.Op.Actor)
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
