package gateway_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/gateway"
)

func options(r *http.Request) { r.Method = http.MethodOptions }

func TestPreflightNeedsNoToken(t *testing.T) {
	t.Parallel()
	d := open(t)
	for _, path := range []string{"/rest/v1/t", "/rest/v1/", "/sql", "/rest/v1/rpc/f"} {
		a := d.get(t, path, options, with("Origin", "http://example.com"), with("Access-Control-Request-Method", "POST"),
			with("Access-Control-Request-Headers", "Foo,Bar, b@d,"))
		require.Equal(t, 200, a.status, path)
		require.Empty(t, a.body)
		for name, want := range map[string]string{
			"Access-Control-Allow-Origin":      "*",
			"Access-Control-Allow-Methods":     "GET, POST, PATCH, PUT, DELETE, OPTIONS, HEAD",
			"Access-Control-Allow-Headers":     "Authorization, Foo, Bar, Accept, Accept-Language, Content-Language",
			"Access-Control-Max-Age":           "86400",
			"Access-Control-Allow-Credentials": "",
		} {
			require.Equal(t, want, a.header.Get(name), "%s %s", path, name)
		}
	}
	flood := d.get(t, "/rest/v1/t", options, with("Origin", "null"), with("Access-Control-Request-Method", "POST"),
		with("Access-Control-Request-Headers", strings.Repeat("x,", 5000)))
	require.Less(t, len(flood.header.Get("Access-Control-Allow-Headers")), 400)

	// What is no preflight is authenticated like everything else.
	require.Equal(t, 401, d.get(t, "/rest/v1/t", options, with("Origin", "http://example.com")).status)
	bare := d.get(t, "/rest/v1/t", options, with("Access-Control-Request-Method", "POST"))
	require.Equal(t, 401, bare.status)
	require.Equal(t, "*", bare.header.Get("Access-Control-Allow-Origin"), "OPTIONS says so without being asked")
}

func TestEveryAnswerIsForAllOrigins(t *testing.T) {
	t.Parallel()
	d := open(t)
	auth, origin := with("Authorization", "Bearer "+d.token(t, "acme")), with("Origin", "http://example.com")
	for path, status := range map[string]int{"/rest/v1/t": 200, "/rest/v1/broken": 500, "/rest/v1/panic": 500, "/nothing": 404} {
		a := d.get(t, path, auth, origin)
		require.Equal(t, status, a.status)
		require.Equal(t, "*", a.header.Get("Access-Control-Allow-Origin"), path)
		require.Equal(t, "Content-Encoding, Content-Location, Content-Range, Content-Type, Date, Location, Server, Transfer-Encoding, Range-Unit",
			a.header.Get("Access-Control-Expose-Headers"), path)
		require.Equal(t, "Accept-Encoding", a.header.Get("Vary"))
	}
	a := d.get(t, "/rest/v1/t", origin)
	require.Equal(t, 401, a.status)
	require.Equal(t, "*", a.header.Get("Access-Control-Allow-Origin"))
	require.Empty(t, d.get(t, "/rest/v1/t", auth).header.Get("Access-Control-Allow-Origin"))
}

func TestListedOrigins(t *testing.T) {
	t.Parallel()
	d := open(t, func(c *gateway.Config) { c.Origins = []string{"https://app.example.com", "http://localhost:3000"} })
	auth, preflight := with("Authorization", "Bearer "+d.token(t, "acme")), with("Access-Control-Request-Method", "GET")
	for _, origin := range []string{"https://app.example.com", "http://localhost:3000"} {
		require.Equal(t, 200, d.get(t, "/rest/v1/t", options, preflight, with("Origin", origin)).status)
		a := d.get(t, "/rest/v1/t", auth, with("Origin", origin))
		require.Equal(t, origin, a.header.Get("Access-Control-Allow-Origin"))
		require.Equal(t, "true", a.header.Get("Access-Control-Allow-Credentials"))
		require.Equal(t, "Accept-Encoding, Origin", a.header.Get("Vary"))
	}
	for _, origin := range []string{"https://evil.example.com", "https://app.example.com.evil.com", "http://app.example.com", "https://APP.example.com", "null", ""} {
		require.Empty(t, d.get(t, "/rest/v1/t", options, preflight, with("Origin", origin)).header.Get("Access-Control-Allow-Methods"))
		a := d.get(t, "/rest/v1/t", auth, with("Origin", origin))
		require.Equal(t, 200, a.status, "what a browser makes of it is the browser's")
		require.Empty(t, a.header.Get("Access-Control-Allow-Origin"), origin)
		require.Equal(t, "Accept-Encoding, Origin", a.header.Get("Vary"))
	}
	none := open(t, func(c *gateway.Config) { c.Origins = []string{"none"} })
	require.Equal(t, 401, none.get(t, "/rest/v1/t", options, preflight, with("Origin", "https://app.example.com")).status)

	for _, bad := range [][]string{{"*", "https://app.example.com"}, {"app.example.com"}, {"https://app.example.com/"}, {"ftp://x"}, {""}, {"none", "*"}} {
		require.Error(t, gateway.CheckOrigins(bad), bad)
	}
}

// What could be read as a request behind a preflight's body is never taken for one.
func TestPreflightWithABodyEndsItsConnection(t *testing.T) {
	t.Parallel()
	d := open(t)
	const behind = "0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
	got := d.raw(t, "OPTIONS /rest/v1/t HTTP/1.1\r\nHost: h\r\nOrigin: http://example.com\r\nAccess-Control-Request-Method: POST\r\n"+
		"Content-Length: 38\r\nTransfer-Encoding: chunked\r\n\r\n"+behind)
	require.Equal(t, []string{"200 OK"}, got)
}
