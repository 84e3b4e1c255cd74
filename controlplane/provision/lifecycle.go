package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// tenantDoc is the document of the operations on an existing tenant: they need
// no more than the tenant. Where it lives is read anew by each step; no move can
// change it meanwhile, for a tenant has one operation at a time.
type tenantDoc struct{}

// StateReceipt is the receipt of the operations that change a tenant's state.
type StateReceipt struct {
	Placement shardmap.Placement `json:"placement"`
}

// Suspend closes an active tenant: requests are refused, its database takes no
// login, sessions are ended. Errors: catalog.ErrNotFound, ErrConflict (not active), ErrBusy, ErrKeyReused.
func (s *Service) Suspend(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	return s.begin(ctx, KindSuspend, id, actor, requestKey, only(shardmap.Active))
}

// Resume opens a suspended tenant. Errors: catalog.ErrNotFound, ErrConflict (not suspended), ErrBusy, ErrKeyReused.
func (s *Service) Resume(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	return s.begin(ctx, KindResume, id, actor, requestKey, only(shardmap.Suspended))
}

// Delete closes a tenant for good: it can be restored until the grace period
// is over, then its database, roles and secret are dropped. Its ID is never used again.
// Errors: catalog.ErrNotFound, ErrConflict (deleted already), ErrBusy, ErrKeyReused.
func (s *Service) Delete(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	return s.begin(ctx, KindDelete, id, actor, requestKey, only(shardmap.Active, shardmap.Suspended))
}

// Restore brings a deleted tenant back, as active, within its grace period.
// Errors: catalog.ErrNotFound, ErrConflict (not deleted, or its grace is over), ErrBusy, ErrKeyReused.
func (s *Service) Restore(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	return s.begin(ctx, KindRestore, id, actor, requestKey, func(t catalog.Tenant) error {
		if t.PurgedAt != nil || t.PurgeAfter != nil && time.Now().After(*t.PurgeAfter) {
			return fmt.Errorf("tenant %s: %w: its grace period is over", id, catalog.ErrConflict)
		}
		return only(shardmap.Deleted)(t)
	})
}

func only(states ...shardmap.State) func(catalog.Tenant) error {
	return func(t catalog.Tenant) error {
		if slices.Contains(states, t.Placement.State) {
			return nil
		}
		return fmt.Errorf("tenant %s: %w: it is %s, not %s", t.ID, catalog.ErrConflict, t.Placement.State, catalog.Either(states))
	}
}

// actions name the operations in the audit log.
var actions = map[string]string{
	KindSuspend: "tenant.suspend", KindResume: "tenant.resume", KindDelete: "tenant.delete",
	KindRestore: "tenant.restore", KindPurge: "tenant.purge",
}

// begin starts an operation on a tenant that fits.
func (s *Service) begin(ctx context.Context, kind string, id shardmap.TenantID, actor catalog.Actor, requestKey string, fits func(catalog.Tenant) error) (*operation.Operation, error) {
	spec := operation.Spec{Kind: kind, Tenant: id, Data: tenantDoc{}, Actor: actor, RequestKey: requestKey}
	if op, err := s.repeated(ctx, spec); op != nil || err != nil {
		return op, err
	}
	var op *operation.Operation
	err := s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		t, err := s.store.LockTenant(ctx, tx, id)
		if err != nil {
			return err
		}
		// First whether anything is under way: the state may be about to change.
		if op, err = s.engine.StartTx(ctx, tx, spec); err != nil {
			return err
		}
		if err := fits(t); err != nil {
			return err
		}
		return s.record(ctx, tx, actor, actions[kind], id, "accepted", map[string]string{"operation": op.ID})
	})
	if err != nil {
		return nil, err
	}
	return op, nil
}

// suspendKind: the state first, so that nodes refuse by themselves; then the fence, for wire clients.
func (s *Service) suspendKind() operation.Kind[tenantDoc] {
	return operation.Kind[tenantDoc]{Name: KindSuspend, Steps: []operation.Step[tenantDoc]{
		{Name: "state", Title: "suspending the tenant", NoReturn: true, Timeout: time.Minute,
			Do: s.setState([]shardmap.State{shardmap.Active}, shardmap.Suspended)},
		{Name: "fence", Title: "closing its database", Timeout: time.Minute, Do: s.fenceStep},
	}}
}

// resumeKind: the database first, so that the first request let through finds it open.
func (s *Service) resumeKind() operation.Kind[tenantDoc] {
	return operation.Kind[tenantDoc]{Name: KindResume, Steps: []operation.Step[tenantDoc]{
		{Name: "open", Title: "opening its database", Timeout: time.Minute, Do: s.openStep, Undo: s.fenceStep},
		{Name: "state", Title: "resuming the tenant", NoReturn: true, Timeout: time.Minute,
			Do: s.setState([]shardmap.State{shardmap.Suspended}, shardmap.Active)},
	}}
}

func (s *Service) deleteKind() operation.Kind[tenantDoc] {
	return operation.Kind[tenantDoc]{Name: KindDelete, Steps: []operation.Step[tenantDoc]{
		{Name: "state", Title: "deleting the tenant", NoReturn: true, Timeout: time.Minute,
			Do: s.setState([]shardmap.State{shardmap.Active, shardmap.Suspended}, shardmap.Deleted)},
		{Name: "fence", Title: "closing its database", Timeout: time.Minute, Do: s.fenceStep},
	}}
}

func (s *Service) restoreKind() operation.Kind[tenantDoc] {
	return operation.Kind[tenantDoc]{Name: KindRestore, Steps: []operation.Step[tenantDoc]{
		{Name: "open", Title: "opening its database", Timeout: time.Minute, Do: s.openStep, Undo: s.fenceStep},
		{Name: "state", Title: "restoring the tenant", NoReturn: true, Timeout: time.Minute,
			Do: s.setState([]shardmap.State{shardmap.Deleted}, shardmap.Active)},
	}}
}

// setState is the step that commits a tenant's new state.
func (s *Service) setState(from []shardmap.State, to shardmap.State) func(context.Context, *operation.Run[tenantDoc]) error {
	return func(ctx context.Context, r *operation.Run[tenantDoc]) error {
		var purgeAfter *time.Time
		if to == shardmap.Deleted {
			at := time.Now().Add(s.opt.DeleteGrace)
			purgeAfter = &at
		}
		err := r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
			p, err := s.store.SetTenantState(ctx, tx, r.Op.Tenant, from, to, purgeAfter)
			if err != nil {
				return err
			}
			if err := r.SetReceipt(StateReceipt{Placement: p}); err != nil {
				return err
			}
			return s.record(ctx, tx, r.Op.Actor, actions[r.Op.Kind], r.Op.Tenant, "ok", p)
		})
		if errors.Is(err, catalog.ErrConflict) || errors.Is(err, catalog.ErrNotFound) {
			return operation.Permanent(err)
		}
		return err
	}
}

func (s *Service) fenceStep(ctx context.Context, r *operation.Run[tenantDoc]) error {
	p, err := s.store.GetPlacement(ctx, r.Op.Tenant)
	if err != nil {
		return err
	}
	return s.shut(ctx, p)
}

func (s *Service) openStep(ctx context.Context, r *operation.Run[tenantDoc]) error {
	p, err := s.store.GetPlacement(ctx, r.Op.Tenant)
	if err != nil {
		return err
	}
	if err := s.open(ctx, p); err != nil {
		return err
	}
	s.forget(ctx, p)
	return nil
}
