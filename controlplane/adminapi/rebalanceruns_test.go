package adminapi_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/shardmap"
)

// everyRunVerb gives each verb of runs and drains its good answer.
func (f *fleet) everyRunVerb() {
	f.t.Helper()
	f.want(200, "PUT", "/v1/rebalance/auto", `{"on":true}`)
	f.want(200, "PUT", "/v1/rebalance/auto", `{"on":false}`)
	f.want(200, "PUT", "/v1/rebalance/policy", `{"file":"policy: {tolerance: 1000%}"}`) // nobody moves
	plan := into[api.RebalancePlan](f.t, f.want(201, "POST", "/v1/rebalance/plans", `{"scenario":""}`))
	run := into[api.Operation](f.t, f.want(202, "POST", "/v1/rebalance/plans/"+plan.ID+"/apply", ""))
	f.runEnded(run.ID)
	f.want(200, "GET", "/v1/rebalance/runs/"+run.ID+"/moves?limit=1", "")
	f.want(200, "POST", "/v1/shards/s3/drain", `{"dry_run":true}`)
	f.want(200, "GET", "/v1/shards/s1/drain", "")
	f.create("stays")
	f.want(202, "POST", "/v1/tenants/stays/move", `{"to":"s2"}`) // which has the run wait
	run = into[api.Operation](f.t, f.want(202, "POST", "/v1/shards/s1/drain", ""))
	f.want(202, "POST", "/v1/rebalance/pause", "")
	require.NotNil(f.t, into[api.RebalanceStatus](f.t, f.want(200, "GET", "/v1/rebalance/status", "")).Paused)
	f.want(202, "POST", "/v1/rebalance/resume", "{}")
	canceled := f.ask(adminapi.RoleAdmin, "POST", "/v1/rebalance/cancel", `{"at_once":true}`)
	require.Contains(f.t, []int{200, 202}, canceled.StatusCode, "%s", canceled.body) // it may have ended by the time of the answer
	f.runEnded(run.ID)
	f.want(200, "POST", "/v1/shards/s1/undrain", "")
}

func (f *fleet) runEnded(id string) (run api.RebalanceRun) {
	f.t.Helper()
	require.Eventually(f.t, func() bool {
		run = into[api.RebalanceRun](f.t, f.want(200, "GET", "/v1/rebalance/runs/"+id, ""))
		return run.Operation.Final()
	}, time.Minute, 20*time.Millisecond)
	return run
}

func TestRunsAndDrains(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for n := range 6 {
		catalogtest.AddTenant(t, f.Store, shardmap.TenantID(fmt.Sprintf("t%d", n)), "s1", n)
	}
	made := into[api.RebalancePlan](t, f.want(201, "POST", "/v1/rebalance/plans", ""))
	run := into[api.Operation](t, f.want(202, "POST", "/v1/rebalance/plans/"+made.ID+"/apply", ""))
	require.Equal(t, "run_under_way", f.want(409, "POST", "/v1/rebalance/plans/"+made.ID+"/apply", "").problem(t).Code)
	require.Eventually(t, func() bool {
		st := into[api.RebalanceStatus](t, f.want(200, "GET", "/v1/rebalance/status", ""))
		return len(st.Run.Running) == 1 && st.Run.Left == 2 && st.Run.Running[0].Progress != nil
	}, time.Minute, 20*time.Millisecond)
	close(f.Domain.Gate)
	ended := f.runEnded(run.ID)
	require.Equal(t, "done", ended.Operation.State)
	require.Equal(t, 3, ended.Moved)
	page := into[api.Page[api.RebalanceMove]](t, f.want(200, "GET", "/v1/rebalance/runs/"+run.ID+"/moves?limit=2", ""))
	require.Len(t, page.Items, 2)
	page = into[api.Page[api.RebalanceMove]](t, f.want(200, "GET", "/v1/rebalance/runs/"+run.ID+"/moves?cursor="+page.NextCursor, ""))
	require.Len(t, page.Items, 1)
	require.Equal(t, "moved", page.Items[0].State)
	require.Equal(t, "plan_stale", f.want(409, "POST", "/v1/rebalance/plans/"+made.ID+"/apply", "").problem(t).Code)
	for _, verb := range []string{"pause", "resume", "cancel"} {
		require.Equal(t, "no_run", f.want(409, "POST", "/v1/rebalance/"+verb, "").problem(t).Code)
	}
	require.Equal(t, 404, f.ask(adminapi.RoleViewer, "GET", "/v1/rebalance/runs/"+page.Items[0].Operation, "").StatusCode, "a move is no run")

	// Without room a drain is refused, and nothing is changed.
	f.want(200, "PUT", "/v1/shards/s2/capacity", `{"databases":5}`)
	f.unchanged(func() {
		p := f.want(409, "POST", "/v1/shards/s1/drain", "").problem(t)
		require.Equal(t, "infeasible", p.Code)
		require.Contains(t, p.Detail, "shard s1 can't be drained")
		require.Contains(t, p.Detail, "s2 has no room")
	})
	f.want(200, "PUT", "/v1/shards/s2/capacity", `{}`)
	run = into[api.Operation](t, f.want(202, "POST", "/v1/shards/s1/drain", ""))
	require.Equal(t, "done", f.runEnded(run.ID).Operation.State)
	d := into[api.ShardDrain](t, f.want(200, "GET", "/v1/shards/s1/drain", ""))
	require.Equal(t, "draining", d.State)
	require.Equal(t, "active", d.Was)
	require.Zero(t, d.Tenants)
	require.Equal(t, "active", into[api.Shard](t, f.want(200, "POST", "/v1/shards/s1/undrain", "")).State)
	require.Equal(t, "conflicting_state", f.want(409, "POST", "/v1/shards/s1/undrain", "").problem(t).Code)
	require.Equal(t, 404, f.ask(adminapi.RoleOperator, "POST", "/v1/shards/s9/drain", "").StatusCode)
	audited := f.audited()
	for _, want := range []string{"rebalance.apply plan/" + made.ID + " ok", "shard.drain shard/s1 refused", "shard.drain shard/s1 ok", "shard.undrain shard/s1 ok", "rebalance.pause rebalance refused"} {
		require.Contains(t, audited, want)
	}
}
