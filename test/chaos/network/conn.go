package network

import (
	"net"
	"sync"
	"time"
)

// front is one server as the others see it.
type front struct {
	n        *Network
	name     string
	address  string
	listener net.Listener

	mu    sync.Mutex
	conns map[*conn]struct{}
}

func (f *front) all() (conns []*conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		conns = append(conns, c)
	}
	return conns
}

func (f *front) accept() {
	for {
		in, err := f.listener.Accept()
		if err != nil {
			return // closed
		}
		c := &conn{in: in.(*net.TCPConn), over: make(chan struct{}), changed: make(chan struct{})}
		f.mu.Lock()
		f.conns[c] = struct{}{}
		f.mu.Unlock()
		f.n.wg.Go(func() {
			defer func() {
				f.mu.Lock()
				delete(f.conns, c)
				f.mu.Unlock()
			}()
			f.serve(c)
		})
	}
}

// dialFor bounds reaching the server, which is on this machine.
const dialFor = 5 * time.Second

func (f *front) serve(c *conn) {
	defer c.end()
	f.renew(c)
	if !c.pass(0) { // not even reached while the cable is dead
		return
	}
	out, err := net.DialTimeout("tcp", f.address, dialFor) //nolint:noctx // bounded, and ended by cut afterwards
	if err != nil {
		return
	}
	server := out.(*net.TCPConn)
	defer server.Close() //nolint:errcheck // nothing is lost with it
	if !c.reached(server) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { c.copy(server, c.in) })
	both.Go(func() { c.copy(c.in, server) })
	both.Wait()
}

// renew has a connection obey the faults there are now.
func (f *front) renew(c *conn) {
	c.renewing.Lock() // whoever looks last at the faults has the last word
	defer c.renewing.Unlock()
	c.obey(f.n.condition(f.name, c))
}

// conn is one connection through a front.
type conn struct {
	in       *net.TCPConn
	over     chan struct{} // closed when it is cut
	renewing sync.Mutex

	mu        sync.Mutex
	out       *net.TCPConn // nil before the server is reached
	condition Condition
	changed   chan struct{} // closed when condition changes
	ended     bool
	who       string // the caller, once known
}

// reached keeps the other side; false when the connection was cut meanwhile.
func (c *conn) reached(server *net.TCPConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = server
	return !c.ended
}

func (c *conn) obey(now Condition) {
	c.mu.Lock()
	if c.condition != now {
		c.condition = now
		close(c.changed)
		c.changed = make(chan struct{})
	}
	c.mu.Unlock()
	if now.Cut {
		c.end()
	}
}

// end resets both sides: whatever was under way is lost to them.
func (c *conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	close(c.over)
	for _, side := range []*net.TCPConn{c.in, c.out} {
		if side != nil {
			_ = side.SetLinger(0)
			_ = side.Close()
		}
	}
}

// pass waits as long as n bytes take on the cable; false when it was cut meanwhile.
func (c *conn) pass(n int) bool {
	var spent time.Duration // of the delay, under conditions that changed
	for {
		c.mu.Lock()
		now, changed, ended := c.condition, c.changed, c.ended
		c.mu.Unlock()
		if ended {
			return false
		}
		var wait <-chan time.Time
		begun := time.Now()
		if !now.Dead {
			needs := now.Delay - spent
			if now.BytesPerSecond > 0 {
				needs += time.Duration(n) * time.Second / time.Duration(now.BytesPerSecond)
			}
			if needs <= 0 {
				return true
			}
			wait = time.After(needs)
		}
		select {
		case <-c.over:
			return false
		case <-wait:
			return true
		case <-changed:
			spent += time.Since(begun)
		}
	}
}

// copy passes on one direction until it ends. The end of what one side sends is passed on, too.
func (c *conn) copy(to, from *net.TCPConn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !c.pass(n) {
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				c.end()
				return
			}
		}
		if err != nil {
			if c.pass(0) && to.CloseWrite() == nil && isEnd(err) {
				return
			}
			c.end()
			return
		}
	}
}
