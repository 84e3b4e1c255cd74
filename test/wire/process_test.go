//go:build linux

package wire

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// witness reads what other users of the machine, and its administrators, may
// see of this process's descendants while they come and go.
type witness struct {
	mu       sync.Mutex
	commands map[string]bool
	environs map[string]string // by "program pid"
	end      chan struct{}
	done     chan struct{}
}

// brief are programs that get a password by their environment, which root and
// their own user may read as long as they run; libpq takes it by a file otherwise.
var brief = map[string]bool{"pg_dump": true, "pg_restore": true, "psql": true}

func watch() *witness {
	w := &witness{commands: map[string]bool{}, environs: map[string]string{}, end: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			w.look()
			select {
			case <-w.end:
				return
			case <-tick.C:
			}
		}
	}()
	return w
}

func (w *witness) stop() {
	close(w.end)
	<-w.done
}

func (w *witness) look() {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	parents := map[int]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		parents[pid] = parent(pid)
	}
	for pid := range parents {
		of := parents[pid]
		for of > 1 && of != os.Getpid() {
			of = parents[of]
		}
		if of > 1 {
			w.see(pid)
		}
	}
}

func (w *witness) see(pid int) {
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return
	}
	path, _, _ := strings.Cut(string(command), "\x00")
	program := filepath.Base(path)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commands[string(command)] = true
	if brief[program] {
		return
	}
	if environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err == nil {
		w.environs[fmt.Sprintf("%s %d", program, pid)] = string(environ)
	}
}

// parent is the process that started pid; 0 if it is gone.
func parent(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(stat), ") ") // the program's name may hold anything else
	fields := strings.Fields(after)
	if len(fields) < 2 {
		return 0
	}
	ppid, _ := strconv.Atoi(fields[1])
	return ppid
}
