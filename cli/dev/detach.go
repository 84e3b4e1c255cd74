package dev

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/freehold-db/freehold/internal/process"
)

// Detach brings the fleet up in a process of its own, `tenant-ops ARGS…`, which
// outlives ours, and returns when it serves. It fails with [ErrRunning] if a
// fleet is up in the directory; after any failure nothing of it runs.
func Detach(ctx context.Context, opts Options, args []string) (Info, error) {
	if err := opts.complete(); err != nil {
		return Info{}, err
	}
	l := layout(opts.Dir)
	if err := l.create(); err != nil {
		return Info{}, fmt.Errorf("dev: %w", err)
	}
	h, err := acquire(l)
	if err != nil {
		return Info{}, err
	}
	h.release()
	binary := opts.Binary
	if binary == "" {
		if binary, err = os.Executable(); err != nil {
			return Info{}, fmt.Errorf("dev: %w", err)
		}
	}
	log := l.log(selfName)
	mark := process.LogMark(log)
	p, err := process.Command{Path: binary, Args: args, Log: log, NewSession: true}.Start()
	if err != nil {
		return Info{}, fmt.Errorf("dev: %w", err)
	}
	for {
		if info, err := Read(opts.Dir); err == nil && info.PIDs[selfName] == p.Pid() {
			return info, nil
		}
		select {
		case <-p.Done():
			return Info{}, fmt.Errorf("the fleet did not come up: %w; %s ends:\n%s", p.Err(), log, process.LogTail(log, mark))
		case <-ctx.Done():
			stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopFor)
			defer cancel()
			_ = p.Stop(stopCtx, syscall.SIGTERM, syscall.SIGKILL)
			return Info{}, fmt.Errorf("the fleet did not come up: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
