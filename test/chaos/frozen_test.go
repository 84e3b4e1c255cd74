package chaos

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/cli/dev"
	"github.com/freehold-db/freehold/test/fleet"
)

// freezeWorker freezes the replica that works on a move for longer than its
// lease, has another one finish the move, and thaws it: what it was about to do
// next, it must not do.
func freezeWorker(t *testing.T, f *fleet.Fleet) {
	points := []string{"tenant-move/copy/begin", "move/cutover/hold", "move/cutover/after-flip"}
	if os.Getenv("FREEHOLD_SOAK") != "" {
		points = append(points, "tenant-move/target/begin", "move/cutover/paused", "move/cutover/fenced", "move/cutover/before-flip", "move/cutover/unfenced")
	}
	for _, point := range points {
		if !t.Run(point, func(t *testing.T) { freezeAt(t, f, point) }) {
			return
		}
	}
}

func freezeAt(t *testing.T, f *fleet.Fleet, point string) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	before, err := f.Admin.Placement(ctx, "acme")
	require.NoError(t, err)
	to := map[string]string{"s1": "s2", "s2": "s1"}[string(before.Shard)]
	require.NoError(t, f.Halt(ctx, controlPlane))
	require.NoError(t, f.Launch(ctx, controlPlane, "FREEHOLD_FAILPOINTS="+point+"=stop"))
	info, err := dev.Read(f.Dir())
	require.NoError(t, err)
	frozen := info.PIDs[controlPlane]
	op := f.Move(t, "acme", to)
	thaw := func() { _ = syscall.Kill(frozen, syscall.SIGCONT) }
	t.Cleanup(thaw)
	require.Eventually(t, func() bool { return stopped(frozen) }, time.Minute, 10*time.Millisecond, "%s was not reached", point)

	url, _ := startReplica(t, f, "controlplane-2")
	admin, err := client.New(url, f.Info.AdminToken)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		now, err := admin.Operation(ctx, op.ID)
		return err == nil && now.State == "done"
	}, settleFor, 20*time.Millisecond, "nobody took the move over")
	thaw()
	require.Eventually(t, func() bool { // it has noticed when it serves again
		_, err := f.Admin.Placement(ctx, "acme")
		return err == nil
	}, time.Minute, 20*time.Millisecond)
	time.Sleep(time.Second) // what must not happen has no event to wait for
	require.Equal(t, to, servedOnce(t, f, "acme", "s1", "s2"))
}

// stopped tells whether the process is stopped by a signal.
func stopped(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, ok := bytes.Cut(stat, []byte(") "))
	return err == nil && ok && after[0] == 'T'
}
