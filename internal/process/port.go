package process

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// ErrPortInUse: the port asked for belongs to somebody else.
var ErrPortInUse = errors.New("port is in use")

// Ports are taken from below the ranges that systems give to outgoing
// connections, and every process goes through a stretch of its own: who stops a
// server, and wants its port again a little later, finds that nobody took it meanwhile.
const (
	firstPort  = 15000
	stretches  = 60
	perStretch = 250
)

var portsTaken atomic.Int64

func init() { portsTaken.Store(rand.Int64N(perStretch)) } //nolint:gosec // no secret

// FreePort returns a TCP port on which nothing listens at the moment, and one
// that it did not return lately. Of two processes one may draw what the other
// did, though that is rare; a caller must still cope with losing it.
func FreePort() (int, error) {
	for i := range 2 * perStretch {
		stretch := os.Getpid()
		if i >= perStretch { // all of it is in use
			stretch = rand.IntN(stretches) //nolint:gosec // no secret
		}
		port := firstPort + stretch%stretches*perStretch + int(portsTaken.Add(1)%perStretch)
		if PortFree(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port found from %d to %d: %w", firstPort, firstPort+stretches*perStretch-1, ErrPortInUse)
}

// PortFree tells whether a port of 127.0.0.1 could be listened on just now. Who
// only looks at it, as we do, is waited for: another process, or one of our own
// children, which has what we had open until it runs its program.
func PortFree(port int) bool {
	for pause := time.Millisecond; pause < 10*time.Millisecond; pause *= 2 {
		if portFree(port) {
			return true
		}
		time.Sleep(pause)
	}
	return portFree(port)
}

func portFree(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) //nolint:noctx // a local bind does not block
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// LostPort reads from a server's log that somebody else took its port.
func LostPort(log string) bool {
	return strings.Contains(log, "Address already in use") || strings.Contains(log, "address already in use")
}
