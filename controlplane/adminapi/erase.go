package adminapi

import (
	"context"
	"crypto/ed25519"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/erase"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// Erasures is what the API needs to erase a tenant (*erase.Service). Erase
// writes its own audit record when it succeeds.
type Erasures interface {
	Erase(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, requestKey string) (*operation.Operation, error)
	Certificate(ctx context.Context, id shardmap.TenantID) (catalog.Erasure, error)
	PublicKey(ctx context.Context) (ed25519.PublicKey, error)
}

func (a *API) eraseTenant(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	if err := decode(c.body, &struct{}{}); err != nil {
		return answer{}, err
	}
	if c.actor.Reason == "" {
		return answer{}, invalidParameter(api.HeaderReason, "is missing: the certificate says why")
	}
	return begun(a.Erasures.Erase(ctx, id, c.actor, c.key))
}

func (a *API) getErasure(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	e, err := a.Erasures.Certificate(ctx, id)
	if err != nil {
		return answer{}, err
	}
	return ok(api.Erasure{Tenant: e.Tenant, IssuedAt: e.IssuedAt, Certificate: e.Certificate})
}

func (a *API) erasureKey(ctx context.Context, _ *call) (answer, error) {
	key, err := a.Erasures.PublicKey(ctx)
	if err != nil {
		return answer{}, err
	}
	return ok(api.ErasureKey{PublicKey: erase.PublicKey(key)})
}
