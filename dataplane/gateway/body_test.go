package gateway_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/gateway"
	"github.com/freehold-db/freehold/dataplane/gateway/limit"
)

// post begins a request whose body says that it has so many bytes, and sends some of them.
func (d *door) post(t *testing.T, token string, bytes int, some string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(d.url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = fmt.Fprintf(conn, "POST /rest/v1/t HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", token, bytes, some)
	require.NoError(t, err)
	return conn
}

// However many bodies do not come to their end, there is a place for everybody
// else, the same tenant's included; and what they hold is given back.
func TestSlowBodiesHoldNoPlace(t *testing.T) {
	t.Parallel()
	d := open(t, func(c *gateway.Config) {
		c.Limits = limit.New(limit.Options{Config: limit.Config{NodeConcurrencyLeast: 2, NodeConcurrency: 2, TenantConcurrency: 1, WaitingPerTenant: 1}})
	})
	token := d.token(t, "acme")
	var slow []net.Conn
	for range 10 {
		slow = append(slow, d.post(t, token, 100, "x"))
	}
	held := func(bytes string) func() bool {
		return func() bool { return strings.Contains(d.metrics(), "freehold_limits_body_bytes "+bytes+"\n") }
	}
	require.Eventually(t, held("1010"), time.Minute, 10*time.Millisecond, "all have begun")
	for _, tenant := range []string{"acme", "rival"} {
		require.Equal(t, 200, d.get(t, "/rest/v1/t", with("Authorization", "Bearer "+d.token(t, tenant))).status)
	}
	require.Contains(t, d.metrics(), "freehold_limits_under_way 0\n")
	_, err := io.WriteString(slow[0], strings.Repeat("x", 99))
	require.NoError(t, err)
	require.Contains(t, status(t, slow[0]), "200", "and each is served when its body is there")
	for _, conn := range slow {
		require.NoError(t, conn.Close())
	}
	require.Eventually(t, held("0"), time.Minute, 10*time.Millisecond)
}

func status(t *testing.T, conn net.Conn) string {
	t.Helper()
	line := make([]byte, len("HTTP/1.1 200 "))
	_, err := io.ReadFull(conn, line)
	require.NoError(t, err)
	return string(line)
}

// Bodies take no more memory than they may, and no more time.
func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	d := open(t, func(c *gateway.Config) {
		c.Limits = limit.New(limit.Options{Config: limit.Config{BodyMemory: 1500, BodyMemoryPerTenant: 1000}})
	})
	acme, rival := d.token(t, "acme"), d.token(t, "rival")
	first := d.post(t, acme, 700, "x")
	require.Eventually(t, func() bool { return strings.Contains(d.metrics(), "freehold_limits_body_bytes 701\n") }, time.Minute, 10*time.Millisecond)
	require.Contains(t, status(t, d.post(t, acme, 700, strings.Repeat("x", 700))), "429")
	require.Contains(t, status(t, d.post(t, rival, 900, strings.Repeat("x", 900))), "503")
	_, err := io.WriteString(first, strings.Repeat("x", 699))
	require.NoError(t, err)
	require.Contains(t, status(t, first), "200")
	require.Contains(t, status(t, d.post(t, rival, 2, "xx")), "200")
}

func TestBodiesThatEndBadly(t *testing.T) {
	t.Parallel()
	d := open(t, func(c *gateway.Config) { c.MaxBody = 1 << 20 })
	half := d.post(t, d.token(t, "acme"), 100, "x")
	require.NoError(t, half.(*net.TCPConn).CloseWrite())
	text, err := io.ReadAll(half)
	require.NoError(t, err)
	require.Regexp(t, "^HTTP/1.1 (400|499) ", string(text), "net/http takes a client that ended its half for gone, if it saw that first")
	resp := d.raw(t, "POST /rest/v1/t HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+d.token(t, "acme")+"\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
	require.Equal(t, []string{"400 Bad Request"}, resp)
	d.url = "http://" + d.serveFor(t, nil, 300*time.Millisecond)
	text, err = io.ReadAll(d.post(t, d.token(t, "acme"), 100, "x")) // and nothing more
	require.NoError(t, err)
	require.Contains(t, string(text), "408 "+http.StatusText(http.StatusRequestTimeout))
	require.Contains(t, string(text), "body_too_slow")
}
