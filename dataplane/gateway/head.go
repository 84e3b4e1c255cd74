package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
)

// errHead becomes net/http's own 400, after which the connection ends.
var errHead = errors.New("a line of the request's head is folded, or does not end in CR LF")

// Listener hands out connections that refuse heads which two servers in a row
// could read differently, and which net/http accepts: lines that end in a bare
// LF, stray CRs, and folded lines (RFC 9112 §2.2, §5.2). Serve them with the
// server of [NewServer]. A request that was sent ahead, together with another
// one's body, is not looked at: who stands in front of us sends none.
//
// With a TLS configuration connections are those of TLS, and heads are looked
// at inside of them. HTTP/2 has no such heads: its frames say where everything
// ends, and net/http refuses there what could be read in two ways but for the
// host, which the gateway checks.
func Listener(l net.Listener, secure *tls.Config) net.Listener {
	if secure != nil {
		return newTLSListener(l, secure)
	}
	return headListener{l}
}

type headListener struct{ net.Listener }

func (l headListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newHeadConn(conn), nil
}

// headConn looks at what it reads while it awaits a head, up to its end.
type headConn struct {
	net.Conn
	awaiting atomic.Bool
	line     int  // bytes of the current line so far, without its CR; after a body, whether there are any
	cr       bool // the last byte was one
	unsure   bool // whether that one is a body's last byte, or in a head that was sent ahead and cut there
	bad      bool // what comes next is refused
}

func newHeadConn(conn net.Conn) *headConn {
	c := &headConn{Conn: conn}
	c.await()
	return c
}

// CloseWrite lets net/http end our half first, so that a client which still
// sends can read its answer.
func (c *headConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

type headKey struct{}

// await has the next request's head looked at. A part of it may have been sent
// ahead: what follows is looked at as the rest of that.
func (c *headConn) await() {
	c.unsure = c.cr
	c.awaiting.Store(true)
}

func (c *headConn) Read(p []byte) (int, error) {
	if c.bad {
		return 0, errHead
	}
	n, err := c.Conn.Read(p)
	switch {
	case n <= 0:
	case !c.awaiting.Load():
		c.pass(p[:n])
	default:
		if good := c.sound(p[:n]); good < n {
			// What is good so far goes on, since net/http answers nobody
			// of whom it has not read a byte.
			c.bad = true
			return good, nil
		}
	}
	return n, err
}

// pass takes notice of where in a line what is not looked at ends.
func (c *headConn) pass(p []byte) {
	last := len(p) - 1
	switch {
	case p[last] != '\r':
		c.line, c.cr = 1, false
		if p[last] == '\n' {
			c.line = 0
		}
	case last > 0:
		c.line, c.cr = 1, true
		if p[last-1] == '\n' {
			c.line = 0
		}
	default:
		c.cr = true
	}
}

// sound counts the bytes before the first that no head may have there.
func (c *headConn) sound(p []byte) int {
	if c.unsure && p[0] != '\n' { // a body's
		c.line, c.cr = 0, false
	}
	c.unsure = false
	for i, b := range p {
		switch {
		case b == '\n' && c.cr:
			if c.line == 0 {
				c.awaiting.Store(false)
				if c.cr = false; i+1 < len(p) {
					c.pass(p[i+1:])
				}
				return len(p)
			}
			c.line, c.cr = 0, false
		case b == '\n', c.cr, c.line == 0 && (b == ' ' || b == '\t'):
			return i
		case b == '\r':
			c.cr = true
		default:
			c.line++
		}
	}
	return len(p)
}

// watchHeads tells s's connections where heads begin and where, at the latest, they are over.
func watchHeads(s *http.Server) {
	s.ConnState = func(conn net.Conn, state http.ConnState) {
		if c, ok := conn.(*headConn); ok && state == http.StateIdle {
			c.await()
		}
	}
	s.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, headKey{}, conn)
	}
}

// headIsOver keeps a request's body from being taken for a head.
func headIsOver(ctx context.Context) {
	if c, ok := ctx.Value(headKey{}).(*headConn); ok {
		c.awaiting.Store(false)
	}
}
