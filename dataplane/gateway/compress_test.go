package gateway_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/gateway"
)

// plain is a client that takes what it is given as it is.
var plain = &http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}

func (d *door) ask(t *testing.T, method, path string, adjust ...func(*http.Request)) (*http.Response, []byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, d.url+path, nil)
	require.NoError(t, err)
	for _, f := range adjust {
		f(req)
	}
	resp, err := plain.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

func TestCompression(t *testing.T) {
	t.Parallel()
	d := open(t, func(c *gateway.Config) { c.CompressFrom = 1000 })
	auth, jsonType, tag := with("Authorization", "Bearer "+d.token(t, "acme")), with("X-Type", "application/json; charset=utf-8"), with("X-Tag", `"abc"`)
	for accept, name := range map[string]string{"gzip": "gzip", "gzip, deflate, br, zstd": "zstd", "zstd;q=0.1, gzip;q=0.2": "gzip"} {
		resp, body, err := d.ask(t, http.MethodGet, "/rest/v1/long", auth, jsonType, tag, with("Accept-Encoding", accept))
		require.NoError(t, err)
		require.Equal(t, 206, resp.StatusCode)
		require.Equal(t, name, resp.Header.Get("Content-Encoding"))
		require.Equal(t, "Accept-Encoding", resp.Header.Get("Vary"))
		require.Equal(t, `W/"abc"`, resp.Header.Get("ETag"), "it is not byte for byte what it was")
		require.Empty(t, resp.Header.Get("Content-Length"))
		require.Less(t, len(body), len(long)/10)
		var r io.Reader
		if name == "gzip" {
			r, err = gzip.NewReader(strings.NewReader(string(body)))
		} else {
			r, err = zstd.NewReader(strings.NewReader(string(body)))
		}
		require.NoError(t, err)
		text, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Equal(t, long, string(text))
	}
	for what, c := range map[string][]func(*http.Request){
		"not asked for":     {jsonType},
		"not wanted":        {jsonType, with("Accept-Encoding", "gzip;q=0, identity")},
		"not known":         {jsonType, with("Accept-Encoding", "br, deflate")},
		"compressed before": {with("X-Type", "image/png"), with("Accept-Encoding", "gzip")},
		"of unknown type":   {with("Accept-Encoding", "gzip")},
	} {
		resp, body, err := d.ask(t, http.MethodGet, "/rest/v1/long", append(c, auth, tag)...)
		require.NoError(t, err, what)
		require.Empty(t, resp.Header.Get("Content-Encoding"), what)
		require.Equal(t, "Accept-Encoding", resp.Header.Get("Vary"), what)
		require.Equal(t, strconv.Itoa(len(long)), resp.Header.Get("Content-Length"), what)
		require.Equal(t, `"abc"`, resp.Header.Get("ETag"), what)
		require.Equal(t, long, string(body), what)
	}
	// Without a body there is nothing to compress.
	resp, _, err := d.ask(t, http.MethodHead, "/rest/v1/long", auth, jsonType, with("Accept-Encoding", "gzip"))
	require.NoError(t, err)
	require.Empty(t, resp.Header.Get("Content-Encoding"))
	require.Equal(t, strconv.Itoa(len(long)), resp.Header.Get("Content-Length"))

	// Short answers, and errors, go out as they are.
	resp, _, err = d.ask(t, http.MethodGet, "/rest/v1/broken", auth, with("Accept-Encoding", "gzip"))
	require.NoError(t, err)
	require.Equal(t, 500, resp.StatusCode)
	require.Empty(t, resp.Header.Get("Content-Encoding"))

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.url+"/rest/v1/half-long", nil)
	require.NoError(t, err)
	auth(req)
	req.Header.Set("Accept-Encoding", "gzip")
	if resp, err = plain.Do(req); err == nil {
		_, err = io.ReadAll(resp.Body)
		require.NoError(t, resp.Body.Close())
	}
	require.Error(t, err, "half an answer must not look like a whole one")

	off := open(t, func(c *gateway.Config) { c.CompressFrom = -1 })
	resp, _, err = off.ask(t, http.MethodGet, "/rest/v1/long", with("Authorization", "Bearer "+off.token(t, "acme")), jsonType, with("Accept-Encoding", "gzip"))
	require.NoError(t, err)
	require.Empty(t, resp.Header.Get("Content-Encoding"))
}

// A compressed body could be a thousand times what it is sent as.
func TestCompressedBodiesAreRefused(t *testing.T) {
	t.Parallel()
	d := open(t)
	auth := with("Authorization", "Bearer "+d.token(t, "acme"))
	for _, coding := range []string{"gzip", "br", "deflate, gzip", "GZIP"} {
		a := d.get(t, "/rest/v1/t", auth, with("Content-Encoding", coding))
		require.Equal(t, 415, a.status, coding)
		require.Equal(t, "identity", a.header.Get("Accept-Encoding"))
		require.Contains(t, a.body, "content_encoding")
	}
	require.Equal(t, 200, d.get(t, "/rest/v1/t", auth, with("Content-Encoding", "identity")).status)
}
