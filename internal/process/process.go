// Package process runs child processes: started apart from our terminal, as
// another account if asked, logged to a file, stopped politely and then less
// so, and found again by their pid file when an earlier life of ours left them.
//
// Import law: process imports no other package of this module.
package process

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
	"syscall"
	"time"
)

// Command says what to run. Nothing secret belongs into Args.
type Command struct {
	Path string
	Args []string
	// Dir is the working directory: one that the child's account can enter.
	Dir string
	// Env is the child's whole environment; nil: ours.
	Env []string
	// Account to run as; nil: ours.
	Account *syscall.Credential
	// Log takes the child's output; it is appended to.
	Log string
	// DieWith is sent to the child when our process dies (Linux only); 0: nothing.
	DieWith syscall.Signal
	// NewSession takes the child out of our terminal's session, so that it outlives it.
	NewSession bool
}

// Process is one child. Its life is one: started, ended.
type Process struct {
	pid  int
	done chan struct{} // closed when the child has been reaped
	err  error         // how it ended; read after done
}

func (c Command) cmd() *exec.Cmd {
	return &exec.Cmd{Path: c.Path, Args: append([]string{c.Path}, c.Args...), Dir: c.Dir, Env: c.Env,
		SysProcAttr: &syscall.SysProcAttr{
			Setpgid:    !c.NewSession, // a terminal's Ctrl-C is ours to pass on, in order
			Setsid:     c.NewSession,
			Credential: c.Account,
		}}
}

// Run runs a command to its end and returns what it printed. Its error
// includes that. When ctx ends the command is killed.
func (c Command) Run(ctx context.Context) (string, error) {
	plain := c.cmd()
	cmd := exec.CommandContext(ctx, c.Path)
	cmd.Args, cmd.Dir, cmd.Env, cmd.SysProcAttr = plain.Args, plain.Dir, plain.Env, plain.SysProcAttr
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("%s: %w: %s", filepath.Base(c.Path), err, text)
	}
	return text, nil
}

// Start launches the child. The child's death is awaited on the very thread
// that made it, because Linux ties Pdeathsig to that thread's life.
func (c Command) Start() (*Process, error) {
	logFile, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer logFile.Close() //nolint:errcheck // the child has its own descriptor
	cmd := c.cmd()
	cmd.Stdout, cmd.Stderr = logFile, logFile
	setParentDeathSignal(cmd.SysProcAttr, c.DieWith)

	p := &Process{done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		if c.DieWith != 0 {
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
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	return p, nil
}

// Pid is the process ID, which may belong to somebody else once the child has ended.
func (p *Process) Pid() int { return p.pid }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the child ended; nil for exit status 0, and before it ended.
func (p *Process) Err() error {
	if p.Ended() {
		return p.err
	}
	return nil
}

// Ended tells whether the child has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Stop sends polite, then rude when ctx ends or after 30 s, and SIGKILL 5 s after that.
func (p *Process) Stop(ctx context.Context, polite, rude syscall.Signal) error {
	if p.Ended() {
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
	if err := p.Kill(); err != nil {
		return err
	}
	return fmt.Errorf("process %d did not stop when asked and was killed", p.pid)
}

// killFor bounds the wait for a killed child: one that hangs in the kernel (a
// dead disk) does not go even then.
const killFor = 10 * time.Second

// Kill ends the child as kill -9 does and waits until it is reaped, or fails.
func (p *Process) Kill() error {
	if p.Ended() {
		return nil
	}
	if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(killFor):
		return fmt.Errorf("process %d was killed and is still there", p.pid)
	}
}

// Evict ends a process that an earlier life of ours left behind, found by its
// pid file. A pid that meanwhile belongs to something else is left alone:
// marker must be part of the command line.
func Evict(ctx context.Context, pidFile, marker string, polite, rude syscall.Signal) error {
	b, err := os.ReadFile(pidFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err == nil && pid > 1 && strings.Contains(CommandLine(pid), marker) {
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
	for Alive(pid) {
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

// Alive tells whether there is such a process.
func Alive(pid int) bool {
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

// CommandLine is what the process was started with, or "" if it is gone.
func CommandLine(pid int) string {
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

// LogMark remembers how long a log was, so that an error shows only what came after.
func LogMark(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// LogTail returns the last lines written to the log since mark.
func LogTail(path string, mark int64) string {
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
