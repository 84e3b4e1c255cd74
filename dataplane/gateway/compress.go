package gateway

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/gin-gonic/gin"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// encoder compresses an answer; it is used again after Reset.
type encoder interface {
	io.WriteCloser
	Flush() error
	Reset(io.Writer)
}

// coding is a content coding that answers can have. Both are at their fastest:
// what they save beyond that is not worth a database server's processor time.
type coding struct {
	name  []string // as a header's value
	spare sync.Pool
}

var codings = []*coding{ // of two that a client likes equally, the first
	{name: []string{"zstd"}, spare: sync.Pool{New: func() any {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(128<<10), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic("gateway: " + err.Error()) // the options above are wrong
		}
		return e
	}}},
	{name: []string{"gzip"}, spare: sync.Pool{New: func() any {
		e, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
		if err != nil {
			panic("gateway: " + err.Error())
		}
		return e
	}}},
}

// compress has answers compressed that are long enough and whose clients want
// it. An answer's secrets are its reader's own: no page of another origin has
// requests made with somebody's bearer token, so that there is nobody to learn
// from the length of what was compressed.
func (g *Gateway) compress(c *gin.Context) {
	accept := c.Request.Header["Accept-Encoding"]
	if len(accept) == 0 || g.cfg.CompressFrom < 0 || c.Request.Method == http.MethodHead {
		return
	}
	chosen := chooseCoding(accept)
	if chosen == nil {
		return
	}
	w := &compressed{ResponseWriter: c.Writer, coding: chosen, from: g.cfg.CompressFrom}
	c.Writer = w
	whole := false
	defer func() {
		c.Writer = w.ResponseWriter
		w.end(whole)
	}()
	c.Next()
	whole = true
}

// compressed is a writer that compresses if the answer's header allows it.
type compressed struct {
	gin.ResponseWriter
	coding  *coding
	from    int
	decided bool
	encoder encoder // nil: the answer goes out as it is
	missing int     // bytes that the answer still has to have
	failed  bool    // something could not be written
}

// decide looks at the answer's header when it is about to be sent. Only what
// says how long it is, is compressed: all that is worth it does.
func (w *compressed) decide() {
	if w.decided {
		return
	}
	w.decided = true
	h := w.Header()
	length, err := strconv.Atoi(h.Get("Content-Length"))
	if err != nil || length < w.from || w.Status() < http.StatusOK || h.Get("Content-Encoding") != "" || !compressible(h.Get("Content-Type")) {
		return
	}
	w.missing = length
	h.Del("Content-Length")
	h["Content-Encoding"] = w.coding.name
	// A strong tag stands for the very bytes, which now are others.
	if tag := h.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		h.Set("ETag", "W/"+tag)
	}
	w.encoder = w.coding.spare.Get().(encoder) //nolint:errcheck,forcetypeassert // the pool's own
	w.encoder.Reset(w.ResponseWriter)
}

func (w *compressed) WriteHeaderNow() {
	w.decide()
	w.ResponseWriter.WriteHeaderNow()
}

func (w *compressed) Write(p []byte) (int, error) {
	w.WriteHeaderNow()
	if w.encoder == nil {
		return w.ResponseWriter.Write(p)
	}
	w.missing -= len(p)
	n, err := w.encoder.Write(p)
	w.failed = w.failed || err != nil
	return n, err
}

func (w *compressed) WriteString(s string) (int, error) { return w.Write([]byte(s)) }

func (w *compressed) Flush() {
	w.WriteHeaderNow()
	if w.encoder != nil {
		w.failed = w.encoder.Flush() != nil || w.failed // a client that is gone is nobody to tell
	}
	w.ResponseWriter.Flush()
}

// Unwrap is for http.ResponseController.
func (w *compressed) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// end completes the answer. One that was cut short stays incomplete, so that it
// cannot pass for a whole one. An encoder whose output could not be written is
// for nobody else: on a stream of HTTP/2 that was reset, the connection's own
// goroutine may look at it still.
func (w *compressed) end(whole bool) {
	if w.encoder == nil {
		return
	}
	short := whole && w.missing > 0
	if whole && !short {
		w.failed = w.encoder.Close() != nil || w.failed
	}
	if !w.failed {
		w.encoder.Reset(nil)
		w.coding.spare.Put(w.encoder)
	}
	w.encoder = nil
	if short { // uncompressed, net/http would see it by the length
		panic(http.ErrAbortHandler)
	}
}

// compressible tells whether a type is text at heart. Others are compressed
// already, or unknown to us.
func compressible(contentType string) bool {
	mediaType, _, _ := strings.Cut(contentType, ";")
	mediaType = strings.ToLower(strings.TrimSpace(mediaType))
	switch {
	case strings.HasPrefix(mediaType, "text/"), strings.HasSuffix(mediaType, "+json"), strings.HasSuffix(mediaType, "+xml"), strings.HasSuffix(mediaType, "+text"):
		return true
	}
	switch mediaType {
	case "application/json", "application/xml", "application/vnd.pgrst.plan":
		return true
	}
	return false
}

// chooseCoding picks what the client likes best of what we have; nil: nothing
// of ours, or it likes the answer better as it is (RFC 9110 §12.5.3).
func chooseCoding(accept []string) *coding {
	best, chosen := 0.0, (*coding)(nil)
	identity, others := -1.0, -1.0 // not named
	var named [8]float64
	for i := range named {
		named[i] = -1
	}
	for _, header := range accept {
		for part := range strings.SplitSeq(header, ",") {
			name, q := weighted(part)
			switch {
			case strings.EqualFold(name, "identity"):
				identity = q
			case name == "*":
				others = q
			}
			for i, c := range codings {
				if strings.EqualFold(name, c.name[0]) {
					named[i] = q
				}
			}
		}
	}
	for i, c := range codings {
		q := named[i]
		if q < 0 {
			q = others
		}
		if q > best {
			best, chosen = q, c
		}
	}
	if identity > best {
		return nil
	}
	return chosen
}

// weighted reads `name;q=0.5`. A weight that is none counts as 0: who cannot
// say what it wants gets what everybody can read.
func weighted(part string) (name string, q float64) {
	name, params, some := strings.Cut(part, ";")
	name = strings.TrimSpace(name)
	if !some {
		return name, 1
	}
	key, value, ok := strings.Cut(strings.TrimSpace(params), "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(key), "q") {
		return name, 0
	}
	q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || q < 0 || q > 1 { // NaN is none of these, and never better than anything
		return name, 0
	}
	return name, q
}
