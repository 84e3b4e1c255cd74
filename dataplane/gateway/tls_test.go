package gateway_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/freehold-db/freehold/internal/servertls"
	"github.com/freehold-db/freehold/internal/servertls/servertlstest"
)

// secure is a door by TLS, and the configuration of a client that trusts it.
func secure(t *testing.T, d *door) (address string, client *tls.Config) {
	t.Helper()
	ca := servertlstest.New(t)
	cert, err := servertls.Load(ca.Issue(t, t.TempDir(), "127.0.0.1"), tls.VersionTLS12, []string{"h2", "http/1.1"}, nil)
	require.NoError(t, err)
	return d.serve(t, cert.Config()), &tls.Config{RootCAs: ca.Pool, MinVersion: tls.VersionTLS12}
}

func TestBothVersionsOfHTTPByTLS(t *testing.T) {
	t.Parallel()
	d := open(t)
	address, trust := secure(t, d)
	for _, version := range []int{1, 2} {
		transport := &http.Transport{TLSClientConfig: trust.Clone(), ForceAttemptHTTP2: version == 2}
		t.Cleanup(transport.CloseIdleConnections)
		client := &http.Client{Transport: transport}
		for range 3 {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+address+"/rest/v1/t", strings.NewReader("{}"))
			require.NoError(t, err)
			req.Header.Set("Authorization", "Bearer "+d.token(t, "acme"))
			resp, err := client.Do(req)
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, "acme", string(body))
			require.Equal(t, version, resp.ProtoMajor)
			require.Equal(t, uint16(tls.VersionTLS13), resp.TLS.Version)
		}
		// Too large a body is answered, however it comes.
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+address+"/rest/v1/t", io.LimitReader(endless{}, 8<<20))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+d.token(t, "acme"))
		resp, err := client.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
	}
	trust.MaxVersion = tls.VersionTLS11
	trust.MinVersion = tls.VersionTLS10
	_, err := tls.Dial("tcp", address, trust)
	require.Error(t, err)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// What is refused in a plain head is refused inside of TLS, too.
func TestAmbiguousHeadsByTLS(t *testing.T) {
	t.Parallel()
	d := open(t)
	address, trust := secure(t, d)
	trust.NextProtos = []string{"http/1.1"}
	auth := "Authorization: Bearer " + d.token(t, "acme") + "\r\n"
	for text, want := range map[string]int{
		"GET /rest/v1/t HTTP/1.1\r\nHost: h\r\n" + auth + "\r\n":               200,
		"GET /rest/v1/t HTTP/1.1\nHost: h\n" + auth + "\n":                     400,
		"GET /rest/v1/t HTTP/1.1\r\nHost: h\r\n" + auth + "X: a\r\n b\r\n\r\n": 400,
		"GET /rest/v1/t HTTP/1.1\r\nHost: h\r\n" + auth + "X: a\rY: b\r\n\r\n": 400,
	} {
		conn, err := tls.Dial("tcp", address, trust)
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
		_, err = io.WriteString(conn, text)
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.Equal(t, want, resp.StatusCode, text)
		require.NoError(t, conn.Close())
	}
}

// framer is a client of HTTP/2 that says whatever it is told to.
func framer(t *testing.T, address string, trust *tls.Config) *http2.Framer {
	t.Helper()
	trust = trust.Clone()
	trust.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", address, trust)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	_, err = io.WriteString(conn, http2.ClientPreface)
	require.NoError(t, err)
	fr := http2.NewFramer(conn, bufio.NewReader(conn))
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	require.NoError(t, fr.WriteSettings())
	return fr
}

func block(pairs ...string) []byte {
	var b strings.Builder
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(pairs); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return []byte(b.String())
}

// outcome is the status that a stream is answered with, or "reset".
func outcome(t *testing.T, fr *http2.Framer, stream uint32) string {
	t.Helper()
	for {
		f, err := fr.ReadFrame()
		require.NoError(t, err)
		if f.Header().StreamID != stream {
			continue
		}
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			return "reset"
		case *http2.MetaHeadersFrame:
			return f.PseudoValue("status")
		}
	}
}

func TestAmbiguousHTTP2IsRefused(t *testing.T) {
	t.Parallel()
	d := open(t)
	address, trust := secure(t, d)
	head := []string{":method", "GET", ":scheme", "https", ":path", "/rest/v1/t", ":authority", "acme.db.example.com", "authorization", "Bearer " + d.token(t, "acme")}
	for name, c := range map[string]struct {
		add  []string
		want string
	}{
		"a good one":          {nil, "200"},
		"the same host twice": {[]string{"host", "acme.db.example.com"}, "200"},
		"two hosts":           {[]string{"host", "rival.db.example.com"}, "400"},
		"three hosts":         {[]string{"host", "acme.db.example.com", "host", "rival.db.example.com"}, "400"},
		"transfer encoding":   {[]string{"transfer-encoding", "chunked"}, "400"},
		"connection":          {[]string{"connection", "close"}, "400"},
		"a line end":          {[]string{"x", "a\r\nb: c"}, "reset"},
		"a capital":           {[]string{"X-Y", "a"}, "reset"},
		"a second path":       {[]string{":path", "/"}, "reset"},
	} {
		fr := framer(t, address, trust)
		require.NoError(t, fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(append(head[:len(head):len(head)], c.add...)...), EndStream: true, EndHeaders: true}))
		require.Equal(t, c.want, outcome(t, fr, 1), name)
	}
	for name, c := range map[string][]string{
		"a whole URL":     {":method", "GET", ":scheme", "https", ":authority", "h", ":path", "https://rival.db.example.com/rest/v1/t"},
		"CONNECT":         {":method", "CONNECT", ":authority", "h:443"},
		"no path":         {":method", "GET", ":scheme", "https", ":authority", "h", ":path", ""},
		"another's space": {":method", "GET", ":scheme", "https", ":authority", "h", ":path", "rest/v1/t"},
	} {
		fr := framer(t, address, trust)
		require.NoError(t, fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(append(c, "authorization", "Bearer "+d.token(t, "acme"))...), EndStream: true, EndHeaders: true}))
		require.Contains(t, []string{"400", "404", "reset"}, outcome(t, fr, 1), name)
	}
	// A body longer than was said is cut off.
	fr := framer(t, address, trust)
	require.NoError(t, fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(append([]string{":method", "POST"}, append(head[2:], "content-length", "2")...)...), EndHeaders: true}))
	require.NoError(t, fr.WriteData(1, true, []byte("{}{}")))
	require.Contains(t, []string{"reset", "400"}, outcome(t, fr, 1))
}

// Requests that are taken back as soon as they are made ("rapid reset") and
// heads without end cost their connection, and nobody else's.
func TestFloodsOfHTTP2(t *testing.T) {
	t.Parallel()
	d := open(t)
	address, trust := secure(t, d)
	one := block(":method", "GET", ":scheme", "https", ":path", "/rest/v1/t", ":authority", "h", "authorization", "Bearer "+d.token(t, "acme"))
	fr := framer(t, address, trust)
	go func(fr *http2.Framer) { // reads what comes, so that the server is never held up by us
		for {
			if _, err := fr.ReadFrame(); err != nil {
				return
			}
		}
	}(fr)
	for stream := uint32(1); stream < 8_000; stream += 2 {
		if fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: one, EndStream: true, EndHeaders: true}) != nil ||
			fr.WriteRSTStream(stream, http2.ErrCodeCancel) != nil {
			break // the server had enough
		}
	}
	fr = framer(t, address, trust)
	require.NoError(t, fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: one}))
	var err error
	for range 100_000 {
		if err = fr.WriteContinuation(1, false, block("x", strings.Repeat("y", 1000))); err != nil {
			break
		}
	}
	require.Error(t, err, "a head may have no end")

	require.Eventually(t, func() bool { return d.UnderWay() == 0 }, 20*time.Second, 10*time.Millisecond)
	fr = framer(t, address, trust)
	require.NoError(t, fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: one, EndStream: true, EndHeaders: true}))
	require.Equal(t, "200", outcome(t, fr, 1), "still served")
}

// Who does not shake hands holds nobody up.
func TestSilentHandshakes(t *testing.T) {
	t.Parallel()
	d := open(t)
	address, trust := secure(t, d)
	for range 50 {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
	}
	plain, err := net.Dial("tcp", address)
	require.NoError(t, err)
	_, err = io.WriteString(plain, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
	require.NoError(t, err)
	require.NoError(t, plain.SetDeadline(time.Now().Add(20*time.Second)))
	text, _ := io.ReadAll(plain)
	require.NotContains(t, string(text), "200 OK")
	conn, err := tls.Dial("tcp", address, trust)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}
