package gateway_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/gateway"
)

// callers opens connections to a listener behind a crowd, which greets each.
func callers(t *testing.T, most, each int, trusted ...string) (call func() net.Conn, crowd *gateway.Crowd) {
	t.Helper()
	crowd, err := gateway.NewCrowd(most, each, trusted)
	require.NoError(t, err)
	under, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := crowd.Listen(under)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("!"))
			go func() {
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
				_ = conn.Close()
			}()
		}
	}()
	return func() net.Conn {
		conn, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			return nil // hung up on
		}
		return conn
	}, crowd
}

func TestCrowd(t *testing.T) {
	t.Parallel()
	for name, bound := range map[string]struct {
		most, each int
		label      string
	}{"in all": {2, 0, "all"}, "of an address": {10, 2, "address"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			call, crowd := callers(t, bound.most, bound.each)
			first := call()
			require.NotNil(t, first)
			require.NotNil(t, call())
			require.Nil(t, call())
			require.NoError(t, first.Close())
			require.Eventually(t, func() bool { return call() != nil }, time.Minute, 10*time.Millisecond, "who leaves makes room")
			require.Nil(t, call())

			registry := prometheus.NewRegistry()
			registry.MustRegister(crowd)
			families, err := registry.Gather()
			require.NoError(t, err)
			require.EqualValues(t, 2, families[0].GetMetric()[0].GetGauge().GetValue())
			require.Equal(t, bound.label, families[1].GetMetric()[0].GetLabel()[0].GetValue())
		})
	}
	call, _ := callers(t, 3, 1, "127.0.0.0/8")
	for range 3 {
		require.NotNil(t, call(), "anybody comes through a proxy")
	}
	require.Nil(t, call())
	_, err := gateway.NewCrowd(1, 1, []string{"x"})
	require.Error(t, err)
}
