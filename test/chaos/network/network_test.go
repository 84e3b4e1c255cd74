package network

import (
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/leaktest"
)

// echo is a server that sends back what it gets, reached through a front of its own.
func echo(t *testing.T, callers map[string]int) (*Network, string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n := New(func() map[string]int { return callers })
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		n.Close()
		leaktest.None(t)
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	address, err := n.Front("echo", l.Addr().String())
	require.NoError(t, err)
	again, err := n.Front("echo", l.Addr().String())
	require.NoError(t, err)
	require.Equal(t, address, again)
	return n, address
}

func dial(t *testing.T, address string) net.Conn {
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	return c
}

// say sends a word and reads it back.
func say(c net.Conn, word string) error {
	if _, err := c.Write([]byte(word)); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, len(word)))
	return err
}

func TestCut(t *testing.T) {
	n, address := echo(t, nil)
	before := dial(t, address)
	require.NoError(t, say(before, "hello"))
	heal := n.Break(Anybody, "echo", Condition{Cut: true})
	require.Error(t, say(before, "hello"), "what was connected is cut")
	c, err := net.Dial("tcp", address)
	if err == nil { // else it was cut so soon
		t.Cleanup(func() { _ = c.Close() })
		err = say(c, "hello")
	}
	require.Error(t, err, "and nobody gets in")
	heal()
	require.NoError(t, say(dial(t, address), "hello"))
	n.Break(Anybody, "other", Condition{Cut: true})
	require.NoError(t, say(dial(t, address), "hello"))
}

func TestDeadAndAliveAgain(t *testing.T) {
	n, address := echo(t, nil)
	before := dial(t, address)
	require.NoError(t, say(before, "hello"))
	heal := n.Break(Anybody, Anybody, Condition{Dead: true})
	during := dial(t, address)
	for _, c := range []net.Conn{before, during} {
		_, err := c.Write([]byte("x"))
		require.NoError(t, err)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
	}
	heal()
	for _, c := range []net.Conn{before, during} {
		got := make([]byte, 1)
		_, err := io.ReadFull(c, got)
		require.NoError(t, err)
		require.Equal(t, "x", string(got), "what was sent arrives when it is over")
	}
}

func TestSlow(t *testing.T) {
	n, address := echo(t, nil)
	c := dial(t, address)
	require.NoError(t, say(c, "hello"))
	heal := n.Break(Outside, "echo", Condition{Delay: 30 * time.Millisecond})
	begun := time.Now()
	require.NoError(t, say(c, "hello"))
	require.GreaterOrEqual(t, time.Since(begun), 60*time.Millisecond, "there and back")
	heal()
	n.Break(Outside, "echo", Condition{BytesPerSecond: 100_000})
	begun = time.Now()
	require.NoError(t, say(c, strings.Repeat("x", 10_000)))
	require.GreaterOrEqual(t, time.Since(begun), 100*time.Millisecond)
}

func TestTheEndOfOneDirectionIsPassedOn(t *testing.T) {
	_, address := echo(t, nil)
	c := dial(t, address)
	_, err := c.Write([]byte("all there is"))
	require.NoError(t, err)
	require.NoError(t, c.(*net.TCPConn).CloseWrite())
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "all there is", string(got))
}

// A fault between two parts is no matter to others, whether the caller has the
// socket itself or a child of it, as Postgres's sessions have.
func TestOnlyTheCallerMeant(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: only Linux tells whose a socket is")
	}
	callers := map[string]int{}
	n, address := echo(t, callers)
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	caller := exec.Command("bash", "-c", "(exec 3<>/dev/tcp/127.0.0.1/"+port+"; echo hello >&3; cat <&3; echo; read -r wait); true")
	out, err := caller.StdoutPipe()
	require.NoError(t, err)
	in, err := caller.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, caller.Start())
	t.Cleanup(func() { _ = in.Close(); _ = caller.Wait() })
	callers["part"] = caller.Process.Pid
	_, err = io.ReadFull(out, make([]byte, len("hello\n")))
	require.NoError(t, err)
	mine := dial(t, address)
	require.NoError(t, say(mine, "hello"))

	n.Break("part", "echo", Condition{Cut: true})
	_, err = io.ReadFull(out, make([]byte, 1)) // cat has come to its end
	require.NoError(t, err)
	require.NoError(t, say(mine, "hello"))
	require.NoError(t, say(dial(t, address), "hello"))
}
