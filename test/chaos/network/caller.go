package network

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
)

func isEnd(err error) bool { return errors.Is(err, io.EOF) }

// caller is the name of the part at the other end of the connection.
func (c *conn) caller(parts func() map[string]int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.who == "" {
		c.who = whoHas(c.in.RemoteAddr().(*net.TCPAddr).Port, c.in.LocalAddr().(*net.TCPAddr).Port, parts())
	}
	return c.who
}

// whoHas finds which of the processes, or of their children, has the socket
// that is connected from one port of loopback to another. Only Linux can say.
func whoHas(from, to int, parts map[string]int) string {
	socket := socketOf(from, to)
	if socket == "" {
		return Outside
	}
	for name, pid := range parts {
		if pid != os.Getpid() && has(pid, socket) {
			return name
		}
	}
	return Outside
}

// socketOf is how /proc/PID/fd names the socket, or "".
func socketOf(from, to int) string {
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // read only
	local, remote := fmt.Sprintf("0100007F:%04X", from), fmt.Sprintf("0100007F:%04X", to)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 9 && fields[1] == local && fields[2] == remote {
			return "socket:[" + fields[9] + "]"
		}
	}
	return ""
}

func has(pid int, socket string) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, fd := range fds {
		if link, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && link == socket {
			return true
		}
	}
	for _, child := range children(pid) {
		if has(child, socket) {
			return true
		}
	}
	return false
}

// children are the processes that one has started, by any of its threads.
func children(pid int) (pids []int) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil
	}
	for _, list := range lists {
		b, err := os.ReadFile(list)
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(b)) {
			var child int
			if _, err := fmt.Sscan(field, &child); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}
