package gateway

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/freehold-db/freehold/dataplane/fault"
)

// Bounds of a connection. A body may take bodyFor to arrive, an answer as long
// as a request may take and writeFor on top.
const (
	headerFor = 5 * time.Second // a starved machine must not turn honest clients away
	bodyFor   = 15 * time.Second
	writeFor  = 5 * time.Second
	idleFor   = 60 * time.Second
	maxHeader = 16 << 10
	// bodyCeiling is the largest body that a plan can allow.
	bodyCeiling = 64 << 20
	// maxStreams is how many requests one connection of HTTP/2 may have under way.
	maxStreams = 100
	// silentFor is how long a connection of HTTP/2 may take nothing of what it is sent.
	silentFor = 10 * time.Second
	// drainMax is how much of a body that is too large is taken in after its refusal, within bodyFor.
	drainMax = 256 << 20
)

// NewServer returns a server for h with bounds on everything a client can draw
// out, each request of HTTP/2 included. Let it serve a [Listener].
func NewServer(h http.Handler, requestFor time.Duration) *http.Server {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: headerFor, ReadTimeout: bodyFor, WriteTimeout: requestFor + writeFor,
		IdleTimeout: idleFor, MaxHeaderBytes: maxHeader,
		Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams, WriteByteTimeout: silentFor},
	}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(true) // by TLS alone
	watchHeads(s)
	return s
}

// strict refuses requests that two servers in a row could read differently, and bodies that are too large.
func (g *Gateway) strict(c *gin.Context) {
	r := c.Request
	headIsOver(r.Context())
	if g.parting.Load() {
		c.Header("Connection", "close") // to HTTP/2, net/http says GOAWAY instead
	}
	// net/http takes the host of an absolute-form target over the Host header
	// and drops the latter, so a disagreement cannot be seen here any more.
	if r.URL.Host != "" || r.URL.Scheme != "" {
		fault.Write(c, fault.New(http.StatusBadRequest, "absolute_target", "The request's target is a whole URL").
			WithHint("Send the path alone; this is no proxy."))
		return
	}
	if r.ProtoMajor == 2 && !sameHost(r) {
		fault.Write(c, fault.New(http.StatusBadRequest, "ambiguous_host", "The request names two hosts").
			WithHint("Send :authority alone."))
		return
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		c.Header("Accept-Encoding", "identity")
		fault.Write(c, fault.New(http.StatusUnsupportedMediaType, "content_encoding", "A request's body is taken as it is, not compressed").
			WithHint("Leave out Content-Encoding, and send the body plain."))
		return
	}
	// net/http drops a Content-Length beside Transfer-Encoding without a word.
	// Ending the connection, as RFC 9112 §6.1 wants it, takes away what could
	// have been smuggled behind the body.
	if len(r.TransferEncoding) > 0 {
		c.Header("Connection", "close")
	}
	body := r.Body
	if body == nil || body == http.NoBody {
		return
	}
	// A tenant's own bound comes when the tenant is known; see limit.
	if most := max(g.cfg.MaxBody, bodyCeiling); r.ContentLength > most {
		if r.ProtoMajor == 1 {
			c.Header("Connection", "close")
		}
		fault.Write(c, &http.MaxBytesError{Limit: most})
	} else {
		r.Body = http.MaxBytesReader(c.Writer, body, most)
		c.Next()
	}
	status := c.Writer.Status()
	unread := status == http.StatusRequestEntityTooLarge || r.ContentLength > g.cfg.MaxBody && status >= http.StatusBadRequest
	// A stream of HTTP/2 is reset by itself, and its answer is read before.
	if unread && r.Header.Get("Expect") == "" && r.ProtoMajor == 1 {
		drain(c.Writer, body)
	}
}

// sameHost tells whether what else an HTTP/2 request says of its host agrees
// with :authority; net/http does not look.
func sameHost(r *http.Request) bool {
	hosts := r.Header["Host"]
	delete(r.Header, "Host")
	return len(hosts) == 0 || len(hosts) == 1 && hosts[0] == r.Host
}

// drain takes in, within bounds, what the client still sends. Many read no
// answer before they have sent all, and a connection closed with something
// unread is reset: the client would not learn what was wrong.
func drain(w gin.ResponseWriter, body io.Reader) {
	w.Flush()
	_, _ = io.CopyN(io.Discard, body, drainMax)
}

// Request IDs are a random start per process and a count: they find a request
// in the log and need not be secret.
var (
	requestPrefix = func() string {
		var b [6]byte
		_, _ = rand.Read(b[:]) // never fails: the runtime ends the process first
		return hex.EncodeToString(b[:]) + "-"
	}()
	requestCount atomic.Uint64
)

// requestID takes the client's if that counts and is harmless, and makes one otherwise.
func requestID(r *http.Request, counts bool) string {
	if id := r.Header.Get("X-Request-Id"); counts && id != "" && len(id) <= 64 && harmless(id) {
		return id
	}
	delete(r.Header, "X-Request-Id")
	return string(strconv.AppendUint(append(make([]byte, 0, 32), requestPrefix...), requestCount.Add(1), 36))
}

func harmless(s string) bool {
	for i := range len(s) {
		b := s[i]
		if (b < '0' || b > '9') && (b < 'a' || b > 'z') && (b < 'A' || b > 'Z') && b != '-' && b != '_' && b != '.' {
			return false
		}
	}
	return true
}
