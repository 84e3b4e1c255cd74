// Package admintest runs the admin API in tests, on a real catalog and a real
// step engine, with a stand-in for the servers behind them. The test binary's
// TestMain must call pgtest.Main or pgtest.Run.
package admintest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/placement"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/shardmap"
)

// Domain stands for provisioning and moving: the real catalog and the real step
// engine, without the servers behind them.
type Domain struct {
	store  *catalog.Store
	engine *operation.Engine
	desk   *placement.Desk
	// Creates counts calls of Create that changed something.
	Creates atomic.Int64
	// Gate lets moves end; until it is closed their first step waits.
	Gate chan struct{}
	// Fail is what Suspend, and making and dropping roles, do instead.
	Fail func() error
}

type moveDoc struct {
	Tenant shardmap.TenantID `json:"tenant"`
	To     shardmap.ShardID  `json:"to"`
	Soak   time.Duration     `json:"soak"`
}

func newDomain(store *catalog.Store, opt operation.Options) *Domain {
	d := &Domain{store: store, desk: placement.NewDesk(store), engine: operation.New(store, opt), Gate: make(chan struct{})}
	for _, kind := range []string{provision.KindCreate, provision.KindSuspend, provision.KindResume, provision.KindDelete, provision.KindRestore} {
		operation.Register(d.engine, operation.Kind[moveDoc]{Name: kind, Steps: []operation.Step[moveDoc]{
			{Name: "do", Do: func(context.Context, *operation.Run[moveDoc]) error { return errors.New("done at once or never") }}}})
	}
	operation.Register(d.engine, operation.Kind[moveDoc]{Name: move.Kind, Steps: []operation.Step[moveDoc]{
		{Name: "copy", Title: "copying data", Do: func(ctx context.Context, r *operation.Run[moveDoc]) error {
			r.Report(operation.Progress{Phase: "copying data", Percent: 40, BytesDone: 4, BytesTotal: 10, Rate: 2.5, ETA: 3 * time.Second})
			select {
			case <-d.Gate:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}},
		{Name: "flip", Title: "cutting over", NoReturn: true, Do: func(ctx context.Context, r *operation.Run[moveDoc]) error {
			if err := r.SetReceipt(map[string]any{"pause_ms": 12.5, "bytes": 10}); err != nil {
				return err
			}
			return r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error { return d.beginSoak(ctx, tx, r.Op, r.Data.To, r.Data.Soak) })
		}},
	}})
	operation.Register(d.engine, operation.Kind[move.VerifyRequest]{Name: move.KindVerify, Steps: []operation.Step[move.VerifyRequest]{
		{Name: "rows", Do: func(context.Context, *operation.Run[move.VerifyRequest]) error { return nil }}}})
	d.registerSoaks()
	d.registerClones()
	d.registerSecrets()
	return d
}

func (d *Domain) audit(ctx context.Context, tx pgx.Tx, actor catalog.Actor, action string, id shardmap.TenantID) error {
	return d.store.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: actor, Action: action, Object: "tenant/" + string(id), Tenant: id, Outcome: "ok"})
}

// Create makes a tenant in the catalog only.
func (d *Domain) Create(ctx context.Context, spec provision.CreateSpec, actor catalog.Actor, key string) (op *operation.Operation, err error) {
	if key != "" {
		if op, err := d.engine.FindRequest(ctx, actor.Name, key); err == nil {
			return op, nil
		}
	}
	err = d.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		on, err := d.desk.Choose(ctx, tx, placement.Wish{GroundAsk: catalog.GroundAsk{Tenant: spec.ID, Fit: spec.Fit, Needs: spec.Needs}})
		if err != nil {
			return err
		}
		var b [8]byte
		_, _ = rand.Read(b[:])
		name := "t_" + hex.EncodeToString(b[:])
		if err := d.store.InsertDatabase(ctx, tx, catalog.Database{Shard: on, Name: name, State: catalog.DatabaseBuilding}); err != nil {
			return err
		}
		if _, err := d.store.CreateTenant(ctx, tx, spec.ID, spec.DisplayName, on, name); err != nil {
			return err
		}
		if err := d.store.SetLabels(ctx, tx, spec.ID, spec.Labels); err != nil {
			return err
		}
		if err := d.store.SetNeeds(ctx, tx, spec.ID, spec.Needs, actor); err != nil {
			return err
		}
		if op, err = d.engine.RecordDone(ctx, tx, operation.Spec{Kind: provision.KindCreate, Tenant: spec.ID, Data: moveDoc{}, Actor: actor, RequestKey: key}, map[string]any{"shard": on}); err != nil {
			return err
		}
		d.Creates.Add(1)
		return d.audit(ctx, tx, actor, "tenant.create", spec.ID)
	})
	return op, err
}

func (d *Domain) set(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, key, kind, action string, from, to shardmap.State) (op *operation.Operation, err error) {
	var purge *time.Time
	if to == shardmap.Deleted {
		t := time.Now().Add(time.Hour)
		purge = &t
	}
	err = d.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := d.store.SetTenantState(ctx, tx, id, []shardmap.State{from}, to, purge); err != nil {
			return err
		}
		if op, err = d.engine.RecordDone(ctx, tx, operation.Spec{Kind: kind, Tenant: id, Data: moveDoc{}, Actor: actor, RequestKey: key}, nil); err != nil {
			return err
		}
		return d.audit(ctx, tx, actor, action, id)
	})
	return op, err
}

// Suspend suspends, or fails as told.
func (d *Domain) Suspend(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, key string) (*operation.Operation, error) {
	if d.Fail != nil {
		return nil, d.Fail()
	}
	return d.set(ctx, id, actor, key, provision.KindSuspend, "tenant.suspend", shardmap.Active, shardmap.Suspended)
}

// Resume resumes.
func (d *Domain) Resume(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, key string) (*operation.Operation, error) {
	return d.set(ctx, id, actor, key, provision.KindResume, "tenant.resume", shardmap.Suspended, shardmap.Active)
}

// Delete deletes.
func (d *Domain) Delete(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, key string) (*operation.Operation, error) {
	return d.set(ctx, id, actor, key, provision.KindDelete, "tenant.delete", shardmap.Active, shardmap.Deleted)
}

// Restore restores.
func (d *Domain) Restore(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, key string) (*operation.Operation, error) {
	return d.set(ctx, id, actor, key, provision.KindRestore, "tenant.restore", shardmap.Deleted, shardmap.Active)
}

// AddShard registers; a Postgres at unfit.example is unfit.
func (d *Domain) AddShard(ctx context.Context, spec provision.ShardSpec, actor catalog.Actor) (s catalog.Shard, err error) {
	if spec.Shard.PostgresHost == "unfit.example" {
		return s, fmt.Errorf("%w: wal_level is replica, set it to logical", shard.ErrUnfit)
	}
	err = d.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if s, err = d.store.AddShard(ctx, tx, spec.Shard); err != nil {
			return err
		}
		return d.store.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: actor, Action: "shard.add", Object: "shard/" + string(s.ID), Outcome: "ok"})
	})
	return s, err
}

// RemoveShard takes the catalog's word for it that the shard is empty.
func (d *Domain) RemoveShard(ctx context.Context, id shardmap.ShardID, actor catalog.Actor) (s catalog.Shard, err error) {
	err = d.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if s, err = d.store.RemoveShard(ctx, tx, id); err != nil {
			return err
		}
		return d.store.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: actor, Action: "shard.remove", Object: "shard/" + string(id), Outcome: "ok"})
	})
	return s, err
}

func (d *Domain) endpoints(ctx context.Context, id shardmap.TenantID, to shardmap.ShardID) error {
	p, err := d.store.GetPlacement(ctx, id)
	if err != nil {
		return err
	}
	if _, err := d.store.GetShard(ctx, to); err != nil {
		return err
	}
	if p.Shard == to {
		return fmt.Errorf("tenant %s: %w", id, catalog.ErrConflict)
	}
	return nil
}

// Move starts a move that waits for Gate.
func (d *Domain) Move(ctx context.Context, req move.Request, actor catalog.Actor, key string) (op *operation.Operation, err error) {
	id, to := req.Tenant, req.To
	if err := d.endpoints(ctx, id, to); err != nil {
		return nil, err
	}
	err = d.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if op, err = d.engine.StartTx(ctx, tx, operation.Spec{Kind: move.Kind, Tenant: id, Data: moveDoc{id, to, req.Soak}, Actor: actor, RequestKey: key}); err != nil {
			return err
		}
		return d.audit(ctx, tx, actor, "tenant.move", id)
	})
	return op, err
}

// DryRun plans a move; that of the tenant clumsy is refused.
func (d *Domain) DryRun(ctx context.Context, req move.Request, actor catalog.Actor) ([]operation.StepPlan, error) {
	id, to := req.Tenant, req.To
	if err := d.endpoints(ctx, id, to); err != nil {
		return nil, err
	}
	plan, err := d.engine.DryRun(ctx, operation.Spec{Kind: move.Kind, Tenant: id, Data: moveDoc{id, to, req.Soak}, Actor: actor})
	if id == "clumsy" {
		return plan[:1], fmt.Errorf("preflight: %w", &move.RefusedError{})
	}
	return plan, err
}

// CreateCustomRole makes none.
func (d *Domain) CreateCustomRole(context.Context, shardmap.ShardID, string, string) error {
	if d.Fail != nil {
		return d.Fail()
	}
	return nil
}

// DropCustomRole drops none.
func (d *Domain) DropCustomRole(ctx context.Context, on shardmap.ShardID, database, name string) error {
	return d.CreateCustomRole(ctx, on, database, name)
}

// Outbox shows the records that are on their way to the audit log.
type Outbox struct {
	Store *catalog.Store
	log   *lazyLog
}

// List is the audit log's.
func (o Outbox) List(ctx context.Context, f audit.Filter, p catalog.Page) ([]audit.Entry, string, error) {
	before := int64(1 << 60)
	if p.After != "" {
		if _, err := fmt.Sscan(p.After, &before); err != nil {
			return nil, "", err
		}
	}
	rows, err := o.Store.Pool().Query(ctx, `select id, record from audit_outbox where id < $1 and ($2 = '' or record->>'Tenant' = $2)
		and ($4::text[] is null or record->>'Tenant' = any($4)) order by id desc limit $3`, before, f.Tenant, p.Limit+1, f.Tenants)
	if err != nil {
		return nil, "", err
	}
	entries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e audit.Entry, err error) {
		var record []byte
		if err := row.Scan(&e.Position, &record); err != nil {
			return e, err
		}
		e.Hash = tlog.Hash{1, 2, 3}
		return e, json.Unmarshal(record, &e.Record)
	})
	if err != nil || len(entries) <= p.Limit {
		return entries, "", err
	}
	entries = entries[:p.Limit]
	return entries, fmt.Sprint(entries[p.Limit-1].Position), nil
}
