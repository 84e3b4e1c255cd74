package adminapi

import (
	"context"
	"fmt"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/rotation"
	"github.com/freehold-db/freehold/shardmap"
)

// Secrets is what the API needs to change credentials (*rotation.Service). Each
// change is an operation, and writes its own audit records when it succeeds.
type Secrets interface {
	Rotate(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, requestKey string) (*operation.Operation, error)
	Revoke(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, requestKey string) (*operation.Operation, error)
	RotateShard(ctx context.Context, id shardmap.ShardID, actor catalog.Actor, requestKey string) (*operation.Operation, error)
	RevokeShard(ctx context.Context, id shardmap.ShardID, actor catalog.Actor, requestKey string) (*operation.Operation, error)
	RotateAll(ctx context.Context, atOnce int, actor catalog.Actor, requestKey string) (*operation.Operation, error)
	DryRun(ctx context.Context, id shardmap.TenantID, actor catalog.Actor) ([]operation.StepPlan, error)
	DryRunShard(ctx context.Context, id shardmap.ShardID, actor catalog.Actor) ([]operation.StepPlan, error)
	DryRunAll(ctx context.Context, atOnce int, actor catalog.Actor) ([]operation.StepPlan, error)
}

func (a *API) listSecrets(ctx context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query, "limit", "cursor", "kind", "shard", "tenant"); err != nil {
		return answer{}, err
	}
	p, err := readPage("secrets", c.query)
	if err != nil {
		return answer{}, err
	}
	f := catalog.CredentialFilter{Kind: catalog.CredentialKind(c.query.Get("kind")), Sight: c.sight()}
	if f.Kind != "" && f.Kind != catalog.TenantCredential && f.Kind != catalog.ShardCredential {
		return answer{}, invalidParameter("kind", "is neither tenant nor shard")
	}
	if s := c.query.Get("shard"); s != "" {
		if f.Shard, err = shardmap.ParseShardID(s); err != nil {
			return answer{}, invalidParameter("shard", "is not a shard's ID")
		}
	}
	if s := c.query.Get("tenant"); s != "" {
		if f.Tenant, err = shardmap.ParseTenantID(s); err != nil {
			return answer{}, invalidParameter("tenant", "is not a tenant's ID")
		}
	}
	list, next, err := a.Catalog.ListCredentials(ctx, f, p.forCatalog())
	if err != nil {
		return answer{}, err
	}
	return ok(pageOf("secrets", list, next, secretDoc))
}

func secretDoc(k catalog.Credential) api.Secret {
	return api.Secret{Kind: string(k.Kind), Name: k.Subject, Shard: k.Shard, Login: k.Login, Generation: k.Generation,
		IssuedAt: k.IssuedAt.UTC(), IssuedBy: k.IssuedBy, Reason: k.Reason, AgeSeconds: int64(k.Age.Seconds()), Operation: k.Operation}
}

// planned answers a dry run.
func planned(steps []operation.StepPlan, err error) (answer, error) {
	if err != nil {
		return answer{}, err
	}
	return ok(dryRunDoc(steps, nil))
}

// rotate begins a rotation, or says what it would do.
func rotate(c *call, plan func() ([]operation.StepPlan, error), begin func() (*operation.Operation, error)) (answer, error) {
	var in api.RotateSecret
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	if c.quiet = in.DryRun; in.DryRun {
		return planned(plan())
	}
	return begun(begin())
}

func (a *API) rotateTenantSecret(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	return rotate(c, func() ([]operation.StepPlan, error) { return a.Secrets.DryRun(ctx, id, c.actor) },
		func() (*operation.Operation, error) { return a.Secrets.Rotate(ctx, id, c.actor, c.key) })
}

func (a *API) revokeTenantSecret(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	if err := decode(c.body, &struct{}{}); err != nil {
		return answer{}, err
	}
	return begun(a.Secrets.Revoke(ctx, id, c.actor, c.key))
}

func (a *API) revokeShardSecret(ctx context.Context, c *call) (answer, error) {
	id, err := c.shardID()
	if err != nil {
		return answer{}, err
	}
	if err := decode(c.body, &struct{}{}); err != nil {
		return answer{}, err
	}
	return begun(a.Secrets.RevokeShard(ctx, id, c.actor, c.key))
}

func (a *API) rotateShardSecret(ctx context.Context, c *call) (answer, error) {
	id, err := c.shardID()
	if err != nil {
		return answer{}, err
	}
	return rotate(c, func() ([]operation.StepPlan, error) { return a.Secrets.DryRunShard(ctx, id, c.actor) },
		func() (*operation.Operation, error) { return a.Secrets.RotateShard(ctx, id, c.actor, c.key) })
}

func (a *API) rotateSecrets(ctx context.Context, c *call) (answer, error) {
	var in api.RotateSecrets
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	if in.AtOnce < 0 || in.AtOnce > rotation.MaxAtOnce {
		return answer{}, invalidBody().At("/at_once", fmt.Sprintf("is not from 0 to %d", rotation.MaxAtOnce))
	}
	if c.quiet = in.DryRun; in.DryRun {
		return planned(a.Secrets.DryRunAll(ctx, in.AtOnce, c.actor))
	}
	return begun(a.Secrets.RotateAll(ctx, in.AtOnce, c.actor, c.key))
}
