package adminapi_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/shardmap"
)

// everyRebalanceVerb gives each of them its good answer.
func (f *fleet) everyRebalanceVerb() {
	f.t.Helper()
	f.create("placed")
	require.Contains(f.t, string(f.want(200, "PUT", "/v1/tenants/placed/needs", `{"apart":"banks","require":{}}`).body), "tenants.placed.apart")
	require.Equal(f.t, "banks", into[api.TenantNeeds](f.t, f.want(200, "GET", "/v1/tenants/placed/needs", "")).Apart)
	require.Contains(f.t, string(f.want(200, "PUT", "/v1/shards/s1/capacity", `{"databases":1000}`).body), "shards.s1.databases")
	require.EqualValues(f.t, 1000, into[api.ShardCapacity](f.t, f.want(200, "GET", "/v1/shards/s1/capacity", "")).Databases)
	f.want(200, "PUT", "/v1/rebalance/policy", `{"file":"policy: {headroom: 10%}"}`)
	require.Contains(f.t, into[api.PlacementPolicy](f.t, f.want(200, "GET", "/v1/rebalance/policy", "")).File, "headroom: 10%")
	f.want(200, "GET", "/v1/tenants/placed/placement", "")
	plan := into[api.RebalancePlan](f.t, f.want(201, "POST", "/v1/rebalance/plans", `{"scenario":"add-shard=1"}`))
	f.want(200, "GET", "/v1/rebalance/plans?limit=1", "")
	f.want(200, "GET", "/v1/rebalance/plans/"+plan.ID, "")
	f.want(200, "POST", "/v1/rebalance/simulate", `{"event":"more-shards","rivals":true}`)
}

func (f *fleet) apply(file string, headers ...header) reply {
	f.t.Helper()
	body, err := json.Marshal(api.ApplyPolicy{File: file})
	require.NoError(f.t, err)
	return f.ask(adminapi.RoleOperator, "PUT", "/v1/rebalance/policy", string(body), headers...)
}

func TestPolicyIsDeclaredPieceByPiece(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for n, id := range []shardmap.TenantID{"acme", "beta", "gamma"} {
		catalogtest.AddTenant(t, f.Store, id, "s1", n)
	}
	require.Contains(t, into[api.PlacementPolicy](t, f.want(200, "GET", "/v1/rebalance/policy", "")).File, "headroom: 20%", "the default")
	first := into[api.AppliedPolicy](t, f.apply("policy: {headroom: 30%}\nshards: {s1: {bytes: 1TB}}\ntenants: {acme: {apart: banks}, beta: {pinned: true}}"))
	require.Equal(t, []api.PolicyChange{
		{Path: "policy.headroom", Before: "20%", After: "30%"}, {Path: "shards.s1.bytes", After: "1TB"},
		{Path: "tenants.acme.apart", After: "banks"}, {Path: "tenants.beta.pinned", After: "true"},
	}, first.Changes)

	// What a file does not name stays as it is; what it empties is gone.
	second := into[api.AppliedPolicy](t, f.apply("shards: {s2: {load: 8}}\ntenants: {beta: {}}", header{"X-Freehold-Reason": "the lease is over"}))
	require.Equal(t, first.Version+1, second.Version)
	now := into[api.PlacementPolicy](t, f.want(200, "GET", "/v1/rebalance/policy", ""))
	require.Equal(t, "the lease is over", now.Reason)
	require.Equal(t, "the-operator", now.ChangedBy)
	for _, stays := range []string{"headroom: 30%", "bytes: 1TB", "load: 8", "apart: banks"} {
		require.Contains(t, now.File, stays)
	}
	require.NotContains(t, now.File, "pinned")

	// The whole file again changes nothing, and makes no version.
	third := into[api.AppliedPolicy](t, f.apply(now.File))
	require.Empty(t, third.Changes)
	require.Equal(t, second.Version, third.Version)
	require.Equal(t, []string{"rebalance.policy policy/2 ok", "rebalance.policy policy/3 ok"}, f.audited())
}

func TestImpossiblePoliciesAreRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for n := range 8 {
		catalogtest.AddTenant(t, f.Store, shardmap.TenantID(fmt.Sprintf("t%d", n)), "s1", n)
	}
	f.want(200, "PUT", "/v1/rebalance/policy", `{"file":"shards: {s1: {databases: 10}, s2: {databases: 10}}"}`)
	before := f.want(200, "GET", "/v1/rebalance/policy", "")
	for name, c := range map[string]struct {
		file, code, says string
		status           int
	}{
		"typo":             {"policy: {hedroom: 1%}", "invalid_policy", "field hedroom not found", 400},
		"no number":        {"shards: {s1: {bytes: many}}", "invalid_policy", "line 1", 400},
		"no headroom":      {"policy: {headroom: 100%}", "invalid_policy", "headroom 1", 400},
		"unprintable":      {`tenants: {t1: {region: "\e"}}`, "invalid_policy", "not printable", 400},
		"unknown shard":    {"shards: {s9: {bytes: 1TB}}", "policy_names_unknown", "no shard s9", 422},
		"unknown tenant":   {"tenants: {nobody: {pinned: true}}", "policy_names_unknown", "no tenant nobody", 422},
		"too much is free": {"policy: {headroom: 70%}", "policy_impossible", "the tenants use 1.33 × the databases that their shards may hold with 70% of it free", 422},
		"too small":        {"shards: {s1: {databases: 1}, s2: {databases: 2}}", "policy_impossible", "databases", 422},
		"nobody's region":  {"tenants: {t1: {region: mars}}", "policy_impossible", "t1: region: the tenant has to be in region mars", 422},
		"three apart":      {"tenants: {t1: {apart: x}, t2: {apart: x}, t3: {apart: x}}", "policy_impossible", "apart", 422},
		"alone, but stuck": {"tenants: {t1: {exclusive: true, pinned: true}, t2: {pinned: true}}", "policy_impossible", "pinned", 422},
	} {
		f.unchanged(func() {
			p := f.apply(c.file)
			require.Equal(t, c.code, p.problem(t).Code, "%s: %s", name, p.body)
			require.Equal(t, c.status, p.StatusCode, name)
			require.Contains(t, p.problem(t).Detail, c.says, name)
		})
	}
	// A dry run says the same, and is no error.
	dry := into[api.AppliedPolicy](t, f.ask(adminapi.RoleOperator, "PUT", "/v1/rebalance/policy", `{"dry_run":true,"file":"policy: {headroom: 70%}"}`))
	require.False(t, dry.Feasible)
	require.Len(t, dry.Changes, 1)
	require.Contains(t, dry.Refusal, "70%")
	require.Equal(t, before.body, f.want(200, "GET", "/v1/rebalance/policy", "").body)

	// Two editors: the second is told.
	etag := before.Header.Get("ETag")
	require.Equal(t, 200, f.apply("policy: {headroom: 10%}", header{"If-Match": etag}).StatusCode)
	require.Equal(t, "changed_meanwhile", f.apply("policy: {headroom: 15%}", header{"If-Match": etag}).problem(t).Code)
	require.Equal(t, "changed_meanwhile", f.ask(adminapi.RoleOperator, "PUT", "/v1/tenants/t1/needs", `{"pinned":true}`, header{"If-Match": etag}).problem(t).Code)
	require.Contains(t, f.audited(), "rebalance.policy rebalance refused")

	// What stood against it before is no reason to refuse what does not make it worse.
	require.NoError(t, f.drain("s1"))
	require.NoError(t, f.drain("s2"))
	require.Equal(t, 200, f.apply("tenants: {t1: {apart: x}}").StatusCode)
}

func TestPlansForTheFleet(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for n := range 12 {
		catalogtest.AddTenant(t, f.Store, shardmap.TenantID(fmt.Sprintf("t%02d", n)), "s1", n)
	}
	f.measured(1e9, 0.25)
	made := into[api.RebalancePlan](t, f.want(201, "POST", "/v1/rebalance/plans", ""))
	require.Equal(t, 6, made.MoveCount)
	require.InDelta(t, 6e9, made.Bytes, 1)
	whole := into[api.WholePlan](t, f.want(200, "GET", "/v1/rebalance/plans/"+made.ID, ""))
	require.Equal(t, made, whole.RebalancePlan)
	require.Len(t, whole.Moves, 6)
	require.Contains(t, whole.Moves[0].Detail, "s1 carries 2.00 × its even share of bytes")
	require.Equal(t, 12, whole.Shards[0].Before.Tenants)
	require.InDelta(t, 3, whole.Shards[0].Before.Load.Load, 0.01)
	require.Equal(t, 6, whole.Shards[1].After.Tenants)
	require.InDelta(t, 2, whole.WorstBefore, 0.01)
	require.InDelta(t, 1, whole.WorstAfter, 0.01)

	drain := into[api.RebalancePlan](t, f.want(201, "POST", "/v1/rebalance/plans", `{"scenario":"drain=s1"}`))
	require.Equal(t, 12, drain.MoveCount)
	require.Equal(t, made.Digest, drain.Digest, "both are for the fleet as it is")
	list := into[api.Page[api.RebalancePlan]](t, f.want(200, "GET", "/v1/rebalance/plans?limit=1", ""))
	require.Equal(t, []api.RebalancePlan{drain}, list.Items)
	list = into[api.Page[api.RebalancePlan]](t, f.want(200, "GET", "/v1/rebalance/plans?cursor="+list.NextCursor, ""))
	require.Equal(t, []api.RebalancePlan{made}, list.Items)

	// A shard that has no room keeps its promise of headroom: the drain is refused, or planned in part.
	f.want(200, "PUT", "/v1/shards/s2/capacity", `{"databases":10}`)
	p := f.want(409, "POST", "/v1/rebalance/plans", `{"scenario":"drain=s1"}`).problem(t)
	require.Equal(t, "infeasible", p.Code)
	require.Contains(t, p.Detail, "capacity: s2 has no room: databases would be 9 of at most 8")
	partial := into[api.RebalancePlan](t, f.want(201, "POST", "/v1/rebalance/plans", `{"scenario":"drain=s1","partial":true}`))
	whole = into[api.WholePlan](t, f.want(200, "GET", "/v1/rebalance/plans/"+partial.ID, ""))
	require.Len(t, whole.Refused, 4)
	require.Equal(t, "invalid_body", f.want(400, "POST", "/v1/rebalance/plans", `{"scenario":"drain=s9"}`).problem(t).Code)
	require.Equal(t, "invalid_body", f.want(400, "POST", "/v1/rebalance/plans", `{"scenario":"explode"}`).problem(t).Code)
	require.Equal(t, "not_found", f.want(404, "GET", "/v1/rebalance/plans/nonsense", "").problem(t).Code)

	// What if, on the loads that were recorded; nothing is kept.
	f.unchanged(func() {
		sim := into[api.PlannedOutcome](t, f.want(200, "POST", "/v1/rebalance/simulate", `{"scenario":"add-shard=2","rivals":true}`))
		require.Len(t, sim.Shards, 4)
		require.Equal(t, "freehold", sim.Rivals[0].Name)
		sim = into[api.PlannedOutcome](t, f.want(200, "POST", "/v1/rebalance/simulate", `{"file":"tenants: {t00: {apart: x}, t01: {apart: x}}"}`))
		require.Contains(t, sim.Moves[0].Detail, "s1 has another tenant of the group x", "it is supposed to have been applied")
		require.Equal(t, "invalid_policy", f.want(400, "POST", "/v1/rebalance/simulate", `{"file":"policy: {hedroom: 1}"}`).problem(t).Code)
		require.Equal(t, "policy_names_unknown", f.want(422, "POST", "/v1/rebalance/simulate", `{"file":"shards: {s9: {load: 1}}"}`).problem(t).Code)
		require.Equal(t, "invalid_body", f.want(400, "POST", "/v1/rebalance/simulate", `{"event":"flood"}`).problem(t).Code)
	})
	require.Len(t, into[api.Page[api.RebalancePlan]](t, f.want(200, "GET", "/v1/rebalance/plans", "")).Items, 3)
}

func TestTenantsAreExplained(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	catalogtest.AddShard(t, f.Store, "s3")
	for n := range 6 {
		catalogtest.AddTenant(t, f.Store, shardmap.TenantID(fmt.Sprintf("t%d", n)), "s1", n)
	}
	catalogtest.AddTenant(t, f.Store, "rival", "s2", 7)
	f.want(200, "PUT", "/v1/tenants/t1/needs", `{"apart":"banks"}`)
	f.want(200, "PUT", "/v1/tenants/rival/needs", `{"apart":"banks"}`)
	e := into[api.TenantPlacement](t, f.want(200, "GET", "/v1/tenants/t1/placement", ""))
	require.EqualValues(t, "s1", e.Shard)
	require.Equal(t, "banks", e.Needs.Apart)
	require.Contains(t, e.Here[0], "s1 carries 2.57 × its even share of bytes, which is too much")
	require.EqualValues(t, "s3", e.Elsewhere[0].Shard)
	require.Empty(t, e.Elsewhere[0].Constraint)
	require.Equal(t, api.ShardOption{Shard: "s2", Constraint: "apart", Detail: "s2 has a tenant of the group banks already"}, e.Elsewhere[1])
	require.Equal(t, "not_found", f.want(404, "GET", "/v1/tenants/nobody/placement", "").problem(t).Code)
	require.Equal(t, 200, f.ask(adminapi.RoleAdmin, "DELETE", "/v1/tenants/t1", "").StatusCode)
	require.Equal(t, "conflicting_state", f.want(409, "GET", "/v1/tenants/t1/placement", "").problem(t).Code)
	require.Equal(t, "conflicting_state", f.want(409, "PUT", "/v1/tenants/t1/needs", `{}`).problem(t).Code)
}

func (f *fleet) drain(id shardmap.ShardID) error {
	_, err := f.Store.Pool().Exec(testContext(f.t), `update shards set state = 'draining' where id = $1`, id)
	return err
}

// measured has every tenant use so much.
func (f *fleet) measured(bytes, load float64) {
	f.t.Helper()
	_, err := f.Store.Pool().Exec(testContext(f.t), `insert into tenant_usage (tenant, shard, bytes, load)
		select tenant, shard, $1::float8::bigint, $2 from placements`, bytes, load)
	require.NoError(f.t, err)
}

func TestNeedsOfANewTenant(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	create := func(status int, body string) reply { return f.want(status, "POST", "/v1/tenants", body) }
	_, err := f.Store.Pool().Exec(testContext(t), `update shards set region = 'eu' where id = 's2'`)
	require.NoError(t, err)
	create(200, `{"id":"a1","region":"eu","needs":{"apart":"a","pinned":true}}`)
	require.EqualValues(t, "s2", into[api.Tenant](t, f.want(200, "GET", "/v1/tenants/a1", "")).Shard)
	require.Equal(t, api.Needs{Region: "eu", Apart: "a", Pinned: true}, into[api.TenantNeeds](t, f.want(200, "GET", "/v1/tenants/a1/needs", "")).Needs, "also when it is moved")
	create(200, `{"id":"a2","needs":{"apart":"a"}}`)
	require.EqualValues(t, "s1", into[api.Tenant](t, f.want(200, "GET", "/v1/tenants/a2", "")).Shard)
	f.unchanged(func() {
		p := create(409, `{"id":"a3","needs":{"apart":"a"}}`).problem(t)
		require.Equal(t, "no_room", p.Code)
		require.Contains(t, p.Detail, "has a tenant of the group a already")
		require.Equal(t, "no_room", create(409, `{"id":"a3","shard":"s1","needs":{"exclusive":true}}`).problem(t).Code)
		require.Equal(t, "invalid_body", create(400, `{"id":"a3","region":"us","needs":{"region":"eu"}}`).problem(t).Code)
		require.Equal(t, "invalid_body", create(400, `{"id":"a3","needs":{"require":{"disk":"nvme"},"forbid":{"disk":"nvme"}}}`).problem(t).Code)
	})
}
