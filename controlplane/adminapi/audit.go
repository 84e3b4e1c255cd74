package adminapi

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/shardmap"
)

func (a *API) listAudit(ctx context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query, "limit", "cursor", "tenant", "actor", "action", "from", "until"); err != nil {
		return answer{}, err
	}
	p, err := readPage("audit", c.query)
	if err != nil {
		return answer{}, err
	}
	f := audit.Filter{Actor: c.query.Get("actor"), Action: c.query.Get("action")}
	for name, s := range map[string]string{"actor": f.Actor, "action": f.Action} {
		if checkName("", s) != nil {
			return answer{}, invalidParameter(name, "is longer than 200 bytes or not printable")
		}
	}
	if s := c.query.Get("tenant"); s != "" {
		if f.Tenant, err = shardmap.ParseTenantID(s); err != nil {
			return answer{}, invalidParameter("tenant", "is not a tenant's ID")
		}
	}
	for name, t := range map[string]*time.Time{"from": &f.From, "until": &f.Until} {
		if s := c.query.Get(name); s != "" {
			if *t, err = time.Parse(time.RFC3339, s); err != nil {
				return answer{}, invalidParameter(name, "is not a time as RFC 3339 writes it, like 2026-01-31T12:00:00Z")
			}
		}
	}
	entries, next, err := a.Audit.List(ctx, f, p.forCatalog())
	if err != nil {
		return answer{}, err
	}
	return ok(pageOf("audit", entries, next, auditDoc))
}

func auditDoc(e audit.Entry) api.AuditEntry {
	r := e.Record
	return api.AuditEntry{
		Position: e.Position, Time: r.Time.UTC(), Actor: r.Actor.Name, Role: r.Actor.Role, Action: r.Action, Object: r.Object,
		Tenant: r.Tenant, Reason: r.Actor.Reason, Outcome: r.Outcome, Details: document(r.Details),
		RequestID: r.Actor.RequestID, TraceID: r.TraceID, Address: r.Actor.Address, Hash: hex.EncodeToString(e.Hash[:]),
	}
}
