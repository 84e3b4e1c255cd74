package router

import (
	"net"
	"sync/atomic"
	"syscall"
)

// wire is the network connection under a borrowed connection. It knows how the
// exchange began since the connection was handed out: with which message of
// ours (none: nothing can have been executed), and with which of the server's.
// The driver's own SafeToRetry can't tell: a connection that broke with a
// statement on its way may report "conn closed", which counts as safe there.
type wire struct {
	net.Conn
	asked    atomic.Uint32 // type byte of the first message sent; 0: none
	answered atomic.Uint32 // type byte of the first message received; 0: none

	raw   syscall.RawConn // nil: cannot be looked at
	look  func(fd uintptr)
	peek  [1]byte
	quiet bool
}

func newWire(c net.Conn) *wire {
	w := &wire{Conn: c}
	if secured, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS: what comes unasked shows on the connection under it
		c = secured.NetConn()
	}
	if s, ok := c.(syscall.Conn); ok {
		w.raw, _ = s.SyscallConn()
	}
	w.look = func(fd uintptr) {
		_, _, err := syscall.Recvfrom(int(fd), w.peek[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		w.quiet = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
	}
	return w
}

// handOut forgets what went over the wire so far.
func (w *wire) handOut() {
	w.asked.Store(0)
	w.answered.Store(0)
}

func (w *wire) Write(b []byte) (int, error) {
	if len(b) > 0 && w.asked.Load() == 0 {
		w.asked.Store(uint32(b[0])) // before the attempt: a failed write may have sent a part
	}
	return w.Conn.Write(b)
}

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if n > 0 && w.answered.Load() == 0 {
		w.answered.Store(uint32(b[0]))
	}
	return n, err
}

// idleSound tells, without a round trip, whether an idle connection is as it
// should be: open, with nothing to read. PgBouncer speaks to an idle client
// only to part from it (an error, then the end).
func (w *wire) idleSound() bool {
	if w.raw == nil {
		return true
	}
	w.quiet = false
	// Not raw.Read: after a slow write pgconn leaves a reader waiting on the
	// connection, and raw.Read would wait for that one for ever.
	return w.raw.Control(w.look) == nil && w.quiet
}
