package dataplane

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
)

// listener is a TCP listener that loses nobody when it is closed: a client
// whose connection the kernel has taken, and we have not yet, would be reset
// after it sent its request. Close takes those in first.
type listener struct {
	*net.TCPListener
	once sync.Once
	late chan net.Conn // closed by Close, after all that it took in
}

func listen(ctx context.Context, address string) (*listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &listener{TCPListener: l.(*net.TCPListener), late: make(chan net.Conn)}, nil
}

// Accept returns the connections that Close took in before it returns an error.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.TCPListener.Accept()
	if err == nil || isTemporary(err) {
		return conn, err
	}
	if conn, ok := <-l.late; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func isTemporary(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED)
}

// Close ends the listener. It returns when Accept has handed everybody out.
func (l *listener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		conns := l.cutOff()
		err = l.TCPListener.Close()
		for _, conn := range conns {
			l.late <- conn
		}
		close(l.late)
	})
	return err
}

// cutOff takes in who is waiting, and stops listening in the same breath.
func (l *listener) cutOff() (conns []net.Conn) {
	raw, err := l.SyscallConn()
	if err != nil {
		return nil
	}
	var fds []int
	_ = raw.Control(func(fd uintptr) {
		for {
			syscall.ForkLock.RLock()
			conn, _, err := syscall.Accept(int(fd)) // does not wait: the listener is non-blocking
			if err == nil {
				syscall.CloseOnExec(conn)
			}
			syscall.ForkLock.RUnlock()
			if err != nil {
				break
			}
			fds = append(fds, conn)
		}
		_ = syscall.Shutdown(int(fd), syscall.SHUT_RD)
	})
	for _, fd := range fds {
		f := os.NewFile(uintptr(fd), "")
		if conn, err := net.FileConn(f); err == nil {
			conns = append(conns, conn)
		}
		_ = f.Close() // FileConn has its own
	}
	return conns
}
