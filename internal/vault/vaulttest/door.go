package vaulttest

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// door is the address that clients know: it leads to where the server is now.
type door struct {
	l net.Listener

	mu     sync.Mutex
	cond   *sync.Cond
	to     string // empty: nowhere
	hung   bool
	closed bool
	conns  map[net.Conn]struct{}
	all    sync.WaitGroup
}

func newDoor(t testing.TB) *door {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // bound at once
	require.NoError(t, err)
	d := &door{l: l, conns: map[net.Conn]struct{}{}}
	d.cond = sync.NewCond(&d.mu)
	d.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d.all.Go(func() { d.carry(c) })
		}
	})
	t.Cleanup(func() {
		d.mu.Lock()
		d.closed = true
		d.mu.Unlock()
		d.lead("")
		_ = l.Close()
		d.all.Wait()
	})
	return d
}

func (d *door) address() string { return d.l.Addr().String() }

// lead leads to another address from now on, and cuts off what is under way.
func (d *door) lead(to string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.to = to
	for c := range d.conns {
		_ = c.Close()
	}
	d.cond.Broadcast()
}

func (d *door) hang() (goOn func()) {
	d.mu.Lock()
	d.hung = true
	d.mu.Unlock()
	return func() {
		d.mu.Lock()
		d.hung = false
		d.mu.Unlock()
		d.cond.Broadcast()
	}
}

// wait returns when nothing is hung, with where the door leads.
func (d *door) wait() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.hung && !d.closed {
		d.cond.Wait()
	}
	return d.to
}

func (d *door) carry(c net.Conn) {
	defer c.Close() //nolint:errcheck // done with
	to := d.wait()
	if to == "" {
		return
	}
	s, err := net.Dial("tcp", to) //nolint:noctx // a local server's
	if err != nil {
		return
	}
	defer s.Close() //nolint:errcheck // done with
	d.mu.Lock()
	d.conns[c], d.conns[s] = struct{}{}, struct{}{}
	d.mu.Unlock()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{s, c}, {c, s}} {
		both.Go(func() {
			_, _ = io.Copy(waiting{way[0], d}, way[1])
			_ = way[0].Close()
			_ = way[1].Close()
		})
	}
	both.Wait()
	d.mu.Lock()
	delete(d.conns, c)
	delete(d.conns, s)
	d.mu.Unlock()
}

// waiting writes when nothing is hung.
type waiting struct {
	io.Writer
	d *door
}

func (w waiting) Write(b []byte) (int, error) {
	w.d.wait()
	return w.Writer.Write(b)
}
