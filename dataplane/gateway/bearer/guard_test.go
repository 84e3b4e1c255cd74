package bearer

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPublicAddresses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"1.1.1.1", "8.8.8.8", "172.15.0.1", "172.32.0.1", "100.63.255.255", "2606:4700::1111", "2a00:1450::1"} {
		require.True(t, public(netip.MustParseAddr(s)), s)
	}
	for _, s := range []string{
		"127.0.0.1", "127.8.9.1", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1",
		"192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
		"::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "2001:db8::1", "fec0::1",
	} {
		require.False(t, public(netip.MustParseAddr(s)), s)
	}
}

// What is connected to is judged, whatever name led there.
func TestGuardJudgesWhereNamesLead(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "/there", http.StatusFound)
		}
	}))
	defer srv.Close()
	port := srv.URL[strings.LastIndexByte(srv.URL, ':'):]
	get := func(g *guard, from string) (*http.Response, error) {
		u, err := url.Parse(from)
		require.NoError(t, err)
		c, err := g.client(u)
		if err != nil {
			return nil, err
		}
		return c.Get(from)
	}

	closed := newGuard(nil)
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0", "2130706433", "0x7f.1"} {
		for _, scheme := range []string{"http://", "https://"} {
			resp, err := get(closed, scheme+host+port)
			require.Error(t, err, scheme+host)
			require.Nil(t, resp)
		}
	}
	_, err := get(closed, "http://1.1.1.1")
	require.ErrorIs(t, err, errAddress, "plain http to anybody is none either")
	_, err = get(closed, "file:///etc/passwd")
	require.Error(t, err)
	require.Zero(t, asked.Load())

	open := newGuard(prefixes("127.0.0.0/8"))
	resp, err := get(open, "http://127.0.0.1"+port)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	resp, err = get(open, "http://127.0.0.1"+port+"/away")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusFound, resp.StatusCode, "and not what is there")
	require.EqualValues(t, 2, asked.Load())
	_, err = get(open, "http://10.0.0.1"+port)
	require.ErrorIs(t, err, errAddress)
}
