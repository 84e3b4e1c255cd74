package catalogtest

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Proxy stands between a store and its Postgres and can be cut off, as in a
// failover, or paused, as a process or a network may be.
type Proxy struct {
	DSN    string // by way of the proxy
	target string

	mu     sync.Mutex
	cut    bool
	after  int           // messages to the server until it cuts itself; negative: never
	paused chan struct{} // closed when it goes on; nil: it is not paused
	conns  map[net.Conn]bool
}

// NewProxy relays to the server of dsn, a URL, until the test ends.
func NewProxy(t testing.TB, dsn string) *Proxy {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // ends with the test
	require.NoError(t, err)
	p := &Proxy{target: u.Host, after: -1, conns: map[net.Conn]bool{}}
	u.Host = listener.Addr().String()
	p.DSN = u.String()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.relay(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.Resume()
		p.Cut()
		wg.Wait()
	})
	return p
}

// Cut closes all connections and refuses new ones.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutLocked()
}

func (p *Proxy) cutLocked() {
	p.cut = true
	for conn := range p.conns {
		_ = conn.Close()
	}
	clear(p.conns)
}

// CutAfter cuts when n more messages have gone to the server, the last one unanswered.
func (p *Proxy) CutAfter(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.after = n
}

// Restore lets new connections through again.
func (p *Proxy) Restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.after = false, -1
}

// Pause lets nothing through until Resume; connections stay.
func (p *Proxy) Pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused == nil {
		p.paused = make(chan struct{})
	}
}

// Resume lets everything through that was kept back.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused != nil {
		close(p.paused)
		p.paused = nil
	}
}

func (p *Proxy) keep(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		_ = conn.Close()
		return false
	}
	p.conns[conn] = true
	return true
}

func (p *Proxy) relay(client net.Conn) {
	if !p.keep(client) {
		return
	}
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", p.target) //nolint:noctx // loopback
	if err != nil || !p.keep(server) {
		return
	}
	defer func() { _ = server.Close() }()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(gate{server, p, true}, client)
		_ = server.Close()
	})
	_, _ = io.Copy(gate{client, p, false}, server)
	_ = client.Close()
	wg.Wait()
}

// gate is one direction of a connection.
type gate struct {
	io.Writer
	p        *Proxy
	toServer bool
}

func (g gate) Write(b []byte) (int, error) {
	g.p.mu.Lock()
	paused := g.p.paused
	g.p.mu.Unlock()
	if paused != nil {
		<-paused
	}
	n, err := g.Writer.Write(b)
	if g.toServer {
		g.p.mu.Lock()
		defer g.p.mu.Unlock()
		if g.p.after > 0 {
			if g.p.after--; g.p.after == 0 {
				g.p.cutLocked()
			}
		}
	}
	return n, err
}
