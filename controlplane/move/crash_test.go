package move

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

// workerEnv, with a catalog's DSN, a directory of secrets and how shards are
// reached, makes the test binary a worker that can be killed.
const workerEnv = "FREEHOLD_MOVE_TEST_WORKER"

func TestMain(m *testing.M) {
	if env := os.Getenv(workerEnv); env != "" {
		fmt.Fprintln(os.Stderr, work(env))
		os.Exit(1)
	}
	// Clients that wait for a cutover are not to give up before one that a busy
	// machine has take its whole budget is taken back.
	pgtest.BouncerSettings = map[string]string{"query_wait_timeout": "50"}
	pgtest.Main(m)
}

func work(env string) error {
	store, secrets, channel, err := shardtest.OpenWorker(env)
	if err != nil {
		return err
	}
	engine, _ := newReplica(&testing.T{}, store, shard.New(store, secrets, channel))
	return engine.Run(context.Background())
}

// killedAt starts a worker armed to kill itself at a failpoint, and waits until it has.
func (w *world) killedAt(point string) {
	w.t.Helper()
	pgtest.KilledAt(w.t, point, workerEnv+"="+shardtest.WorkerEnv(w.dsn, w.keys, w.server(w.t, "a")))
}

// Wherever a worker is killed, the next one ends the move, the tenant is
// served at one place, and no acknowledged write is lost or doubled.
func TestWorkerKilledAnywhere(t *testing.T) {
	step := func(s string) string { return Kind + "/" + s }
	cut := func(s string) string { return "move/cutover/" + s }
	walks := [][]string{
		{cut("fenced"), step("cutover/committed"), cut("released"), step("copy/end")},
		{cut("paused"), cut("before-flip"), cut("unfenced"), step("clean/end")},
	}
	if os.Getenv("FREEHOLD_SOAK") != "" {
		for i, s := range append(append([]string{}, beforeFlip...), "after-flip", "unfenced", "released", "routed") {
			walks[i%2] = append(walks[i%2], cut(s))
		}
		for _, s := range []string{"preflight", "target", "copy", "stream", "catch-up", "cutover", "open", "verify", "clean"} {
			for i, at := range []string{"begin", "end"} {
				walks[i] = append(walks[i], step(s+"/"+at))
			}
		}
	}
	for i, points := range walks {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "a", "b")
			w.stop()
			db, login := w.tenant("mortal", "a")
			w.asOwner("a", db, trafficSchema+"CREATE TABLE by_index (code text NOT NULL UNIQUE); INSERT INTO by_index SELECT i FROM generate_series(1, 100) i")
			tr := w.startTraffic(db, login, 10*time.Millisecond, true, "a", "a")
			at, other := shardmap.ShardID("a"), shardmap.ShardID("b")
			for _, point := range points {
				op := w.move("mortal", other)
				w.killedAt(point)
				started := time.Now()
				w.replica()
				op, rec := w.ended(op)
				w.stop()
				require.Equal(t, operation.Done, op.State, "%s: %s", point, op.Error)
				require.Equal(t, other, w.requireServedOnce("mortal", "a", "b"), point)
				require.Equal(t, Equal, rec.Verification.Copy, point)
				require.Contains(t, []string{Equal, NotVerified}, rec.Verification.Final, point)
				t.Logf("killed at %s: finished %v later, final comparison: %s", point, time.Since(started).Round(time.Millisecond), rec.Verification.Final)
				at, other = other, at
			}
			writes := tr.writes.Load()
			require.Eventually(t, func() bool { return tr.writes.Load() > writes+20 }, time.Minute, 10*time.Millisecond, "clients don't get on again: %v", tr.errs)
			tr.requireBalanced(w, at)
			t.Logf("%d writes acknowledged, %d of unknown outcome, longest gap %v, errors %d", len(tr.acked), len(tr.unknown), tr.gap, len(tr.errs))
		})
	}
}
