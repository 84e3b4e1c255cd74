package pgserver

import (
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/freehold-db/freehold/internal/process"
)

// ErrPortInUse: the port asked for belongs to somebody else.
var ErrPortInUse = process.ErrPortInUse

// command is a program to be run as the server's account.
func (p place) command(path string, args ...string) process.Command {
	c := process.Command{Path: path, Args: args, Dir: p.dir, Env: environ()}
	if p.acct.switched {
		c.Account = &syscall.Credential{Uid: uint32(p.acct.uid), Gid: uint32(p.acct.gid)} //nolint:gosec // IDs of an existing account
	}
	return c
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

// guarded holds the current process of a server.
type guarded struct {
	mu   sync.Mutex
	proc *process.Process
}

func (g *guarded) get() *process.Process {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.proc
}

func (g *guarded) set(p *process.Process) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.proc = p
}

// Pid is the process ID, or 0 when it is not running.
func (g *guarded) Pid() int {
	if p := g.get(); p != nil && !p.Ended() {
		return p.Pid()
	}
	return 0
}

// Done is closed when the process that was last started has ended; nil before the first start.
func (g *guarded) Done() <-chan struct{} {
	if p := g.get(); p != nil {
		return p.Done()
	}
	return nil
}

// Kill ends the process as kill -9 does and waits until it is reaped. Killing what does not run is no error.
func (g *guarded) Kill() error {
	if p := g.get(); p != nil {
		return p.Kill()
	}
	return nil
}
