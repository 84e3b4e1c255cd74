package chaos

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/cli/dev"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/shardmap"
	"github.com/freehold-db/freehold/test/fleet"
)

// TestRebalanceAndDrain has a shard with all tenants, adds two, and carries a
// plan out under traffic: nothing fails. Then one of the new shards is drained,
// and the control plane is killed twice on the way.
func TestRebalanceAndDrain(t *testing.T) {
	n := 12
	if os.Getenv("FREEHOLD_SOAK") != "" {
		n = 100
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	f := fleet.Start(t, dev.Options{Shards: 1, Nodes: 2})
	tenants := createMany(ctx, t, f, n)
	for range 2 {
		_, err := f.AddShard(ctx)
		require.NoError(t, err)
	}
	applyPolicy(ctx, t, f, "{max_moves: 4, max_moves_per_shard: 3}", 3, n)
	driven := tenants[:12]

	tr := drive(t, f, 2, driven...)
	plan, err := f.Admin.MakePlan(ctx, api.MakePlan{}, client.Change{})
	require.NoError(t, err)
	require.InDelta(t, n*2/3, plan.MoveCount, 2)
	began := time.Now()
	op, err := f.Admin.ApplyPlan(ctx, plan.ID, client.Change{})
	require.NoError(t, err)
	f.Wait(t, op.ID, 10*time.Minute)
	t.Logf("%d moves in %s", plan.MoveCount, time.Since(began).Round(time.Second))
	receipt := tr.stop(t)
	require.NoError(t, receipt.Wrong(), "%+v", receipt.Failures)
	for shard, on := range spread(ctx, t, f, tenants) {
		require.InDelta(t, n/3, on, float64(n)/50+1, "tenants on %s", shard)
	}
	plan, err = f.Admin.MakePlan(ctx, api.MakePlan{}, client.Change{})
	require.NoError(t, err)
	require.Zero(t, plan.MoveCount, "carried out and planned again, there is nothing to do")

	tr = drive(t, f, 2, driven...)
	for i, point := range []string{"rebalance/begun", "tenant-move/cutover/end"} {
		require.NoError(t, f.Halt(ctx, controlPlane))
		require.NoError(t, f.Launch(ctx, controlPlane, "FREEHOLD_FAILPOINTS="+point+"=kill"))
		died := f.Ended(controlPlane)
		if i == 0 {
			began = time.Now()
			_, _ = f.Admin.DrainShard(ctx, "s3", client.Change{}) // who is killed by it may not answer
		}
		select {
		case <-died:
		case <-ctx.Done():
			t.Fatalf("the control plane did not come by %s", point)
		}
		require.NoError(t, f.Launch(ctx, controlPlane))
	}
	status, err := f.Admin.RebalanceStatus(ctx)
	require.NoError(t, err)
	require.NotNil(t, status.Run)
	require.Equal(t, []shardmap.ShardID{"s3"}, status.Run.Drain)
	f.Wait(t, status.Run.Operation.ID, 10*time.Minute)
	t.Logf("drained in %s", time.Since(began).Round(time.Second))
	tr.stop(t)
	on := spread(ctx, t, f, tenants)
	require.Zero(t, on["s3"])
	require.InDelta(t, on["s1"], on["s2"], float64(n)/20+1)
	for _, id := range driven {
		servedOnce(t, f, id, "s1", "s2", "s3")
	}
	// What moves and the warm pool left there is dropped in time. The shard is said
	// to be empty once nodes have also let go of their last idle connections to it.
	conn, left := f.Postgres(t, "s3", "postgres"), -1
	require.Eventually(t, func() bool {
		err := conn.QueryRow(ctx, `SELECT count(*) FROM pg_database WHERE datname LIKE 't\_%'`).Scan(&left)
		return err == nil && left == 0
	}, settleFor, 100*time.Millisecond, "databases are left on the drained shard")
	drain, err := f.Admin.ShardDrain(ctx, "s3")
	require.NoError(t, err)
	require.Zero(t, drain.Tenants, "%+v", drain)
	require.Nil(t, drain.Run)
}

// createMany creates tenants on the first shard.
func createMany(ctx context.Context, t *testing.T, f *fleet.Fleet, n int) (tenants []string) {
	t.Helper()
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(4)
	for i := range n {
		id := fmt.Sprintf("tenant-%d", i+1)
		tenants = append(tenants, id)
		all.Go(func() error {
			op, err := f.Admin.CreateTenant(ctx, api.CreateTenant{ID: id, Shard: "s1"}, client.Change{})
			if err != nil {
				return err
			}
			end, err := f.Admin.Watch(ctx, op.ID, func(api.Operation) error { return nil })
			if err == nil && end.State != "done" {
				err = fmt.Errorf("creating %s: %s", id, end.Error)
			}
			return err
		})
	}
	require.NoError(t, all.Wait())
	return tenants
}

// applyPolicy has the fleet balanced by the number of databases, which is what
// there is to balance among tenants that are all small and idle.
func applyPolicy(ctx context.Context, t *testing.T, f *fleet.Fleet, policy string, shardCount, n int) {
	t.Helper()
	file := "policy: " + policy + "\nshards:\n"
	for i := range shardCount {
		file += fmt.Sprintf("  s%d: {bytes: 1000e9, connections: 1000, load: 1000, wal: 1000e6, databases: %d}\n", i+1, n)
	}
	_, err := f.Admin.ApplyPolicy(ctx, api.ApplyPolicy{File: file}, client.Change{})
	require.NoError(t, err)
}

// spread counts the tenants of each shard.
func spread(ctx context.Context, t *testing.T, f *fleet.Fleet, tenants []string) map[string]int {
	t.Helper()
	on := map[string]int{}
	for _, id := range tenants {
		p, err := f.Admin.Placement(ctx, id)
		require.NoError(t, err)
		on[string(p.Shard)]++
	}
	t.Logf("tenants: %v", on)
	return on
}
