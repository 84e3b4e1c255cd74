package chaos

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/cli/dev"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/test/fleet"
)

const controlPlane = "controlplane"

// The points within the cutover and the opening of the target, beside those
// that the engine hits around every step.
var (
	inCutover          = []string{"move/cutover/hold", "move/cutover/fenced", "move/cutover/barrier", "move/cutover/after-flip", "move/cutover/routed"}
	elsewhereInCutover = []string{"move/cutover/paused", "move/cutover/before-flip", "move/cutover/unfenced", "move/cutover/released"}
)

// TestKilledDuringMoves kills the parts of a fleet, one after the other, while a
// tenant moves under traffic.
func TestKilledDuringMoves(t *testing.T) {
	f := fleet.Start(t, dev.Options{Shards: 2, Nodes: 2})
	f.Create(t, "acme", "s1")
	f.Create(t, "bystander", "s1")
	tr := drive(t, f, 30, "acme", "bystander")
	for _, of := range []struct {
		what string
		kill func(*testing.T, *fleet.Fleet)
	}{{"control plane", killControlPlane}, {"others", killOthers}, {"frozen worker", freezeWorker}} {
		if !t.Run(of.what, func(t *testing.T) { of.kill(t, f) }) {
			break // the fleet may be anywhere; what else is tried would only hide why
		}
	}
	tr.stop(t)
}

// killControlPlane kills the control plane at the end of every step of a move,
// when its work is done and nothing of it recorded, and within its cutover. With
// FREEHOLD_SOAK it does so at the beginning of every step, too, and at those
// points of the cutover at which controlplane/move's TestWorkerKilledAnywhere
// kills a worker.
func killControlPlane(t *testing.T, f *fleet.Fleet) {
	plan, err := f.Admin.PlanMove(t.Context(), "acme", api.MoveTenant{To: "s2"})
	require.NoError(t, err)
	require.True(t, plan.Feasible, plan.Refusal)
	soak := os.Getenv("FREEHOLD_SOAK") != ""
	var points []string
	for _, s := range plan.Steps {
		if soak {
			points = append(points, "tenant-move/"+s.Step+"/begin")
		}
		points = append(points, "tenant-move/"+s.Step+"/end")
	}
	require.GreaterOrEqual(t, len(points), 10)
	points = append(points, inCutover...)
	if soak {
		points = append(points, elsewhereInCutover...)
	}

	for _, point := range points {
		if !t.Run(point, func(t *testing.T) { killAt(t, f, point) }) {
			return
		}
	}
}

func killAt(t *testing.T, f *fleet.Fleet, point string) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	before, err := f.Admin.Placement(ctx, "acme")
	require.NoError(t, err)
	to := map[string]string{"s1": "s2", "s2": "s1"}[string(before.Shard)]

	require.NoError(t, f.Halt(ctx, controlPlane))
	require.NoError(t, f.Launch(ctx, controlPlane, "FREEHOLD_FAILPOINTS="+point+"=kill"))
	died := f.Ended(controlPlane)
	op := f.Move(t, "acme", to)
	select {
	case <-died:
	case <-ctx.Done():
		now, err := f.Admin.Tenant(t.Context(), "acme")
		t.Fatalf("the control plane did not come by %s (tenant now %+v, %v)", point, now, err)
	}
	require.NoError(t, f.Launch(ctx, controlPlane))
	back := time.Now()
	end := f.Finish(t, op.ID, settleFor)
	t.Logf("%s: %s after %s", point, end.State, time.Since(back).Round(100*time.Millisecond))

	at := servedOnce(t, f, "acme", "s1", "s2")
	if end.State == "done" {
		require.Equal(t, to, at)
	} else {
		require.Equal(t, string(before.Shard), at, "an operation that failed must have been undone: %s", end.Error)
		require.False(t, end.PastNoReturn, "after the point of no return it only goes forward: %s", end.Error)
	}
}
