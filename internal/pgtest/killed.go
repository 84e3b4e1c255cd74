package pgtest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// KilledAt runs the test binary again, with env (NAME=value) by which its
// TestMain knows that it is a worker, armed to kill itself at a failpoint, and
// waits until it has, for three minutes at most.
func KilledAt(t testing.TB, point, env string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0]) //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), env, "FREEHOLD_FAILPOINTS="+point+"=kill")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("worker ended with %v: %s", err, out)
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL || ctx.Err() != nil {
		t.Fatalf("%s was not reached: %v: %s", point, err, out)
	}
}
