package gateway

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/stretchr/testify/require"

	"github.com/gin-gonic/gin"
)

func TestChooseCoding(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]string{
		"": "", "gzip": "gzip", "GZIP": "gzip", "zstd": "zstd", "br": "", "gzip, zstd": "zstd", "gzip, deflate, br, zstd": "zstd", "gzip, deflate": "gzip",
		"gzip;q=1.0, zstd;q=0.5": "gzip", "gzip;q=0": "", "gzip;q=0, *": "zstd", "*": "zstd", "*;q=0": "", "zstd;q=0, *;q=0.1": "gzip",
		"identity": "", "identity, gzip;q=0.5": "", "identity;q=0.5, gzip;q=0.5": "gzip", "gzip;q=2": "", "gzip;q=-1": "", "gzip;q=NaN": "", "gzip;q=x": "", "gzip;x=1": "",
		"gzip ; Q=0.5": "gzip", ",,;;,gzip,": "gzip", "gzip\x00": "", "zstd;q=0.0001, gzip;q=0": "zstd", "x-gzip": "",
	} {
		got := chooseCoding([]string{accept})
		name := ""
		if got != nil {
			name = got.name[0]
		}
		require.Equal(t, want, name, accept)
	}
	require.Equal(t, "gzip", chooseCoding([]string{"br", "gzip"}).name[0])
}

func FuzzAcceptEncoding(f *testing.F) {
	f.Add("gzip, zstd;q=0.5, *;q=0")
	f.Add("identity;q=1, gzip ; q = 0.001")
	f.Fuzz(func(_ *testing.T, accept string) { chooseCoding([]string{accept}) })
}

func TestCompressible(t *testing.T) {
	t.Parallel()
	for contentType, want := range map[string]bool{
		"application/json; charset=utf-8": true, "text/csv; charset=utf-8": true, "application/vnd.pgrst.object+json": true, "application/geo+json": true,
		"application/openapi+json; charset=utf-8": true, "image/svg+xml": true, "application/problem+json": true,
		"image/png": false, "application/octet-stream": false, "": false, "application/gzip": false, "video/mp4": false,
	} {
		require.Equal(t, want, compressible(contentType), contentType)
	}
}

// An answer that is shorter than it said must not pass for a whole one.
func TestShortAnswerIsCutOff(t *testing.T) {
	t.Parallel()
	g := &Gateway{cfg: Config{CompressFrom: 1}}
	answer := func(body string) func() {
		return func() {
			_, e := gin.CreateTestContext(httptest.NewRecorder())
			e.GET("/", g.compress, func(c *gin.Context) {
				c.Header("Content-Type", "text/plain")
				c.Header("Content-Length", "10")
				_, _ = c.Writer.WriteString(body)
			})
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set("Accept-Encoding", "gzip")
			e.ServeHTTP(httptest.NewRecorder(), r)
		}
	}
	require.NotPanics(t, answer("0123456789"))
	require.PanicsWithError(t, http.ErrAbortHandler.Error(), answer("01234"))
}

// gone is a client that left.
type gone struct{ gin.ResponseWriter }

func (gone) Write([]byte) (int, error) { return 0, errors.New("gone") }

// An encoder that could not write what it holds is for no other answer: HTTP/2 may read that still.
func TestEncoderThatCouldNotWriteIsNotUsedAgain(t *testing.T) {
	t.Parallel()
	for _, whole := range []bool{true, false} {
		for range 20 { // a pool may forget, with the race detector on
			c, _ := gin.CreateTestContext(httptest.NewRecorder())
			used := &coding{name: []string{"gzip"}}
			w := &compressed{ResponseWriter: gone{c.Writer}, coding: used, from: 1, decided: true}
			w.encoder = gzip.NewWriter(w.ResponseWriter)
			_, _ = w.Write([]byte("some"))
			w.Flush()
			w.end(whole)
			require.Nil(t, used.spare.Get())
		}
	}
}
