// Package failpoint lets a test stop this very process, or make it fail, at a
// named place. Points are armed by the environment of the process alone
// (FREEHOLD_FAILPOINTS="tenant-move/copy/begin=kill;other=error"); unarmed, a point
// is one map look-up. The habit and the naming follow etcd's robustness tests.
package failpoint

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
)

var armed = sync.OnceValue(func() map[string]string {
	return parse(os.Getenv("FREEHOLD_FAILPOINTS"))
})

func parse(s string) map[string]string {
	m := map[string]string{}
	for _, part := range strings.Split(s, ";") {
		if name, action, ok := strings.Cut(strings.TrimSpace(part), "="); ok {
			m[name] = action
		}
	}
	return m
}

// stopped are the points at which this process was stopped already.
var stopped sync.Map

// Hit is called at a place worth failing at. Armed with "kill" it ends the
// process as kill -9 does; with "stop" it stops it, the first time, as a
// machine that freezes, until somebody sends SIGCONT; with "error" it returns
// an error; else nil.
func Hit(name string) error {
	switch armed()[name] {
	case "":
		return nil
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way; run no further statement
	case "stop":
		if _, before := stopped.LoadOrStore(name, true); !before {
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		}
		return nil
	case "error":
		return fmt.Errorf("failpoint %s", name)
	default:
		return fmt.Errorf("failpoint %s: unknown action (want kill, stop or error)", name)
	}
}
