package admintest

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/rotation"
	"github.com/freehold-db/freehold/shardmap"
)

// Secrets stands in for the rotation of credentials: its operations end at once
// and change no login.
type Secrets struct{ d *Domain }

// registerSecrets makes the operations known by which credentials are changed.
func (d *Domain) registerSecrets() {
	for _, kind := range []string{rotation.KindRotate, rotation.KindRevoke, rotation.KindShard, rotation.KindKill, rotation.KindAll} {
		operation.Register(d.engine, operation.Kind[struct{}]{Name: kind, Steps: []operation.Step[struct{}]{
			{Name: "rotate", Title: "rotating", Do: func(context.Context, *operation.Run[struct{}]) error { return nil }}}})
	}
}

func (s *Secrets) begin(ctx context.Context, kind, action, object string, id shardmap.TenantID, actor catalog.Actor, key string) (op *operation.Operation, err error) {
	err = s.d.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if id != "" {
			if _, err := s.d.store.LockTenant(ctx, tx, id); err != nil {
				return err
			}
		}
		if op, err = s.d.engine.StartTx(ctx, tx, operation.Spec{Kind: kind, Tenant: id, Data: struct{}{}, Actor: actor, RequestKey: key}); err != nil {
			return err
		}
		return s.d.store.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: actor, Action: action, Object: object, Tenant: id, Outcome: "accepted", Details: []byte("{}")})
	})
	return op, err
}

// Rotate implements adminapi.Secrets.
func (s *Secrets) Rotate(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, key string) (*operation.Operation, error) {
	return s.begin(ctx, rotation.KindRotate, "secret.rotate", "tenant/"+string(id), id, actor, key)
}

// Revoke implements adminapi.Secrets.
func (s *Secrets) Revoke(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, key string) (*operation.Operation, error) {
	return s.begin(ctx, rotation.KindRevoke, "secret.revoke", "tenant/"+string(id), id, actor, key)
}

// RotateShard implements adminapi.Secrets.
func (s *Secrets) RotateShard(ctx context.Context, id shardmap.ShardID, actor catalog.Actor, key string) (*operation.Operation, error) {
	if _, err := s.d.store.GetShard(ctx, id); err != nil {
		return nil, err
	}
	return s.begin(ctx, rotation.KindShard, "secret.rotate", "shard/"+string(id), "", actor, key)
}

// RevokeShard implements adminapi.Secrets.
func (s *Secrets) RevokeShard(ctx context.Context, id shardmap.ShardID, actor catalog.Actor, key string) (*operation.Operation, error) {
	if _, err := s.d.store.GetShard(ctx, id); err != nil {
		return nil, err
	}
	return s.begin(ctx, rotation.KindKill, "secret.revoke", "shard/"+string(id), "", actor, key)
}

// RotateAll implements adminapi.Secrets.
func (s *Secrets) RotateAll(ctx context.Context, _ int, actor catalog.Actor, key string) (*operation.Operation, error) {
	return s.begin(ctx, rotation.KindAll, "secret.rotate", "fleet", "", actor, key)
}

func (s *Secrets) plan() ([]operation.StepPlan, error) {
	return []operation.StepPlan{{StepInfo: operation.StepInfo{Name: "issue", Title: "issuing new logins", NoReturn: true}, Does: "lets new logins in"}}, nil
}

// DryRun implements adminapi.Secrets.
func (s *Secrets) DryRun(ctx context.Context, id shardmap.TenantID, _ catalog.Actor) ([]operation.StepPlan, error) {
	if _, err := s.d.store.GetTenant(ctx, id); err != nil {
		return nil, err
	}
	return s.plan()
}

// DryRunShard implements adminapi.Secrets.
func (s *Secrets) DryRunShard(ctx context.Context, id shardmap.ShardID, _ catalog.Actor) ([]operation.StepPlan, error) {
	if _, err := s.d.store.GetShard(ctx, id); err != nil {
		return nil, err
	}
	return s.plan()
}

// DryRunAll implements adminapi.Secrets.
func (s *Secrets) DryRunAll(context.Context, int, catalog.Actor) ([]operation.StepPlan, error) {
	return s.plan()
}
