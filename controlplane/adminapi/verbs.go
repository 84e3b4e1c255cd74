package adminapi

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/trace"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/problem"
	"github.com/freehold-db/freehold/shardmap"
)

// verb is one row of the API: who may call it and what the audit log calls it.
type verb struct {
	method, path string
	need         Role
	// nodes lets data-plane nodes in; they get in nowhere else.
	nodes bool
	// name is the operation's ID in openapi.yaml, which grants name verbs by; see [API.routes].
	name string
	// A verb is about what its path names: a tenant, an operation (that is, its
	// tenant), a shard; else about the fleet. fleet says that it is about the
	// whole fleet although its path names less, own that it shows or asks by itself what
	// the caller may: a list by [call.sight], a document of what is to be by [call.may].
	fleet, own bool
	// action names a mutation in the audit log; empty: the verb only reads.
	action string
	// unkeyed verbs give an answer that must not be stored (it holds a
	// secret), so an Idempotency-Key is refused.
	unkeyed bool
	// always lets a mutation through although too many records wait to be in the
	// audit log: it takes a right away, ends something, or helps to mend that.
	always bool
	// raw verbs take a file as their body, of any size, which they read themselves.
	raw bool
	do  func(a *API, ctx context.Context, c *call) (answer, error)
}

// verbs is the API. Viewers read; operators do what can be undone; admins also
// do what can't, or what opens tenants' data.
var verbs = []verb{
	{method: "GET", path: "/v1/whoami", own: true, need: RoleViewer, do: (*API).whoami},

	{method: "GET", path: "/v1/tenants", own: true, need: RoleViewer, do: (*API).listTenants},
	{method: "POST", path: "/v1/tenants", own: true, need: RoleOperator, action: "tenant.create", do: (*API).createTenant},
	{method: "GET", path: "/v1/tenants/:tenant", need: RoleViewer, do: (*API).getTenant},
	{method: "DELETE", path: "/v1/tenants/:tenant", need: RoleAdmin, action: "tenant.delete", do: (*API).deleteTenant},
	{method: "POST", path: "/v1/tenants/:tenant/restore", need: RoleOperator, action: "tenant.restore", do: (*API).restoreTenant},
	{method: "POST", path: "/v1/tenants/:tenant/suspend", need: RoleOperator, action: "tenant.suspend", always: true, do: (*API).suspendTenant},
	{method: "POST", path: "/v1/tenants/:tenant/resume", need: RoleOperator, action: "tenant.resume", do: (*API).resumeTenant},
	{method: "POST", path: "/v1/tenants/:tenant/move", need: RoleOperator, action: "tenant.move", do: (*API).moveTenant},
	{method: "POST", path: "/v1/tenants/:tenant/clone", need: RoleOperator, action: "tenant.clone", do: (*API).cloneTenant},
	{method: "POST", path: "/v1/tenants/:tenant/access", need: RoleAdmin, action: "break-glass.ask", unkeyed: true, do: (*API).grantAccess},

	{method: "POST", path: "/v1/tenants/:tenant/break-glass", need: RoleAdmin, action: "break-glass.ask", unkeyed: true, do: (*API).askBreakGlass},
	{method: "GET", path: "/v1/break-glass", own: true, need: RoleViewer, do: (*API).listBreakGlass},
	{method: "GET", path: "/v1/break-glass/:session", need: RoleViewer, do: (*API).getBreakGlass},
	{method: "POST", path: "/v1/break-glass/:session/approve", need: RoleAdmin, action: "break-glass.approve", do: (*API).approveBreakGlass},
	{method: "POST", path: "/v1/break-glass/:session/open", need: RoleAdmin, action: "break-glass.open", unkeyed: true, do: (*API).openBreakGlass},
	{method: "POST", path: "/v1/break-glass/:session/end", need: RoleOperator, action: "break-glass.end", always: true, do: (*API).endBreakGlass},
	{method: "PUT", path: "/v1/tenants/:tenant/labels", need: RoleOperator, action: "tenant.labels", do: (*API).putLabels},

	{method: "GET", path: "/v1/access-tokens", own: true, need: RoleAdmin, do: (*API).listAccessTokens},
	{method: "POST", path: "/v1/access-tokens", own: true, need: RoleAdmin, action: "access-token.create", unkeyed: true, do: (*API).createAccessToken},
	{method: "DELETE", path: "/v1/access-tokens/:token", own: true, need: RoleViewer, action: "access-token.revoke", always: true, do: (*API).revokeAccessToken},
	{method: "GET", path: "/v1/bindings", own: true, need: RoleAdmin, do: (*API).listBindings},
	{method: "POST", path: "/v1/bindings", own: true, need: RoleAdmin, action: "binding.create", do: (*API).createBinding},
	{method: "DELETE", path: "/v1/bindings/:binding", own: true, need: RoleAdmin, action: "binding.remove", always: true, do: (*API).removeBinding},

	{method: "POST", path: "/v1/tenants/:tenant/export", need: RoleOperator, action: "tenant.export", do: (*API).exportTenant},
	{method: "GET", path: "/v1/tenants/:tenant/copies", need: RoleViewer, do: (*API).listCopies},
	{method: "POST", path: "/v1/tenants/:tenant/copies", need: RoleOperator, action: "copy.upload", unkeyed: true, raw: true, do: (*API).receiveCopy},
	{method: "GET", path: "/v1/tenants/:tenant/copies/:copy", need: RoleViewer, do: (*API).getCopy},
	{method: "DELETE", path: "/v1/tenants/:tenant/copies/:copy", need: RoleOperator, action: "copy.delete", do: (*API).deleteCopy},
	{method: "GET", path: "/v1/tenants/:tenant/copies/:copy/content", need: RoleOperator, do: (*API).copyContent},
	{method: "POST", path: "/v1/tenants/:tenant/copies/:copy/import", need: RoleOperator, action: "tenant.import", do: (*API).importCopy},
	{method: "GET", path: "/v1/tenants/:tenant/key", need: RoleViewer, do: (*API).getTenantKey},
	{method: "POST", path: "/v1/tenants/:tenant/key/rotate", need: RoleOperator, action: "key.rotate", do: (*API).rotateTenantKey},
	{method: "POST", path: "/v1/tenants/:tenant/erase", need: RoleAdmin, action: "tenant.erase", do: (*API).eraseTenant},
	{method: "GET", path: "/v1/tenants/:tenant/erasure", need: RoleViewer, do: (*API).getErasure},
	{method: "GET", path: "/v1/erasure-key", own: true, need: RoleViewer, do: (*API).erasureKey},

	{method: "GET", path: "/v1/tenants/:tenant/access", need: RoleViewer, do: (*API).getTenantAccess},
	{method: "PATCH", path: "/v1/tenants/:tenant/access", need: RoleOperator, action: "access.set", do: (*API).patchTenantAccess},
	{method: "GET", path: "/v1/tenants/:tenant/keys", need: RoleViewer, do: (*API).listKeys},
	{method: "POST", path: "/v1/tenants/:tenant/keys", need: RoleAdmin, action: "key.create", unkeyed: true, do: (*API).createKey},
	{method: "DELETE", path: "/v1/tenants/:tenant/keys/:key", need: RoleOperator, action: "key.revoke", always: true, do: (*API).revokeKey},
	{method: "POST", path: "/v1/tenants/:tenant/tokens/revoke", need: RoleOperator, action: "token.revoke", always: true, do: (*API).revokeTokens},
	{method: "GET", path: "/v1/tenants/:tenant/roles", need: RoleViewer, do: (*API).listRoles},
	{method: "POST", path: "/v1/tenants/:tenant/roles", need: RoleOperator, action: "role.create", do: (*API).createRole},
	{method: "DELETE", path: "/v1/tenants/:tenant/roles/:role", need: RoleAdmin, action: "role.drop", do: (*API).dropRole},

	{method: "GET", path: "/v1/plans", need: RoleViewer, do: (*API).listPlans},
	{method: "PUT", path: "/v1/plans/:plan", need: RoleOperator, action: "plan.set", do: (*API).setPlan},
	{method: "DELETE", path: "/v1/plans/:plan", need: RoleOperator, action: "plan.delete", do: (*API).deletePlan},
	{method: "GET", path: "/v1/fleet/access", need: RoleViewer, do: (*API).getFleetAccess},
	{method: "PATCH", path: "/v1/fleet/access", need: RoleAdmin, action: "fleet.access", do: (*API).patchFleetAccess},

	{method: "GET", path: "/v1/shards", own: true, need: RoleViewer, do: (*API).listShards},
	{method: "POST", path: "/v1/shards", need: RoleAdmin, action: "shard.add", do: (*API).addShard},
	{method: "GET", path: "/v1/shards/:shard", need: RoleViewer, do: (*API).getShard},
	{method: "DELETE", path: "/v1/shards/:shard", fleet: true, need: RoleAdmin, action: "shard.remove", do: (*API).removeShard},
	{method: "POST", path: "/v1/shards/:shard/cordon", need: RoleOperator, action: "shard.cordon", do: (*API).cordonShard},
	{method: "POST", path: "/v1/shards/:shard/uncordon", need: RoleOperator, action: "shard.uncordon", do: (*API).uncordonShard},

	{method: "GET", path: "/v1/shards/:shard/upgrade", fleet: true, need: RoleOperator, do: (*API).planUpgrade},
	{method: "GET", path: "/v1/shards/:shard/address", need: RoleViewer, nodes: true, do: (*API).shardAddress},
	{method: "GET", path: "/v1/placements/:tenant", need: RoleViewer, nodes: true, do: (*API).placement},
	{method: "GET", path: "/v1/access/_fleet", need: RoleAdmin, nodes: true, do: (*API).fleetDocument},
	{method: "GET", path: "/v1/access/:tenant", need: RoleAdmin, nodes: true, do: (*API).accessDocument},

	{method: "GET", path: "/v1/rebalance/policy", need: RoleViewer, do: (*API).getPlacementPolicy},
	{method: "PUT", path: "/v1/rebalance/policy", need: RoleOperator, action: "rebalance.policy", do: (*API).putPlacementPolicy},
	{method: "GET", path: "/v1/rebalance/plans", need: RoleViewer, do: (*API).listRebalancePlans},
	{method: "POST", path: "/v1/rebalance/plans", need: RoleOperator, action: "rebalance.plan", do: (*API).makeRebalancePlan},
	{method: "GET", path: "/v1/rebalance/plans/:plan", need: RoleViewer, do: (*API).getRebalancePlan},
	{method: "POST", path: "/v1/rebalance/plans/:plan/apply", need: RoleOperator, action: "rebalance.apply", do: (*API).applyRebalancePlan},
	{method: "GET", path: "/v1/rebalance/status", need: RoleViewer, do: (*API).rebalanceStatus},
	{method: "GET", path: "/v1/rebalance/runs/:operation", need: RoleViewer, do: (*API).getRebalanceRun},
	{method: "GET", path: "/v1/rebalance/runs/:operation/moves", need: RoleViewer, do: (*API).listRebalanceMoves},
	{method: "POST", path: "/v1/rebalance/pause", need: RoleOperator, action: "rebalance.pause", always: true, do: (*API).pauseRebalance},
	{method: "POST", path: "/v1/rebalance/resume", need: RoleOperator, action: "rebalance.resume", do: (*API).resumeRebalance},
	{method: "POST", path: "/v1/rebalance/cancel", need: RoleOperator, action: "rebalance.cancel", always: true, do: (*API).cancelRebalance},
	{method: "PUT", path: "/v1/rebalance/auto", need: RoleOperator, action: "rebalance.auto", do: (*API).setAutoMode},
	{method: "GET", path: "/v1/shards/:shard/drain", need: RoleViewer, do: (*API).getDrain},
	{method: "POST", path: "/v1/shards/:shard/drain", fleet: true, need: RoleOperator, action: "shard.drain", do: (*API).drainShard},
	{method: "POST", path: "/v1/shards/:shard/undrain", fleet: true, need: RoleOperator, action: "shard.undrain", do: (*API).undrainShard},
	{method: "POST", path: "/v1/rebalance/simulate", need: RoleOperator, action: "rebalance.simulate", unkeyed: true, do: (*API).simulate},
	{method: "GET", path: "/v1/tenants/:tenant/placement", fleet: true, need: RoleViewer, do: (*API).explainTenant},
	{method: "GET", path: "/v1/tenants/:tenant/needs", need: RoleViewer, do: (*API).getNeeds},
	{method: "PUT", path: "/v1/tenants/:tenant/needs", need: RoleOperator, action: "tenant.needs", do: (*API).putNeeds},
	{method: "GET", path: "/v1/shards/:shard/capacity", need: RoleViewer, do: (*API).getCapacity},
	{method: "PUT", path: "/v1/shards/:shard/capacity", need: RoleOperator, action: "shard.capacity", do: (*API).putCapacity},

	{method: "GET", path: "/v1/operations", own: true, need: RoleViewer, do: (*API).listOperations},
	{method: "GET", path: "/v1/operations/:operation", need: RoleViewer, do: (*API).getOperation},
	{method: "GET", path: "/v1/operations/:operation/watch", need: RoleViewer, do: (*API).watchOperation},
	{method: "POST", path: "/v1/operations/:operation/cancel", need: RoleOperator, action: "operation.cancel", always: true, do: (*API).cancelOperation},
	{method: "POST", path: "/v1/operations/:operation/verify", need: RoleOperator, action: "move.verify", do: (*API).verifyMove},
	{method: "POST", path: "/v1/operations/:operation/cutover", need: RoleOperator, action: "move.cutover", do: (*API).cutOver},
	{method: "POST", path: "/v1/operations/:operation/pace", need: RoleOperator, action: "move.pace", do: (*API).setPace},
	{method: "POST", path: "/v1/operations/:operation/reverse", need: RoleOperator, action: "tenant.move.reverse", do: (*API).reverseMove},
	{method: "POST", path: "/v1/operations/:operation/complete", need: RoleOperator, action: "tenant.move.complete", do: (*API).completeMove},
	{method: "GET", path: "/v1/operations/:operation/soak", need: RoleViewer, do: (*API).getSoak},
	{method: "GET", path: "/v1/soaks", own: true, need: RoleViewer, do: (*API).listSoaks},

	{method: "GET", path: "/v1/usage/tenants", own: true, need: RoleViewer, do: (*API).tenantsUsage},
	{method: "GET", path: "/v1/usage/shards", own: true, need: RoleViewer, do: (*API).shardsUsage},
	{method: "GET", path: "/v1/tenants/:tenant/usage", need: RoleViewer, do: (*API).tenantUsage},
	{method: "GET", path: "/v1/shards/:shard/usage", need: RoleViewer, do: (*API).shardUsage},
	{method: "GET", path: "/v1/tenants/:tenant/audit", need: RoleViewer, do: (*API).tenantAudit},
	{method: "GET", path: "/v1/audit/export", need: RoleViewer, do: (*API).exportAudit},
	{method: "POST", path: "/v1/audit/checkpoint", need: RoleOperator, action: "audit.checkpoint", always: true, do: (*API).anchorAudit},

	{method: "GET", path: "/v1/secrets", own: true, need: RoleViewer, do: (*API).listSecrets},
	{method: "POST", path: "/v1/secrets/rotate", need: RoleAdmin, action: "secret.rotate", do: (*API).rotateSecrets},
	{method: "POST", path: "/v1/tenants/:tenant/secret/rotate", need: RoleOperator, action: "secret.rotate", do: (*API).rotateTenantSecret},
	{method: "POST", path: "/v1/tenants/:tenant/secret/revoke", need: RoleOperator, action: "secret.revoke", always: true, do: (*API).revokeTenantSecret},
	{method: "POST", path: "/v1/shards/:shard/secret/rotate", need: RoleAdmin, action: "secret.rotate", do: (*API).rotateShardSecret},
	{method: "POST", path: "/v1/shards/:shard/secret/revoke", need: RoleAdmin, action: "secret.revoke", always: true, do: (*API).revokeShardSecret},

	{method: "GET", path: "/v1/doctor/security", need: RoleOperator, do: (*API).doctorSecurity},
	{method: "GET", path: "/v1/audit", own: true, need: RoleViewer, do: (*API).listAudit},
}

// call is one authenticated request, read and checked as far as all verbs have in common.
type call struct {
	who   Principal
	actor catalog.Actor
	query url.Values
	body  []byte
	// stream is the body of a raw verb.
	stream io.Reader
	// key is the caller's Idempotency-Key, empty if there is none.
	key string
	// expect is the version that If-Match names; nil: whichever.
	expect *int64
	params gin.Params
	// object is what the audit log says a refused mutation was about.
	object string
	tenant shardmap.TenantID
	// quiet: nothing would have been changed (a dry run), so a refusal is not recorded.
	quiet bool
	verb  verb
}

// about says what the audit log calls the object, once the body is read.
func (c *call) about(kind, id string) {
	if id != "" {
		c.object = kind + "/" + clip(id)
	}
}

// answer is what a verb found: a document under a status, or a stream.
type answer struct {
	status int
	doc    any
	// version of the document, for a later If-Match; nil: it has none.
	version *int64
	stream  func(ctx context.Context, w gin.ResponseWriter)
}

func ok(doc any) (answer, error) { return answer{status: http.StatusOK, doc: doc}, nil }

// cleanUpFor bounds what is done after the caller's own time is over.
const cleanUpFor = 5 * time.Second

// handler is the way of every request through authentication, role, limits and idempotency to its verb.
func (a *API) handler(v verb) gin.HandlerFunc {
	return func(g *gin.Context) {
		who, err := a.authenticate(g)
		if err != nil {
			a.fail(g, err)
			return
		}
		c := &call{who: who, params: g.Params, verb: v}
		c.actor = catalog.Actor{Name: who.Name, Role: string(who.Role()), RequestID: g.GetString(keyRequestID), Address: host(g.Request.RemoteAddr)}
		c.object = objectOf(v, g.Params)
		if reason := g.GetHeader(api.HeaderReason); len(reason) <= maxReason && printable(reason) {
			c.actor.Reason = reason // of a refusal by role too
		}
		bound := requestFor
		if v.raw {
			bound = transferFor
		}
		ctx, cancel := context.WithTimeout(g.Request.Context(), bound)
		defer cancel()
		ans, stored, err := a.run(ctx, g, v, c)
		switch {
		case err != nil:
			p := a.fail(g, err)
			switch {
			case v.action != "" && !c.quiet:
				a.recordRefusal(ctx, v.action, c, p, 0)
			case p.Status == http.StatusForbidden:
				a.recordForbidden(ctx, c, p)
			}
		case ans.stream != nil:
			ans.stream(g.Request.Context(), g.Writer)
		case stored != nil:
			g.Header(api.HeaderReplayed, "true")
			a.send(g, stored.Status, stored.Body)
		default:
			body, err := json.Marshal(ans.doc)
			if err != nil {
				a.fail(g, err)
				return
			}
			if ans.version != nil {
				g.Header("ETag", strconv.Quote(strconv.FormatInt(*ans.version, 10)))
			}
			a.send(g, ans.status, body)
		}
	}
}

func (a *API) send(g *gin.Context, status int, body []byte) {
	g.Header("Cache-Control", "no-store")
	g.Header("X-Content-Type-Options", "nosniff")
	g.Data(status, "application/json", body)
}

// run does the verb's work, or finds the answer that the same request was given before.
func (a *API) run(ctx context.Context, g *gin.Context, v verb, c *call) (answer, *catalog.Answer, error) {
	if err := a.authorize(ctx, c); err != nil {
		return answer{}, nil, err
	}
	if err := c.read(g, v); err != nil {
		return answer{}, nil, err
	}
	if v.action != "" && !v.always && a.Outbox != nil {
		if err := a.Outbox.Room(ctx); err != nil {
			return answer{}, nil, err
		}
	}
	if v.action == "" || c.key == "" {
		ans, err := v.do(a, ctx, c)
		return ans, nil, err
	}
	return a.once(ctx, g.Request, v, c)
}

// once runs a mutation under its idempotency key: the answer of a success is
// kept and given again. What was refused or failed changed nothing, so its key
// is free again. A success whose answer could not be kept is found again by the
// domain, which knows the key too.
func (a *API) once(ctx context.Context, r *http.Request, v verb, c *call) (answer, *catalog.Answer, error) {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(r.Method), []byte(r.URL.Path), c.body} {
		_, _ = h.Write(part) // a hash never fails
		_, _ = h.Write([]byte{0})
	}
	hash := h.Sum(nil)
	stored, err := a.Catalog.BeginRequest(ctx, c.who.Name, c.key, hash)
	if errors.Is(err, catalog.ErrBusy) || errors.Is(err, catalog.ErrNotFound) { // not found: given back this very moment
		return answer{}, nil, problem.New(http.StatusConflict, "request_under_way", "the same request is being worked on right now",
			"send it again in a moment, with the same Idempotency-Key, to get its answer")
	}
	if err != nil || stored != nil {
		return answer{}, stored, err
	}
	finished := false
	defer func() {
		if !finished { // refused, failed or panicked
			ctx, cancel := detached(ctx)
			defer cancel()
			if err := a.Catalog.AbandonRequest(ctx, c.who.Name, c.key, hash); err != nil {
				a.Log.WarnContext(ctx, "idempotency key not given back; it is free in a minute", "request_id", c.actor.RequestID, "error", err)
			}
		}
	}()
	ans, err := v.do(a, ctx, c)
	if err != nil {
		return answer{}, nil, err
	}
	body, err := json.Marshal(ans.doc)
	if err != nil {
		return answer{}, nil, err
	}
	finished = true
	ctx, cancel := detached(ctx)
	defer cancel()
	if err := a.Catalog.FinishRequest(ctx, c.who.Name, c.key, hash, catalog.Answer{Status: ans.status, Body: body}); err != nil {
		a.Log.WarnContext(ctx, "answer not kept under its idempotency key", "request_id", c.actor.RequestID, "error", err)
	}
	return ans, nil, nil
}

// keyPattern is what an Idempotency-Key may be: a UUID, a hash, a name.
var keyPattern = regexp.MustCompile(`^[\x21-\x7e]{1,128}$`)

const maxReason = 500 // bytes

// read takes body, query and headers.
func (c *call) read(g *gin.Context, v verb) error {
	query, err := url.ParseQuery(g.Request.URL.RawQuery)
	if err != nil {
		return invalidParameter("query", "is not URL-encoded")
	}
	c.query = query
	if v.action == "" {
		return nil
	}
	if err := onlyParameters(query); err != nil { // mutations take everything from the body
		return err
	}
	if c.actor.Reason != g.GetHeader(api.HeaderReason) {
		return invalidParameter(api.HeaderReason, "is longer than 500 bytes or has characters that are not printable")
	}
	if keys := g.Request.Header.Values(api.HeaderIdempotencyKey); len(keys) > 0 {
		if v.unkeyed {
			return invalidParameter(api.HeaderIdempotencyKey, "is not taken here: the answer holds a secret and is kept nowhere")
		}
		if len(keys) != 1 || !keyPattern.MatchString(keys[0]) {
			return invalidParameter(api.HeaderIdempotencyKey, "is not 1 to 128 printable ASCII characters without spaces")
		}
		c.key = keys[0]
	}
	if c.expect, err = readVersion(g.Request.Header.Values(api.HeaderIfMatch)); err != nil {
		return err
	}
	if v.raw {
		c.stream = unhurried(g.Writer, g.Request.Body)
		return nil
	}
	c.body, err = readBody(g.Writer, g.Request)
	return err
}

// readVersion takes the version that a change is made for.
func readVersion(ifMatch []string) (*int64, error) {
	if len(ifMatch) == 0 || len(ifMatch) == 1 && ifMatch[0] == "*" {
		return nil, nil
	}
	text, err := strconv.Unquote(ifMatch[0])
	version, nerr := strconv.ParseInt(text, 10, 64)
	if len(ifMatch) > 1 || err != nil || nerr != nil || version < 0 {
		return nil, invalidParameter(api.HeaderIfMatch, `is not one ETag of this API, like "7"`)
	}
	return &version, nil
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// recordRefusal puts what was asked for and not done into the audit log. more
// counts refusals of the same kind that were not recorded before this one.
func (a *API) recordRefusal(ctx context.Context, action string, c *call, p *problem.Problem, more int) {
	outcome := "refused"
	if p.Status >= http.StatusInternalServerError {
		outcome = "failed"
	}
	if a.Outbox != nil && errors.Is(a.Outbox.RoomForRefusals(ctx), audit.ErrBacklog) {
		a.Log.WarnContext(ctx, "a refusal is not in the audit log, for too many records wait to be", "action", action, "actor", c.actor.Name,
			"address", c.actor.Address, "object", c.object, "code", p.Code, "request_id", c.actor.RequestID)
		return
	}
	said := map[string]any{"status": p.Status, "code": p.Code}
	if more > 0 {
		said["more"] = more
	}
	details, err := json.Marshal(said)
	if err == nil {
		err = a.record(ctx, catalog.AuditRecord{Actor: c.actor, Action: action, Object: c.object, Tenant: c.tenant, Outcome: outcome, Details: details})
	}
	if err != nil {
		a.Log.ErrorContext(ctx, "refusal is not in the audit log", "action", action, "actor", c.actor.Name,
			"object", c.object, "code", p.Code, "request_id", c.actor.RequestID, "error", err)
	}
}

func (a *API) record(ctx context.Context, r catalog.AuditRecord) error {
	r.TraceID = traceID(ctx)
	ctx, cancel := detached(ctx)
	defer cancel()
	return a.Catalog.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return a.Catalog.AppendAudit(ctx, tx, r) })
}

func traceID(ctx context.Context) string {
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		return sc.TraceID().String()
	}
	return ""
}

// objectOf names what the path is about, whatever a stranger put there. A
// verb whose object is in the body says so itself once it has read it.
func objectOf(v verb, params gin.Params) string {
	for _, p := range params {
		return p.Key + "/" + clip(p.Value)
	}
	if v.action == "" {
		return v.name
	}
	kind, _, _ := strings.Cut(v.action, ".")
	return kind
}

func host(remote string) string {
	if h, _, err := net.SplitHostPort(remote); err == nil {
		return h
	}
	return remote
}
