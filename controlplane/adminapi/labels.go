package adminapi

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/authority"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/problem"
	"github.com/freehold-db/freehold/shardmap"
)

// putLabels sorts a tenant anew. Rights go by labels, so that who changes them
// needs his right over the tenant both as it is and as it will be: nobody draws
// a tenant into his own part of the fleet, or out of somebody else's.
func (a *API) putLabels(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	var in api.Labels
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	if in.Labels == nil {
		return answer{}, invalidBody().At("/labels", "is missing; {} takes all labels away")
	}
	if err := authority.CheckLabels(in.Labels); err != nil {
		return answer{}, invalidBody().At("/labels", err.Error())
	}
	var t catalog.Tenant
	err = a.Catalog.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if t, err = a.Catalog.LockTenant(ctx, tx, id); err != nil {
			return err
		}
		// As it is now, under its lock: it may have been drawn away since the caller was let in.
		for _, labels := range []map[string]string{t.Labels, in.Labels} {
			if err := c.may(c.verb.need, authority.Target{Tenant: id, Labels: labels}); err != nil {
				return err
			}
		}
		if t.PurgedAt != nil {
			return problem.New(http.StatusConflict, "conflicting_state", "tenant "+string(id)+" is purged", "there is nothing left to sort")
		}
		if maps.Equal(t.Labels, in.Labels) {
			return nil
		}
		details, err := json.Marshal(map[string]any{"before": labelsDoc(t.Labels), "after": in.Labels})
		if err != nil {
			return err
		}
		t.Labels = in.Labels
		if err := a.Catalog.SetLabels(ctx, tx, id, in.Labels); err != nil {
			return err
		}
		return a.Catalog.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: c.actor, Action: c.verb.action, Object: c.object, Tenant: id,
			Outcome: "ok", TraceID: traceID(ctx), Details: details})
	})
	if err != nil {
		return answer{}, err
	}
	return ok(tenantDoc(t))
}

func labelsDoc(labels map[string]string) map[string]string {
	if labels == nil {
		return map[string]string{}
	}
	return labels
}

// readLabels takes a selector: NAME=VALUE with commas between.
func readLabels(c *call) (map[string]string, error) {
	s := c.query.Get("label")
	if s == "" {
		return nil, nil //nolint:nilnil // none is asked for
	}
	labels := map[string]string{}
	for one := range strings.SplitSeq(s, ",") {
		name, value, found := strings.Cut(one, "=")
		if _, twice := labels[name]; !found || twice {
			return nil, invalidParameter("label", "is not NAME=VALUE,NAME=VALUE…")
		}
		labels[name] = value
	}
	if err := authority.CheckLabels(labels); err != nil {
		return nil, invalidParameter("label", "is no selector: "+err.Error())
	}
	return labels, nil
}

// maxSeen bounds the tenants whose records one list of the audit log shows to
// who may see only some: the log does not know tenants' labels.
const maxSeen = 10_000

// seenTenants are those a list may show, by name; nil: all.
func (a *API) seenTenants(ctx context.Context, c *call) ([]shardmap.TenantID, error) {
	sight := c.sight()
	if sight == nil {
		return nil, nil
	}
	ids, err := a.Catalog.TenantsSeen(ctx, sight, maxSeen+1)
	if err != nil {
		return nil, err
	}
	if len(ids) > maxSeen {
		return nil, problem.New(http.StatusUnprocessableEntity, "too_many_tenants", "this credential may see more tenants than one list of the audit log shows",
			"name one tenant")
	}
	return append([]shardmap.TenantID{}, ids...), nil
}
