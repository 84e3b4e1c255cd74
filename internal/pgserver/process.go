package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is one running child. Its life is one: launched, exited.
type process struct {
	pid  int
	done chan struct{} // closed when the child has been reaped
	err  error         // how it ended; read after done
}

type launch struct {
	path          string
	args          []string
	dir           string // working directory: one that the account can enter
	acct          account
	log           string // appended to
	dieWithParent syscall.Signal
}

func (l launch) command() *exec.Cmd {
	cmd := &exec.Cmd{Path: l.path, Args: append([]string{l.path}, l.args...), Dir: l.dir}
	cmd.Env = environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C is ours to pass on, in order
	if l.acct.switched {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(l.acct.uid), Gid: uint32(l.acct.gid)} //nolint:gosec // IDs of an existing account
	}
	return cmd
}

// environ drops what would change how Postgres's programs behave.
func environ() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PG") && !strings.HasPrefix(kv, "LC_") && !strings.HasPrefix(kv, "LANG") {
			env = append(env, kv)
		}
	}
	return append(env, "LC_ALL=C")
}

// start launches the child. The child's death is awaited on the very thread
// that made it, because Linux ties Pdeathsig to that thread's life.
func (l launch) start() (*process, error) {
	logFile, err := os.OpenFile(l.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer logFile.Close() //nolint:errcheck // the child has its own descriptor
	cmd := l.command()
	cmd.Stdout, cmd.Stderr = logFile, logFile
	setParentDeathSignal(cmd.SysProcAttr, l.dieWithParent)

	p := &process{done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		if l.dieWithParent != 0 {
			runtime.LockOSThread() // never unlocked: the thread ends with the child
		}
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", l.path, err)
	}
	return p, nil
}

func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stop sends polite, then rude when ctx ends or after 30 s, and SIGKILL 5 s after that.
func (p *process) stop(ctx context.Context, polite, rude syscall.Signal) error {
	if p.exited() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	_ = syscall.Kill(p.pid, polite)
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	_ = syscall.Kill(p.pid, rude)
	select {
	case <-p.done:
		return nil
	case <-time.After(5 * time.Second):
	}
	_ = syscall.Kill(p.pid, syscall.SIGKILL)
	<-p.done
	return fmt.Errorf("process %d did not stop when asked and was killed", p.pid)
}

// evict ends a process that an earlier life of ours left behind, found by its
// pid file. A pid that meanwhile belongs to something else is left alone:
// marker must be part of the command line.
func evict(ctx context.Context, pidFile, marker string, polite, rude syscall.Signal) error {
	b, err := os.ReadFile(pidFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err == nil && pid > 1 && strings.Contains(commandLine(pid), marker) {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		if err := endStranger(ctx, pid, polite, rude); err != nil {
			return err
		}
	}
	if err := os.Remove(pidFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// endStranger ends a process that is not our child and waits until it is gone.
func endStranger(ctx context.Context, pid int, polite, rude syscall.Signal) error {
	_ = syscall.Kill(pid, polite)
	escalate := time.After(10 * time.Second)
	for alive(pid) {
		select {
		case <-escalate:
			_ = syscall.Kill(pid, rude)
		case <-ctx.Done():
			return fmt.Errorf("process %d left behind by an earlier run does not stop: %w", pid, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

func alive(pid int) bool {
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return false
	}
	// A zombie whose parent does not reap it is as good as gone.
	if b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat")); err == nil {
		if i := bytes.LastIndexByte(b, ')'); i >= 0 && len(b) > i+2 && b[i+2] == 'Z' {
			return false
		}
	}
	return true
}

// commandLine is what the process was started with, or "" if it is gone.
func commandLine(pid int) string {
	if b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline")); err == nil {
		return string(bytes.ReplaceAll(b, []byte{0}, []byte{' '}))
	}
	if runtime.GOOS == "linux" {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return string(out)
}

// logMark remembers how long a log was, so that an error shows only what came after.
func logMark(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// logTail returns the last lines written to the log since mark.
func logTail(path string, mark int64) string {
	f, err := os.Open(path)
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	defer f.Close() //nolint:errcheck // read only
	const most = 8 << 10
	if end, err := f.Seek(0, io.SeekEnd); err == nil && end-mark > most {
		mark = end - most
	}
	if _, err := f.Seek(mark, io.SeekStart); err != nil {
		return ""
	}
	b, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) > 20 {
		lines = lines[len(lines)-20:]
	}
	return strings.Join(lines, "\n")
}

// guarded holds the current process of a server.
type guarded struct {
	mu   sync.Mutex
	proc *process
}

func (g *guarded) get() *process {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.proc
}

func (g *guarded) set(p *process) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.proc = p
}

// Pid is the process ID, or 0 when it is not running.
func (g *guarded) Pid() int {
	if p := g.get(); p != nil && !p.exited() {
		return p.pid
	}
	return 0
}

// Done is closed when the process that was last started has ended; nil before the first start.
func (g *guarded) Done() <-chan struct{} {
	if p := g.get(); p != nil {
		return p.done
	}
	return nil
}

// Kill ends the process as kill -9 does and waits until it is reaped. Killing what does not run is no error.
func (g *guarded) Kill() error {
	p := g.get()
	if p == nil || p.exited() {
		return nil
	}
	if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	<-p.done
	return nil
}
