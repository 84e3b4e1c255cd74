package dev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/freehold-db/freehold/internal/process"
)

// part is one member of the fleet with a life of its own: it can be started,
// stopped or killed, and started again.
type part interface {
	// start returns when the part serves. Its first start may change its port, later ones keep it.
	start(ctx context.Context) error
	stop(ctx context.Context) error
	kill() error
	// pid is 0 while it does not run.
	pid() int
	// ended is closed when the part has died or was stopped; nil if it shares our process.
	ended() <-chan struct{}
}

// member is a part under its name; one thing at a time is done to it.
type member struct {
	name string
	mu   sync.Mutex
	part
}

// stopper is a server inside a process.
type stopper interface {
	Stop(ctx context.Context) error
}

// embedded is a part inside our own process.
type embedded struct {
	run   func(ctx context.Context) (stopper, error)
	ready func(ctx context.Context) error // nil: it is when run returns

	server  stopper
	cancel  context.CancelFunc
	running atomic.Bool
}

// start gives the server a context that outlives the start itself, and still
// bounds the start by ctx.
func (e *embedded) start(ctx context.Context) error {
	if e.server != nil {
		return nil
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unbind := context.AfterFunc(ctx, cancel)
	s, err := e.run(life)
	if !unbind() && err == nil { // ctx ended just as the server came up
		err = errors.Join(ctx.Err(), s.Stop(context.WithoutCancel(ctx)))
	}
	if err != nil {
		cancel()
		return err
	}
	e.server, e.cancel = s, cancel
	e.running.Store(true)
	if e.ready == nil {
		return nil
	}
	if err := untilReady(ctx, nil, e.ready); err != nil {
		stopCtx, cancelStop := context.WithTimeout(context.WithoutCancel(ctx), stopFor)
		defer cancelStop()
		return errors.Join(err, e.stop(stopCtx))
	}
	return nil
}

// untilReady polls until ready says so, dead is closed, or ctx ends.
func untilReady(ctx context.Context, dead <-chan struct{}, ready func(context.Context) error) error {
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := ready(try)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-dead:
			return errors.New("it ended by itself")
		case <-ctx.Done():
			return fmt.Errorf("not ready in time: %w", errors.Join(ctx.Err(), err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (e *embedded) stop(ctx context.Context) error {
	if e.server == nil {
		return nil
	}
	err := e.server.Stop(ctx)
	e.cancel()
	e.server = nil
	e.running.Store(false)
	return err
}

func (e *embedded) kill() error {
	return fmt.Errorf("%w: start the fleet with --processes", ErrInProcess)
}
func (e *embedded) ended() <-chan struct{} { return nil }

func (e *embedded) pid() int {
	if !e.running.Load() {
		return 0
	}
	return os.Getpid()
}

// child is a part that runs as `tenant-ops ARGS… --config FILE`.
type child struct {
	binary string
	args   []string
	config string // also what tells the process apart from others
	log    string
	pids   string // its pid file
	dir    string
	port   int
	ready  func(ctx context.Context) error

	mu   sync.Mutex
	env  []string // added to its environment at the next start
	proc *process.Process
}

func (c *child) current() *process.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.proc
}

func (c *child) start(ctx context.Context) error {
	if p := c.current(); p != nil && !p.Ended() {
		return nil
	}
	if err := c.evict(ctx); err != nil {
		return err
	}
	if !process.PortFree(c.port) { // asked here, for whoever has it might look ready
		return fmt.Errorf("port %d: %w", c.port, process.ErrPortInUse)
	}
	mark := process.LogMark(c.log)
	c.mu.Lock()
	env := append(childEnv(), c.env...)
	c.env = nil
	c.mu.Unlock()
	p, err := process.Command{Path: c.binary, Args: append(c.args, "--config", c.config), Dir: c.dir,
		Env: env, Log: c.log, DieWith: syscall.SIGTERM}.Start()
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.proc = p
	c.mu.Unlock()
	if err := writeFile(c.pids, fmt.Appendln(nil, p.Pid())); err != nil {
		return errors.Join(err, p.Kill())
	}
	if err := untilReady(ctx, p.Done(), c.ready); err != nil {
		tail := process.LogTail(c.log, mark)
		if process.LostPort(tail) {
			err = fmt.Errorf("%w: %w", err, process.ErrPortInUse)
		}
		return errors.Join(fmt.Errorf("%w; its log ends:\n%s", err, tail), p.Kill())
	}
	return nil
}

// evict ends the process that a killed dev left behind.
func (c *child) evict(ctx context.Context) error {
	return process.Evict(ctx, c.pids, c.config, syscall.SIGTERM, syscall.SIGKILL)
}

func (c *child) stop(ctx context.Context) error {
	p := c.current()
	if p == nil {
		return nil
	}
	if err := p.Stop(ctx, syscall.SIGTERM, syscall.SIGKILL); err != nil {
		return err
	}
	return removeFile(c.pids)
}

func (c *child) kill() error {
	p := c.current()
	if p == nil {
		return nil
	}
	return errors.Join(p.Kill(), removeFile(c.pids))
}

func (c *child) pid() int {
	if p := c.current(); p != nil && !p.Ended() {
		return p.Pid()
	}
	return 0
}

func (c *child) ended() <-chan struct{} {
	if p := c.current(); p != nil {
		return p.Done()
	}
	return nil
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// withEnv adds to the environment of the next start.
func (m *member) withEnv(env []string) error {
	s, ok := m.part.(*served)
	if !ok {
		return errors.New("its environment cannot be set")
	}
	c, ok := s.part.(*child)
	if !ok {
		return ErrInProcess
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.env = env
	return nil
}
