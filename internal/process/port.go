package process

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
)

// ErrPortInUse: the port asked for belongs to somebody else.
var ErrPortInUse = errors.New("port is in use")

// FreePort returns a TCP port on which nothing listens at the moment. It is
// drawn at random from below the ranges that systems give to outgoing
// connections, so that two processes that draw at once seldom draw the same;
// a caller must still cope with losing it.
func FreePort() (int, error) {
	for range 100 {
		port := 15000 + rand.IntN(15000) //nolint:gosec // no secret
		if PortFree(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port found in 15000-30000: %w", ErrPortInUse)
}

// PortFree tells whether a port of 127.0.0.1 could be listened on just now.
func PortFree(port int) bool {
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
