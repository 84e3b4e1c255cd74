package dev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freehold-db/freehold/internal/pgserver"
	"github.com/freehold-db/freehold/internal/process"
)

func hasPrefix(s, prefix string) bool { return strings.HasPrefix(s, prefix) }

// evict ends every process that a killed dev left behind in the directory.
func (f *Fleet) evict(ctx context.Context) error { return evictAll(ctx, f.dir) }

func evictAll(ctx context.Context, l layout) error {
	pids, err := filepath.Glob(l.pid("*"))
	if err != nil {
		return err
	}
	// First what works on the servers, then the servers.
	for _, file := range pids {
		name := strings.TrimSuffix(filepath.Base(file), ".pid")
		if err := process.Evict(ctx, file, l.config(name+".yaml"), syscall.SIGTERM, syscall.SIGKILL); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return eachServer(l, func(name, dir string) error {
		if hasPrefix(name, bouncerPrefix) {
			return pgserver.EvictBouncer(ctx, dir)
		}
		return pgserver.EvictPostgres(ctx, dir)
	})
}

// eachServer runs do for every Postgres and PgBouncer of the directory, side by side.
func eachServer(l layout, do func(name, dir string) error) error {
	entries, err := os.ReadDir(l.server(""))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	g := new(errgroup.Group)
	for _, e := range entries {
		g.Go(func() error {
			if err := do(e.Name(), l.server(e.Name())); err != nil {
				return fmt.Errorf("%s: %w", e.Name(), err)
			}
			return nil
		})
	}
	return g.Wait()
}

// Down stops the fleet that runs in dir, whoever started it, and cleans up
// after one that was killed. It fails with [ErrNotRunning] if there was nothing to stop.
func Down(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	l := layout(dir)
	pid, err := holder(l)
	if err != nil {
		return err
	}
	if pid == 0 {
		return cleanAfterKill(ctx, l)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop process %d: %w", pid, err)
	}
	for {
		now, err := holder(l)
		if err != nil || now != pid {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d is still stopping the fleet: %w", pid, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func cleanAfterKill(ctx context.Context, l layout) error {
	if _, err := os.Stat(l.info()); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrNotRunning, string(l))
	}
	h, err := acquire(l)
	if err != nil {
		return err
	}
	defer h.release()
	return errors.Join(evictAll(ctx, l), removeFile(l.info()))
}

// Destroy stops the fleet of dir if it runs and removes all its data for good.
// It refuses a directory that is no fleet's.
func Destroy(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	l := layout(dir)
	if _, err := os.Stat(l.lock()); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %s is no fleet's directory", ErrNotRunning, dir)
		}
		return err
	}
	if err := Down(ctx, dir); err != nil && !errors.Is(err, ErrNotRunning) {
		return err
	}
	h, err := acquire(l)
	if err != nil {
		return err
	}
	defer h.release()
	if err := evictAll(ctx, l); err != nil {
		return err
	}
	if err := eachServer(l, func(_, dir string) error { return pgserver.Remove(dir) }); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}
