package adminapi

import (
	"context"
	"errors"
	"time"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// Soaks is what the API needs to leave a soak, in either direction. Reverse and
// Complete write their own audit records when they succeed.
type Soaks interface {
	Reverse(ctx context.Context, req move.ReverseRequest, actor catalog.Actor, requestKey string) (*operation.Operation, error)
	DryRunReverse(ctx context.Context, req move.ReverseRequest, actor catalog.Actor) ([]operation.StepPlan, error)
	Complete(ctx context.Context, id string, actor catalog.Actor, requestKey string) (*operation.Operation, error)
}

// maxSoakSeconds bounds a soak: 30 days.
const maxSoakSeconds = 30 * 24 * 3600

// checkSoak reads how long a soak is to last.
func checkSoak(seconds int) (time.Duration, error) {
	if seconds < 0 || seconds > maxSoakSeconds {
		return 0, invalidBody().At("/soak_seconds", "is not from 0 to 2592000")
	}
	return time.Duration(seconds) * time.Second, nil
}

// checkPause reads the pause budget; 0 is the default.
func checkPause(ms int) (time.Duration, error) {
	if ms != 0 && (ms < minPauseMS || ms > maxPauseMS) {
		return 0, invalidBody().At("/max_pause_ms", "is not from 10 to 60000")
	}
	return time.Duration(ms) * time.Millisecond, nil
}

func (a *API) reverseMove(ctx context.Context, c *call) (answer, error) {
	id, err := c.operationID()
	if err != nil {
		return answer{}, err
	}
	var in api.ReverseMove
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	c.quiet = in.DryRun
	req := move.ReverseRequest{Operation: id}
	if req.MaxPause, err = checkPause(in.MaxPauseMS); err != nil {
		return answer{}, err
	}
	if req.Soak, err = checkSoak(in.SoakSeconds); err != nil {
		return answer{}, err
	}
	if req.Manual, req.NotBefore, err = readCutover(in.Cutover); err != nil {
		return answer{}, err
	}
	if in.DryRun {
		steps, err := a.Soaks.DryRunReverse(ctx, req, c.actor)
		var refused *move.RefusedError
		if err != nil && !errors.As(err, &refused) {
			return answer{}, err
		}
		return ok(dryRunDoc(steps, refused))
	}
	return begun(a.Soaks.Reverse(ctx, req, c.actor, c.key))
}

func (a *API) completeMove(ctx context.Context, c *call) (answer, error) {
	id, err := c.operationID()
	if err != nil {
		return answer{}, err
	}
	if err := decode(c.body, &struct{}{}); err != nil {
		return answer{}, err
	}
	return begun(a.Soaks.Complete(ctx, id, c.actor, c.key))
}

func (a *API) getSoak(ctx context.Context, c *call) (answer, error) {
	id, err := c.operationID()
	if err != nil {
		return answer{}, err
	}
	k, err := a.Catalog.GetSoak(ctx, id)
	if err != nil {
		return answer{}, err
	}
	return ok(soakDoc(k))
}

func (a *API) listSoaks(ctx context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query, "limit", "cursor", "tenant", "live"); err != nil {
		return answer{}, err
	}
	p, err := readPageByID("soaks", c.query)
	if err != nil {
		return answer{}, err
	}
	var f catalog.SoakFilter
	if s := c.query.Get("tenant"); s != "" {
		if f.Tenant, err = shardmap.ParseTenantID(s); err != nil {
			return answer{}, invalidParameter("tenant", "is not a tenant's ID")
		}
	}
	if f.Live, err = readBool(c, "live"); err != nil {
		return answer{}, err
	}
	f.Sight = c.sight()
	soaks, next, err := a.Catalog.ListSoaks(ctx, f, p.forCatalog())
	if err != nil {
		return answer{}, err
	}
	return ok(pageOf("soaks", soaks, next, soakDoc))
}

func soakDoc(k catalog.Soak) api.Soak {
	return api.Soak{Operation: k.Operation, Tenant: k.Tenant, Home: k.Home, Old: k.Old, State: string(k.State), Reason: k.Reason,
		BeganAt: k.BeganAt.UTC(), Until: k.Until.UTC(), EndedAt: utc(k.EndedAt), KeptBytes: k.KeptBytes, Trouble: k.Trouble}
}
