package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/shardmap"
)

// TenantDoc is the document of a rotation or a revocation. Where the tenant lives
// can't change meanwhile: a tenant has one operation at a time.
type TenantDoc struct {
	Shard    shardmap.ShardID `json:"shard,omitempty"`
	Database string           `json:"database,omitempty"`
	// Generation is the new one; Turn is its turn of the logins.
	Generation int64         `json:"generation,omitempty"`
	Turn       tenantdb.Turn `json:"turn,omitempty"`
	// ToldAt is when the nodes were told first.
	ToldAt  time.Time     `json:"told_at,omitzero"`
	Receipt TenantReceipt `json:"receipt"`
}

// TenantReceipt says what was done.
type TenantReceipt struct {
	Tenant     shardmap.TenantID `json:"tenant"`
	Generation int64             `json:"generation"`
	Login      string            `json:"login"` // the one that the secret names
	// Nodes are those that were alive, and Renewed those that said that they went over.
	Nodes   int `json:"nodes"`
	Renewed int `json:"renewed"`
	// Note says why the old logins were closed without every node's word; empty: with it.
	Note string `json:"note,omitempty"`
	// Ended counts the sessions by old logins that were ended.
	Ended int `json:"ended_sessions"`
	// People are the temporary logins that a revocation dropped.
	People []string `json:"people,omitempty"`
}

type run = operation.Run[TenantDoc]

func (s *Service) rotateKind() operation.Kind[TenantDoc] {
	return operation.Kind[TenantDoc]{Name: KindRotate, Steps: []operation.Step[TenantDoc]{
		{Name: "prepare", Title: "looking at the logins", Do: s.prepare, Check: s.checkPrepare, Timeout: time.Minute},
		{Name: "issue", Title: "issuing new logins", Do: s.issueStep, Undo: s.undoIssue, NoReturn: true, Timeout: time.Minute,
			Check: s.says("lets new logins in beside the old ones, then writes their secret")},
		{Name: "tell", Title: "telling the nodes", Do: s.tell, Timeout: 5 * time.Minute,
			Check: s.says("has every node go over to the new logins and waits for its word")},
		{Name: "close", Title: "closing the old logins", Do: s.closeOld, Timeout: 5 * time.Minute,
			Check: s.says("closes the old logins and ends what is left of their sessions")},
	}}
}

// Rotate starts to give a tenant's database new logins while it is served.
// Errors: catalog.ErrNotFound, ErrConflict (deleted, or its shard is down), ErrBusy, ErrKeyReused.
func (s *Service) Rotate(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	return s.begin(ctx, rotateSpec(id, actor, requestKey), "secret.rotate", "tenant/"+string(id), func(ctx context.Context, tx pgx.Tx) error {
		if err := s.lives(id)(ctx, tx); err != nil {
			return err
		}
		// It could neither go on nor be taken back, and nothing else be done with the tenant.
		var down shardmap.ShardID
		err := tx.QueryRow(ctx, `select s.id from placements p join shards s on s.id = p.shard where p.tenant = $1 and s.state = 'down'`, id).Scan(&down)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return nil
		case err != nil:
			return fmt.Errorf("tenant %s: %w", id, catalog.Classify(err))
		}
		return fmt.Errorf("tenant %s: %w: shard %s is down", id, catalog.ErrConflict, down)
	})
}

// DryRun says what Rotate would do, step by step, and changes nothing.
// Errors: as Rotate's, and those of the steps.
func (s *Service) DryRun(ctx context.Context, id shardmap.TenantID, actor catalog.Actor) ([]operation.StepPlan, error) {
	t, err := s.store.GetTenant(ctx, id)
	if err != nil {
		return nil, err
	}
	if t.Placement.State == shardmap.Deleted {
		return nil, fmt.Errorf("tenant %s: %w: it is deleted", id, catalog.ErrConflict)
	}
	return s.engine.DryRun(ctx, rotateSpec(id, actor, ""))
}

func rotateSpec(id shardmap.TenantID, actor catalog.Actor, requestKey string) operation.Spec {
	return operation.Spec{Kind: KindRotate, Tenant: id, Data: TenantDoc{}, Actor: actor, RequestKey: requestKey}
}

// lives refuses a tenant that is deleted.
func (s *Service) lives(id shardmap.TenantID) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		t, err := s.store.LockTenant(ctx, tx, id)
		if err == nil && t.Placement.State == shardmap.Deleted {
			err = fmt.Errorf("tenant %s: %w: it is deleted", id, catalog.ErrConflict)
		}
		return err
	}
}

func (s *Service) says(does string) func(context.Context, *run) (string, error) {
	return func(context.Context, *run) (string, error) { return does, nil }
}

func (s *Service) checkPrepare(ctx context.Context, r *run) (string, error) {
	if err := s.prepare(ctx, r); err != nil {
		return "", err
	}
	return fmt.Sprintf("generation %d of the logins to %s on shard %s is next, turn %s", r.Data.Generation, r.Data.Database, r.Data.Shard, r.Data.Turn), nil
}

// prepare decides what the new generation is.
func (s *Service) prepare(ctx context.Context, r *run) error {
	p, err := s.store.GetPlacement(ctx, r.Op.Tenant)
	if err != nil {
		return err
	}
	if p.State == shardmap.Deleted {
		return operation.Permanent(fmt.Errorf("tenant %s: %w: it is deleted", r.Op.Tenant, catalog.ErrConflict))
	}
	document, _, err := s.secrets.Get(ctx, secret.DatabaseAuth(p.Database))
	if err != nil {
		return fmt.Errorf("secret of %s: %w", p.Database, err)
	}
	turn, err := tenantdb.TurnOf(document, p.Database)
	if err != nil {
		return operation.Permanent(err)
	}
	known, err := s.store.GetCredential(ctx, catalog.TenantCredential, string(r.Op.Tenant))
	if err != nil {
		return err
	}
	r.Data.Shard, r.Data.Database = p.Shard, p.Database
	// Nodes may know more than a secret store that was put back from a copy of it.
	r.Data.Generation, r.Data.Turn = max(document.Generation, known.Generation)+1, turn.Other()
	r.Data.Receipt = TenantReceipt{Tenant: r.Op.Tenant, Generation: r.Data.Generation, Login: tenantdb.REST.UserAt(p.Database, r.Data.Turn)}
	return nil
}

// issued commits that the new generation is there, with its audit record.
func (s *Service) issued(ctx context.Context, r *run) error {
	return r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error { return s.recordIssue(ctx, tx, r) })
}

func (s *Service) recordIssue(ctx context.Context, tx pgx.Tx, r *run) error {
	d := r.Data.Receipt
	if err := s.store.IssueCredential(ctx, tx, catalog.TenantCredential, string(r.Op.Tenant), d.Login, d.Generation, r.Op.Actor); err != nil {
		return err
	}
	return s.record(ctx, tx, r.Op.Actor, "secret.issue", "tenant/"+string(r.Op.Tenant), r.Op.Tenant, "ok",
		map[string]any{"operation": r.Op.ID, "generation": d.Generation, "login": d.Login})
}

func (s *Service) issueStep(ctx context.Context, r *run) error {
	if err := s.issue(ctx, r); err != nil {
		return err
	}
	return s.issued(ctx, r)
}

var errAhead = errors.New("the secret is not of the generation that was expected: somebody else wrote it")
