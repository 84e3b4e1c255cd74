package worldtest

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pgtest"
)

// workerEnv, with what a replica needs, makes the test binary a worker that can be killed.
const workerEnv = "FREEHOLD_WORLDTEST_WORKER"

// KilledAt starts a worker armed to kill itself at a failpoint, and waits until it has.
func (w *World) KilledAt(point string) {
	w.T.Helper()
	pgtest.KilledAt(w.T, point, workerEnv+"="+w.Dir+"\n"+shardtest.WorkerEnv(w.dsn, w.keys, w.server(w.T, "a")))
}

// Main is the TestMain of packages that use this one. complete is that of
// [New], for workers that are killed.
func Main(m *testing.M, complete func(Base) error) {
	if env := os.Getenv(workerEnv); env != "" {
		fmt.Fprintln(os.Stderr, work(env, complete))
		os.Exit(1)
	}
	pgtest.Main(m)
}

func work(env string, complete func(Base) error) error {
	dir, rest, _ := strings.Cut(env, "\n")
	store, secrets, channel, err := shardtest.OpenWorker(rest)
	if err != nil {
		return err
	}
	b := newBase(store, secrets, channel, dir)
	if err := complete(b); err != nil {
		return err
	}
	return b.Engine.Run(context.Background())
}
