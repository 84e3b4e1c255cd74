package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/shardmap"
)

// Whoami says who the token belongs to.
func (c *Client) Whoami(ctx context.Context) (api.Identity, error) {
	return get[api.Identity](ctx, c, "/v1/whoami", nil)
}

// TenantFilter narrows a list; zero fields don't.
type TenantFilter struct {
	State, Shard string
	Contains     string // in ID or display name
	Purged       bool   // list purged ones too
	Label        string // NAME=VALUE, with commas between: all of them
}

// Tenants lists by ID, page after page; an error ends the list.
func (c *Client) Tenants(ctx context.Context, f TenantFilter) iter.Seq2[api.Tenant, error] {
	q := url.Values{}
	set(q, "state", f.State)
	set(q, "shard", f.Shard)
	set(q, "q", f.Contains)
	setBool(q, "purged", f.Purged)
	set(q, "label", f.Label)
	return pages[api.Tenant](ctx, c, "/v1/tenants", q)
}

// Tenant shows one.
func (c *Client) Tenant(ctx context.Context, id string) (api.Tenant, error) {
	return get[api.Tenant](ctx, c, tenantPath(id), nil)
}

// CreateTenant makes one. The operation is over already when a ready database was at hand.
func (c *Client) CreateTenant(ctx context.Context, in api.CreateTenant, ch Change) (api.Operation, error) {
	return change[api.Operation](ctx, c, http.MethodPost, "/v1/tenants", in, ch)
}

// DeleteTenant closes one; restorable for its grace period.
func (c *Client) DeleteTenant(ctx context.Context, id string, ch Change) (api.Operation, error) {
	return change[api.Operation](ctx, c, http.MethodDelete, tenantPath(id), nil, ch)
}

// RestoreTenant brings a deleted one back.
func (c *Client) RestoreTenant(ctx context.Context, id string, ch Change) (api.Operation, error) {
	return c.tenantVerb(ctx, id, "restore", ch)
}

// SuspendTenant closes one to requests.
func (c *Client) SuspendTenant(ctx context.Context, id string, ch Change) (api.Operation, error) {
	return c.tenantVerb(ctx, id, "suspend", ch)
}

// ResumeTenant opens a suspended one.
func (c *Client) ResumeTenant(ctx context.Context, id string, ch Change) (api.Operation, error) {
	return c.tenantVerb(ctx, id, "resume", ch)
}

func (c *Client) tenantVerb(ctx context.Context, id, verb string, ch Change) (api.Operation, error) {
	return change[api.Operation](ctx, c, http.MethodPost, tenantPath(id)+"/"+verb, nil, ch)
}

// MoveTenant starts an online move.
func (c *Client) MoveTenant(ctx context.Context, id string, in api.MoveTenant, ch Change) (api.Operation, error) {
	in.DryRun = false
	return change[api.Operation](ctx, c, http.MethodPost, tenantPath(id)+"/move", in, ch)
}

// PlanMove says what a move would do and changes nothing.
func (c *Client) PlanMove(ctx context.Context, id string, in api.MoveTenant) (api.Plan, error) {
	in.DryRun = true
	var out api.Plan
	err := c.call(ctx, http.MethodPost, tenantPath(id)+"/move", nil, in, nil, true, &out)
	return out, err
}

// GrantAccess makes a temporary login. It is not sent again by itself: each call makes another.
func (c *Client) GrantAccess(ctx context.Context, id string, in api.GrantAccess, reason string) (api.Access, error) {
	h := http.Header{}
	if reason != "" {
		h.Set(api.HeaderReason, reason)
	}
	var out api.Access
	err := c.call(ctx, http.MethodPost, tenantPath(id)+"/access", nil, in, h, false, &out)
	return out, err
}

// Shards lists by ID; an error ends the list.
func (c *Client) Shards(ctx context.Context, state string) iter.Seq2[api.Shard, error] {
	q := url.Values{}
	set(q, "state", state)
	return pages[api.Shard](ctx, c, "/v1/shards", q)
}

// Shard shows one.
func (c *Client) Shard(ctx context.Context, id string) (api.Shard, error) {
	return get[api.Shard](ctx, c, shardPath(id), nil)
}

// AddShard registers a server.
func (c *Client) AddShard(ctx context.Context, in api.AddShard, ch Change) (api.Shard, error) {
	return change[api.Shard](ctx, c, http.MethodPost, "/v1/shards", in, ch)
}

// CordonShard keeps new tenants away from a shard.
func (c *Client) CordonShard(ctx context.Context, id string, ch Change) (api.Shard, error) {
	return change[api.Shard](ctx, c, http.MethodPost, shardPath(id)+"/cordon", nil, ch)
}

// UncordonShard lets it take tenants again.
func (c *Client) UncordonShard(ctx context.Context, id string, ch Change) (api.Shard, error) {
	return change[api.Shard](ctx, c, http.MethodPost, shardPath(id)+"/uncordon", nil, ch)
}

// Placement says where a tenant lives, as committed.
func (c *Client) Placement(ctx context.Context, id string) (shardmap.Placement, error) {
	return get[shardmap.Placement](ctx, c, "/v1/placements/"+url.PathEscape(id), nil)
}

// ShardAddress says where a shard's PgBouncer listens.
func (c *Client) ShardAddress(ctx context.Context, id string) (shardmap.Shard, error) {
	return get[shardmap.Shard](ctx, c, shardPath(id)+"/address", nil)
}

// OperationFilter narrows a list; zero fields don't.
type OperationFilter struct {
	Kind, Tenant string
	States       []string
	Unfinished   bool
	Of           string // what was asked of this operation
}

// Operations lists newest first; an error ends the list.
func (c *Client) Operations(ctx context.Context, f OperationFilter) iter.Seq2[api.Operation, error] {
	q := url.Values{}
	set(q, "kind", f.Kind)
	set(q, "tenant", f.Tenant)
	set(q, "state", strings.Join(f.States, ","))
	setBool(q, "unfinished", f.Unfinished)
	set(q, "of", f.Of)
	return pages[api.Operation](ctx, c, "/v1/operations", q)
}

// Operation shows one with its journal.
func (c *Client) Operation(ctx context.Context, id string) (api.Operation, error) {
	return get[api.Operation](ctx, c, operationPath(id), nil)
}

// CancelOperation asks to end one; what it did is undone.
func (c *Client) CancelOperation(ctx context.Context, id string, ch Change) (api.Operation, error) {
	return change[api.Operation](ctx, c, http.MethodPost, operationPath(id)+"/cancel", nil, ch)
}

// VerifyMove compares both sides of a move, as an operation of its own.
func (c *Client) VerifyMove(ctx context.Context, id string, in api.VerifyMove, ch Change) (api.Operation, error) {
	return change[api.Operation](ctx, c, http.MethodPost, operationPath(id)+"/verify", in, ch)
}

// AuditFilter narrows a list; zero fields don't.
type AuditFilter struct {
	Tenant, Actor, Action string
	From, Until           time.Time
}

func (f AuditFilter) query() url.Values {
	q := url.Values{}
	set(q, "tenant", f.Tenant)
	set(q, "actor", f.Actor)
	set(q, "action", f.Action)
	for name, t := range map[string]time.Time{"from": f.From, "until": f.Until} {
		if !t.IsZero() {
			q.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	return q
}

// Audit lists the audit log newest first; an error ends the list.
func (c *Client) Audit(ctx context.Context, f AuditFilter) iter.Seq2[api.AuditEntry, error] {
	return pages[api.AuditEntry](ctx, c, "/v1/audit", f.query())
}

// pageSize is how much of a list is asked for at once.
const pageSize = 500

// pages yields a list page after page; one that comes on a single page takes no
// parameters, and q is nil.
func pages[T any](ctx context.Context, c *Client, path string, q url.Values) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		if q != nil {
			q.Set("limit", strconv.Itoa(pageSize))
		}
		for {
			page, err := get[api.Page[T]](ctx, c, path, q)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			if page.NextCursor == "" {
				return
			}
			q.Set("cursor", page.NextCursor)
		}
	}
}

func set(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

func setBool(q url.Values, name string, value bool) {
	if value {
		q.Set(name, "true")
	}
}

func tenantPath(id string) string    { return "/v1/tenants/" + url.PathEscape(id) }
func shardPath(id string) string     { return "/v1/shards/" + url.PathEscape(id) }
func operationPath(id string) string { return "/v1/operations/" + url.PathEscape(id) }
