package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
)

// tlsListener hands out connections whose handshake is done: HTTP/2 as they
// are, for net/http to see, and HTTP/1 as those whose heads are looked at.
type tlsListener struct {
	net.Listener
	secure  *tls.Config
	ready   chan accepted
	shaking sync.WaitGroup
	closed  chan struct{}
	once    sync.Once
}

type accepted struct {
	conn net.Conn
	err  error
}

func newTLSListener(l net.Listener, secure *tls.Config) *tlsListener {
	t := &tlsListener{Listener: l, secure: secure, ready: make(chan accepted), closed: make(chan struct{})}
	go t.run()
	return t
}

// run takes connections in until the listener beneath ends, and everybody's
// handshake with it.
func (t *tlsListener) run() {
	defer close(t.ready)
	defer t.shaking.Wait()
	for {
		conn, err := t.Listener.Accept()
		if err == nil {
			t.shaking.Go(func() { t.shake(tls.Server(conn, t.secure)) })
			continue
		}
		if temporary, ok := err.(interface{ Temporary() bool }); !ok || !temporary.Temporary() { //nolint:errorlint // as net/http asks
			return
		}
		t.hand(accepted{err: err}) // net/http waits a while after it
	}
}

// shake gives a client as long for its handshake as it has for a head.
func (t *tlsListener) shake(conn *tls.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), headerFor)
	defer cancel()
	if conn.HandshakeContext(ctx) != nil {
		_ = conn.Close() // who spoke no TLS, or not in time, is nobody to tell
		return
	}
	if conn.ConnectionState().NegotiatedProtocol == "h2" {
		t.hand(accepted{conn: conn})
		return
	}
	t.hand(accepted{conn: newHeadConn(conn)})
}

func (t *tlsListener) hand(a accepted) {
	select {
	case t.ready <- a:
	case <-t.closed:
		if a.conn != nil {
			_ = a.conn.Close()
		}
	}
}

// Accept returns connections until the listener beneath has ended and all that it took in are handed out.
func (t *tlsListener) Accept() (net.Conn, error) {
	a, ok := <-t.ready
	if !ok {
		return nil, net.ErrClosed
	}
	return a.conn, a.err
}

func (t *tlsListener) Close() error {
	err := t.Listener.Close()
	t.once.Do(func() { close(t.closed) })
	return err
}
