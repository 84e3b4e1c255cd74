package adminapi

import (
	"context"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/shardmap"
)

func (a *API) listAudit(ctx context.Context, c *call) (answer, error) {
	f, p, err := readAuditFilter(c, "tenant", "above")
	if err != nil {
		return answer{}, err
	}
	if s := c.query.Get("tenant"); s != "" {
		if f.Tenant, err = shardmap.ParseTenantID(s); err != nil {
			return answer{}, invalidParameter("tenant", "is not a tenant's ID")
		}
	}
	if s := c.query.Get("above"); s != "" {
		if f.Above, err = strconv.ParseInt(s, 10, 64); err != nil || f.Above < 0 {
			return answer{}, invalidParameter("above", "is not a position in the log")
		}
		f.Upwards = true
	}
	if f.Tenants, err = a.seenTenants(ctx, c); err != nil {
		return answer{}, err
	}
	entries, next, err := a.Audit.List(ctx, f, p.forCatalog())
	if err != nil {
		return answer{}, err
	}
	return ok(pageOf("audit", entries, next, auditDoc))
}

// readAuditFilter takes the parameters that lists of the audit log share; besides them the verb knows those named.
func readAuditFilter(c *call, also ...string) (audit.Filter, page, error) {
	f := audit.Filter{Actor: c.query.Get("actor"), Action: c.query.Get("action")}
	if err := onlyParameters(c.query, append([]string{"limit", "cursor", "actor", "action", "from", "until"}, also...)...); err != nil {
		return f, page{}, err
	}
	p, err := readPage("audit", c.query)
	if err != nil {
		return f, p, err
	}
	if _, err := strconv.ParseInt(p.after, 10, 64); p.after != "" && err != nil {
		return f, p, invalidParameter("cursor", "is no cursor of this list")
	}
	for name, s := range map[string]string{"actor": f.Actor, "action": f.Action} {
		if checkName("", s) != nil {
			return f, p, invalidParameter(name, "is longer than 200 bytes or not printable")
		}
	}
	for name, t := range map[string]*time.Time{"from": &f.From, "until": &f.Until} {
		if s := c.query.Get(name); s != "" {
			if *t, err = time.Parse(time.RFC3339, s); err != nil {
				return f, p, invalidParameter(name, "is not a time as RFC 3339 writes it, like 2026-01-31T12:00:00Z")
			}
		}
	}
	return f, p, nil
}

func auditDoc(e audit.Entry) api.AuditEntry {
	r := e.Record
	return api.AuditEntry{
		Position: e.Position, Time: r.Time.UTC(), Actor: r.Actor.Name, Role: r.Actor.Role, Action: r.Action, Object: r.Object,
		Tenant: r.Tenant, Reason: r.Actor.Reason, Outcome: r.Outcome, Details: document(r.Details),
		RequestID: r.Actor.RequestID, TraceID: r.TraceID, Address: r.Actor.Address, Hash: hex.EncodeToString(e.Hash[:]),
	}
}
