//go:build linux

package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// capture holds what was said by TCP over loopback, from and to a set of ports.
type capture struct {
	fd    int
	ports atomic.Pointer[map[uint16]bool]

	mu    sync.Mutex
	flows map[flow][]byte
	bytes int

	end  chan struct{}
	done chan error
}

// flow is one direction of a connection.
type flow struct{ from, to uint16 }

const (
	// mostBytes is more than any of these tests has said; a capture that is full proves nothing.
	mostBytes = 1 << 30
	// longestPacket is what the kernel hands over at once on loopback, at most.
	longestPacket = 1 << 20
)

// listen begins a capture, or skips the test where that is not allowed.
func listen(t *testing.T) *capture {
	t.Helper()
	c := ears(t)
	if c == nil {
		t.Skip(deaf)
	}
	return c
}

const deaf = "SKIPPED: NOTHING WAS CAPTURED. That no secret crosses the wire is shown as root, or with CAP_NET_RAW, only"

// ears begins a capture; nil where that is not allowed.
func ears(t *testing.T) *capture {
	t.Helper()
	every := uint16(syscall.ETH_P_ALL)
	every = every<<8 | every>>8 // in the network's order
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, int(every))
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		return nil
	}
	require.NoError(t, err)
	lo, err := net.InterfaceByName("lo")
	require.NoError(t, err)
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: every, Ifindex: lo.Index}))
	require.NoError(t, syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Usec: 100_000}))
	_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, 64<<20) // less may do
	c := &capture{fd: fd, flows: map[flow][]byte{}, end: make(chan struct{}), done: make(chan error, 1)}
	c.of(t, nil)
	go c.run()
	return c
}

// of says whose ports count from now on. The kernel is told, too, so that it
// does not lose what counts among all that others say over loopback.
func (c *capture) of(t *testing.T, ports map[uint16]bool) {
	t.Helper()
	c.ports.Store(&ports)
	require.NoError(t, syscall.AttachLsf(c.fd, filter(ports))) //nolint:staticcheck // one call; its successor is a module more
}

// filter lets TCP over IPv4 pass, from or to one of the ports.
func filter(ports map[uint16]bool) (program []syscall.SockFilter) {
	n := uint8(len(ports)) //nolint:gosec // a dozen
	add := func(code int, k uint32, yes, no uint8) {
		program = append(program, syscall.SockFilter{Code: uint16(code), K: k, Jt: yes, Jf: no}) //nolint:gosec // one of the codes below
	}
	add(syscall.BPF_LD|syscall.BPF_B|syscall.BPF_ABS, 9, 0, 0) // the protocol
	add(syscall.BPF_JMP|syscall.BPF_JEQ|syscall.BPF_K, syscall.IPPROTO_TCP, 0, 3+2*n)
	add(syscall.BPF_LDX|syscall.BPF_B|syscall.BPF_MSH, 0, 0, 0) // the length of the IP header
	for side, at := range []uint32{0, 2} {
		add(syscall.BPF_LD|syscall.BPF_H|syscall.BPF_IND, at, 0, 0)
		left := n
		for port := range ports {
			left--
			to := left + 1 // over the rest of this side, and the end
			if side == 0 {
				to += 1 + n
			}
			add(syscall.BPF_JMP|syscall.BPF_JEQ|syscall.BPF_K, uint32(port), to, 0)
		}
	}
	add(syscall.BPF_RET|syscall.BPF_K, 0, 0, 0)
	add(syscall.BPF_RET|syscall.BPF_K, longestPacket, 0, 0)
	return program
}

// stop ends the capture and returns what each port was part of.
func (c *capture) stop(t *testing.T) map[flow][]byte {
	t.Helper()
	close(c.end)
	require.NoError(t, <-c.done)
	return c.flows
}

func (c *capture) run() {
	buffer := make([]byte, longestPacket)
	var err error
	for err == nil {
		select {
		case <-c.end:
			c.done <- syscall.Close(c.fd)
			return
		default:
		}
		n, from, failed := syscall.Recvfrom(c.fd, buffer, 0)
		switch {
		case errors.Is(failed, syscall.EAGAIN), errors.Is(failed, syscall.EINTR), errors.Is(failed, syscall.ENOBUFS):
			continue
		case failed != nil:
			err = failed
			continue
		}
		// Each packet is seen twice, on its way out and in.
		if ll, ok := from.(*syscall.SockaddrLinklayer); ok && ll.Pkttype != syscall.PACKET_OUTGOING {
			err = c.take(buffer[:n])
		}
	}
	<-c.end
	c.done <- errors.Join(err, syscall.Close(c.fd))
}

// take keeps a packet's payload, if it is TCP of the ports that count.
func (c *capture) take(packet []byte) error {
	segment := tcp(packet)
	if len(segment) < 20 {
		return nil
	}
	f := flow{binary.BigEndian.Uint16(segment), binary.BigEndian.Uint16(segment[2:])}
	ports := *c.ports.Load()
	if !ports[f.from] && !ports[f.to] {
		return nil
	}
	header := int(segment[12]>>4) * 4
	if header < 20 || header >= len(segment) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bytes += len(segment) - header; c.bytes > mostBytes {
		return fmt.Errorf("more than %d bytes were said", mostBytes)
	}
	c.flows[f] = append(c.flows[f], segment[header:]...)
	return nil
}

// tcp is the TCP segment of an IP packet; nil if there is none.
func tcp(packet []byte) []byte {
	if len(packet) < 20 {
		return nil
	}
	switch packet[0] >> 4 {
	case 4:
		if header := int(packet[0]&15) * 4; packet[9] == syscall.IPPROTO_TCP && header <= len(packet) {
			return packet[header:]
		}
	case 6:
		if len(packet) >= 40 && packet[6] == syscall.IPPROTO_TCP {
			return packet[40:]
		}
	}
	return nil
}

// The capture sees what is said, and knows whose it is.
func TestCapture(t *testing.T) {
	t.Parallel()
	c := listen(t)
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // local
	require.NoError(t, err)
	defer l.Close() //nolint:errcheck // a test
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	c.of(t, map[uint16]bool{port: true, 1: true, 2: true})
	conn, err := net.Dial("tcp", l.Addr().String()) //nolint:noctx // local
	require.NoError(t, err)
	defer conn.Close() //nolint:errcheck // a test
	_, err = conn.Write([]byte("something that can be read"))
	require.NoError(t, err)
	mine := flow{uint16(conn.LocalAddr().(*net.TCPAddr).Port), port}
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return string(c.flows[mine]) == "something that can be read"
	}, 30*time.Second, 10*time.Millisecond)
	c.stop(t)
}
