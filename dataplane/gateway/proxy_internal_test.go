package gateway

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhoseHeadersCount(t *testing.T) {
	t.Parallel()
	p, err := parseProxies([]string{"10.0.0.0/8", "192.0.2.1", "2001:db8::/32"})
	require.NoError(t, err)
	const forged = "203.0.113.9"
	for name, c := range map[string]struct {
		peer    string
		from    []string
		client  string
		through bool
	}{
		"a stranger":                      {"198.51.100.7:1234", []string{forged}, "198.51.100.7", false},
		"a proxy":                         {"10.1.2.3:1234", []string{"198.51.100.7"}, "198.51.100.7", true},
		"a proxy by address":              {"192.0.2.1:1234", []string{"198.51.100.7"}, "198.51.100.7", true},
		"a neighbour of it":               {"192.0.2.2:1234", []string{forged}, "192.0.2.2", false},
		"a proxy mapped into IPv6":        {"[::ffff:10.1.2.3]:1234", []string{"::ffff:198.51.100.7"}, "198.51.100.7", true},
		"a proxy of IPv6":                 {"[2001:db8::1]:1234", []string{"[2001:db9::7]:99"}, "2001:db9::7", true},
		"a client that begins the list":   {"10.1.2.3:1", []string{forged + ", 198.51.100.7"}, "198.51.100.7", true},
		"a client that sends a header":    {"10.1.2.3:1", []string{forged, "198.51.100.7"}, "198.51.100.7", true},
		"two proxies":                     {"10.1.2.3:1", []string{forged + ",198.51.100.7:5 , 10.9.9.9"}, "198.51.100.7", true},
		"proxies alone":                   {"10.1.2.3:1", []string{"10.8.8.8,10.9.9.9"}, "10.8.8.8", true},
		"nonsense left of what is known":  {"10.1.2.3:1", []string{"unknown, 10.9.9.9"}, "10.9.9.9", true},
		"nonsense":                        {"10.1.2.3:1", []string{"\"x"}, "10.1.2.3", true},
		"nothing":                         {"10.1.2.3:1", nil, "10.1.2.3", true},
		"something that is no address":    {"@", []string{forged}, "", false},
		"a proxy's zone is no other name": {"10.1.2.3:1", []string{"fe80::1%eth0"}, "fe80::1", true},
	} {
		r := httptest.NewRequest(http.MethodGet, "/rest/v1/t", nil)
		r.RemoteAddr, r.Host = c.peer, "here"
		if c.from != nil {
			r.Header["X-Forwarded-For"] = c.from
		}
		for h, v := range map[string]string{"X-Forwarded-Proto": "https", "X-Forwarded-Host": "there:1", "X-Forwarded-Port": "1", "Forwarded": "for=" + forged, "X-Real-Ip": forged} {
			r.Header.Set(h, v)
		}
		require.Equal(t, c.through, p.settle(r), name)
		require.Equal(t, c.client, clientText(r), name)
		if c.through {
			require.Equal(t, "there:1", r.Host, name)
			require.Equal(t, "https", r.Header.Get("X-Forwarded-Proto"), name)
		} else {
			require.Equal(t, "here", r.Host, name)
			require.Empty(t, r.Header, name)
		}
		if from := r.Header.Get("X-Forwarded-For"); from != "" {
			require.Equal(t, c.client, from, name)
		}
		for _, h := range []string{"Forwarded", "X-Real-Ip", "X-Forwarded-Port"} {
			require.Empty(t, r.Header[h], name)
		}
	}

	for _, bad := range []string{"x", "10.0.0.0/33", "", "10.0.0.0/8,11.0.0.0/8", "example.com"} {
		require.Error(t, CheckProxies([]string{bad}), bad)
	}
	for _, host := range []string{"a b", "a/b", "x@y", "\r\n", "", "a,"} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr, r.Host = "10.0.0.1:1", "here"
		r.Header.Set("X-Forwarded-Host", host)
		r.Header.Set("X-Forwarded-Proto", "gopher")
		p.settle(r)
		require.Equal(t, "here", r.Host)
		require.Empty(t, r.Header["X-Forwarded-Proto"])
	}
}

func FuzzForwarded(f *testing.F) {
	f.Add("198.51.100.7, 10.0.0.1", "a.example.com", "https")
	f.Add("[2001:db8::1%x]:9,,unknown", "[::1]:80", "http,https")
	p, err := parseProxies([]string{"10.0.0.0/8"})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, from, host, proto string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = "10.0.0.1:1"
		r.Header["X-Forwarded-For"], r.Header["X-Forwarded-Host"], r.Header["X-Forwarded-Proto"] = []string{from}, []string{host}, []string{proto}
		require.True(t, p.settle(r))
		require.NotEmpty(t, clientText(r))
		require.Regexp(t, `^[0-9A-Fa-f.:]+$`, clientText(r))
		require.Regexp(t, `^[0-9A-Za-z.:\[\]_-]+$`, r.Host)
	})
}
