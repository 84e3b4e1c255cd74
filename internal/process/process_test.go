package process

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A pid file whose pid now belongs to another program is only a stale file.
func TestStalePidOfAnotherProgramIsLeftAlone(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "postmaster.pid")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "%d\n/elsewhere\n", os.Getppid()), 0o600))
	require.NoError(t, Evict(t.Context(), file, "/no/such/data", syscall.SIGINT, syscall.SIGQUIT))
	require.NoFileExists(t, file)
	require.True(t, Alive(os.Getppid()))
	require.NoError(t, Evict(t.Context(), file, "/no/such/data", syscall.SIGINT, syscall.SIGQUIT), "no file at all")
}

// A child that an earlier life left is stopped, politely or not, and its file goes.
func TestEvictEndsWhatWasLeft(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lingering := filepath.Join(dir, "lingering")
	require.NoError(t, os.WriteFile(lingering, []byte("#!/bin/sh\necho ready\nwhile :; do sleep 1; done\n"), 0o700)) //nolint:gosec // a program
	log := filepath.Join(dir, "log")
	p, err := Command{Path: "/bin/sh", Args: []string{lingering}, Log: log, DieWith: syscall.SIGKILL}.Start()
	require.NoError(t, err)
	require.Eventually(t, func() bool { return LogTail(log, 0) == "ready" }, time.Minute, 5*time.Millisecond)
	file := filepath.Join(dir, "pid")
	require.NoError(t, os.WriteFile(file, fmt.Appendln(nil, p.Pid()), 0o600))
	require.NoError(t, Evict(t.Context(), file, lingering, syscall.SIGTERM, syscall.SIGKILL))
	require.False(t, Alive(p.Pid()))
	require.NoFileExists(t, file)
	<-p.Done()
	require.Error(t, p.Err())
	require.NoError(t, p.Stop(t.Context(), syscall.SIGTERM, syscall.SIGKILL), "stopping what has ended")
	require.NoError(t, p.Kill())
}

func TestRunShowsWhatWentWrong(t *testing.T) {
	t.Parallel()
	out, err := Command{Path: "/bin/sh", Args: []string{"-c", "echo fine"}}.Run(t.Context())
	require.NoError(t, err)
	require.Equal(t, "fine", out)
	_, err = Command{Path: "/bin/sh", Args: []string{"-c", "echo broken >&2; exit 3"}}.Run(t.Context())
	require.ErrorContains(t, err, "exit status 3: broken")
}

func TestFreePortsAreFree(t *testing.T) {
	t.Parallel()
	for range 20 { // another process may have drawn the same one, or be looking at it
		port, err := FreePort()
		require.NoError(t, err)
		if PortFree(port) {
			return
		}
	}
	require.Fail(t, "none of twenty is free")
}
