package adminapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/freehold-db/freehold/controlplane/access"
	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/authority"
	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/breakglass"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/copies"
	"github.com/freehold-db/freehold/controlplane/identity"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/controlplane/rebalance"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/problem"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// translation is one row of the table that turns the domain's errors into
// answers. The texts of these errors are written for people and name the
// object; every other error's text stays in the log.
type translation struct {
	err    error
	status int
	code   string
	hint   string
}

var translations = []translation{
	{shardmap.ErrInvalidID, http.StatusBadRequest, "invalid_id", "IDs are lower-case: a letter, then letters, digits and '-'"},
	{provision.ErrInvalid, http.StatusBadRequest, "invalid_request", "change what the detail names and send it again"},
	{access.ErrInvalid, http.StatusBadRequest, "invalid_request", "change what the detail names and send it again"},
	{identity.ErrInvalid, http.StatusBadRequest, "invalid_request", "change what the detail names and send it again"},
	{identity.ErrBeyond, http.StatusForbidden, "beyond_own_rights", "ask for less, or have somebody with these rights do it; tenant-ops whoami shows yours"},
	{breakglass.ErrInvalid, http.StatusBadRequest, "invalid_request", "change what the detail names and send it again"},
	{breakglass.ErrNoReason, http.StatusBadRequest, "reason_required", "say why (--reason, or the header X-Freehold-Reason); it goes into the audit log"},
	{breakglass.ErrApproval, http.StatusForbidden, "approval_required", "ask with tenant-ops tenant break-glass, and have another admin approve it (tenant-ops break-glass approve)"},
	{breakglass.ErrOwnRequest, http.StatusForbidden, "own_request", "another person has to approve it"},
	{breakglass.ErrNotYours, http.StatusForbidden, "not_yours", "who asked for it opens it; ask for access of your own"},
	{breakglass.ErrShard, http.StatusServiceUnavailable, "shard_unavailable", "see whether the shard's Postgres answers, then ask again; no login was handed out"},
	{authority.ErrUnsettled, http.StatusServiceUnavailable, "issuer_unavailable", "try again in a moment; the keys of the token's issuer cannot be fetched"},
	{access.ErrChanged, http.StatusPreconditionFailed, "changed_meanwhile", "read it again, and ask for the change of the version it has now"},
	{access.ErrInUse, http.StatusConflict, "in_use", "take it away first from those that the detail names"},
	{access.ErrExists, http.StatusConflict, "already_exists", "choose another name, or go on with the one that is there"},
	{access.ErrShard, http.StatusServiceUnavailable, "shard_unavailable", "see whether the shard's Postgres answers, then try again; nothing was changed"},
	{rebalance.ErrChanged, http.StatusPreconditionFailed, "changed_meanwhile", "read it again (tenant-ops rebalance policy show), and ask for the change of the version it has now"},
	{rebalance.ErrUnknown, http.StatusUnprocessableEntity, "policy_names_unknown", "check the spelling (tenant-ops shard list, tenant list); nothing was changed"},
	{rebalance.ErrImpossible, http.StatusUnprocessableEntity, "policy_impossible", "change what the detail names, or add shards that can keep it; nothing was changed"},
	{balance.ErrInfeasible, http.StatusConflict, "infeasible", "change what stands against it (needs, capacities, shards), or ask for a partial plan; nothing was changed"},
	{balance.ErrInvalid, http.StatusBadRequest, "invalid_policy", "change what the detail names and send it again"},
	{catalog.ErrNotFound, http.StatusNotFound, "not_found", "list what there is (tenant-ops tenant list, shard list, op list, plan list) and check the spelling"},
	{catalog.ErrExists, http.StatusConflict, "already_exists", "choose another ID; IDs are never used twice, not even after a delete"},
	{catalog.ErrBusy, http.StatusConflict, "operation_under_way", "wait for the tenant's unfinished operation or cancel it (tenant-ops op list --unfinished), then try again"},
	{catalog.ErrKeyReused, http.StatusUnprocessableEntity, "idempotency_key_reused", "use a new Idempotency-Key for a different request"},
	{catalog.ErrNoRoom, http.StatusConflict, "no_room", "add or uncordon a shard, raise its max_databases, or name another shard"},
	{move.ErrSoaking, http.StatusConflict, "soaking", "end the soak that the detail names (tenant-ops tenant move complete OP), or take the tenant back by it (tenant-ops tenant move reverse OP)"},
	{move.ErrNoSoak, http.StatusConflict, "no_soak", "tenant-ops tenant move soaks shows what can be taken back; move the tenant with tenant-ops tenant move"},
	{move.ErrNotWaiting, http.StatusConflict, "not_waiting", "watch it (tenant-ops op watch); a move waits when it is started with --cutover manual or a time"},
	{rebalance.ErrRunning, http.StatusConflict, "run_under_way", "wait for it or cancel it (tenant-ops rebalance status, rebalance cancel), then ask again; nothing was changed"},
	{rebalance.ErrNoRun, http.StatusConflict, "no_run", "tenant-ops rebalance plan and rebalance apply begin one, or tenant-ops shard drain"},
	{rebalance.ErrStale, http.StatusConflict, "plan_stale", "plan again (tenant-ops rebalance plan), and read what changed; nothing was changed. What a scenario supposes is done first: shard add, shard drain"},
	{catalog.ErrErased, http.StatusConflict, "tenant_erased", "its key is destroyed, and nothing brings it or a copy of it back; tenant-ops tenant erasure shows the certificate"},
	{copies.ErrInvalid, http.StatusBadRequest, "invalid_request", "change what the detail names and send it again"},
	{copies.ErrDamaged, http.StatusUnprocessableEntity, "copy_damaged", "compare the file's SHA-256 with tenant-ops tenant copies, and get it anew; nothing was made"},
	{copies.ErrForeign, http.StatusUnprocessableEntity, "copy_foreign", "only the fleet that made a copy has the key to it; nothing was made"},
	{copies.ErrNoShelf, http.StatusConflict, "no_copies_dir", "set copies_dir on every replica of the control plane, to a directory that all of them reach"},
	{catalog.ErrConflict, http.StatusConflict, "conflicting_state", "look at the object's state (tenant-ops tenant show, shard show) and bring it into the one needed"},
	{operation.ErrPastNoReturn, http.StatusConflict, "past_no_return", "its effect is committed; let it finish, then undo it with a new operation (a move back, a restore)"},
	{operation.ErrFinal, http.StatusConflict, "operation_ended", "there is nothing left to cancel; tenant-ops op show tells how it ended"},
	{shard.ErrUnfit, http.StatusUnprocessableEntity, "shard_unfit", "change the server as the detail says and add it again"},
	{shard.ErrSchemaChanged, http.StatusConflict, "schema_changed", "keep the files that tenants were made of, and add new ones"},
	{secret.ErrUnavailable, http.StatusServiceUnavailable, "secrets_unavailable", "see whether the secret store answers (is Vault sealed?), then try again; with the same Idempotency-Key nothing is done twice"},
	{audit.ErrBacklog, http.StatusServiceUnavailable, "audit_backlog", "have the audit database answer again (readyz and doctor security say what is wrong); what takes rights away goes on meanwhile"},
	{catalog.ErrUnavailable, http.StatusServiceUnavailable, "catalog_unavailable", "try again in a moment; with the same Idempotency-Key nothing is done twice"},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, "timeout", "try again; with the same Idempotency-Key nothing is done twice"},
	{context.Canceled, 499, "caller_left", "the caller left before the answer was there"},
}

// translate makes a problem of any error: a problem is itself, one that the
// table knows is said, and all others are opaque.
func translate(err error) *problem.Problem {
	var p *problem.Problem
	if errors.As(err, &p) {
		return p
	}
	for _, t := range translations {
		if errors.Is(err, t.err) {
			detail := err.Error()
			if t.status >= http.StatusInternalServerError {
				detail = t.err.Error() // what is behind an outage is the log's
			}
			return problem.New(t.status, t.code, detail, t.hint)
		}
	}
	return problem.Internal()
}
