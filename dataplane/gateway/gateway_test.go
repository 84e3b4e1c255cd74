package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/freehold-db/freehold/dataplane/fault"
	"github.com/freehold-db/freehold/dataplane/gateway"
	"github.com/freehold-db/freehold/dataplane/gateway/bearer"
	"github.com/freehold-db/freehold/dataplane/gateway/limit"
	"github.com/freehold-db/freehold/dataplane/gateway/policy"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/issuer"
	"github.com/freehold-db/freehold/internal/telemetry"
)

type boundKey struct{}

// long is an answer worth to be compressed.
var long = strings.Repeat(`{"id":1,"name":"somebody"},`, 1000)

// door is a gateway before one handler that answers with the tenant it was bound to.
type door struct {
	*gateway.Gateway
	url    string
	issuer *issuer.Server
	log    *syncBuffer
	ready  error
	docs   *access.Directory

	mu     sync.Mutex
	events []access.Event

	figures prometheus.Gatherer
}

// reported returns what was reported for the audit log since it was asked last.
func (d *door) reported() []access.Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	events := d.events
	d.events = nil
	return events
}

// metrics is what operators would see now.
func (d *door) metrics() string {
	w := httptest.NewRecorder()
	promhttp.HandlerFor(d.figures, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func open(t *testing.T, adjust ...func(*gateway.Config)) *door {
	t.Helper()
	iss, err := issuer.Start(t.Context(), t.TempDir(), "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = iss.Stop(context.Background()) })
	registry := telemetry.NewRegistry()
	d := &door{issuer: iss, log: &syncBuffer{}, figures: registry, docs: access.NewDirectory(func(context.Context, string) ([]byte, error) { return nil, nil })}
	d.docs.Begin()
	require.True(t, d.docs.Take(access.FleetKey, []byte(`{"version":1}`)))
	d.docs.Whole()
	log := slog.New(slog.NewTextHandler(d.log, nil))
	v, err := bearer.New(bearer.Config{Issuers: []bearer.Issuer{{Issuer: access.Issuer{URL: iss.URL(), JWKSURL: iss.JWKSURL()}}},
		Audience: issuer.Audience, Algorithms: []string{"EdDSA", "ES256", "RS256"}, Leeway: 5 * time.Second, MaxToken: 8 << 10, Log: log,
		Directory: d.docs})
	require.NoError(t, err)
	require.NoError(t, v.Refresh(t.Context()))
	cfg := gateway.Config{
		Verifier: v, MaxBody: 1000, RequestFor: 30 * time.Second, Registry: registry, Log: log,
		Policies: policy.New(d.docs, log),
		Report: func(e access.Event) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.events = append(d.events, e)
		},
		Ready: func() error { return d.ready },
		Bind: func(ctx context.Context, id *bearer.Identity) context.Context {
			return context.WithValue(ctx, boundKey{}, string(id.Tenant))
		},
	}
	for _, f := range adjust {
		f(&cfg)
	}
	d.Gateway, err = gateway.New(cfg)
	require.NoError(t, err)
	d.API().Any("/rest/v1/:table", func(c *gin.Context) {
		if _, err := io.ReadAll(c.Request.Body); err != nil {
			fault.Write(c, err)
			return
		}
		switch c.Param("table") {
		case "broken":
			fault.Write(c, fmt.Errorf("shard: %w", errors.New("secret of the house")))
			return
		case "odd":
			fault.Write(c, fault.New(299, "PT299", "odd"))
			return
		case "panic":
			panic("secret of the house")
		case "half":
			_, _ = c.Writer.WriteString("half")
			panic("secret of the house")
		case "half-long":
			c.Header("Content-Length", strconv.Itoa(len(long)))
			c.Header("Content-Type", "application/json")
			_, _ = c.Writer.WriteString(long[:len(long)/2])
			panic("secret of the house")
		case "long":
			c.Header("Content-Length", strconv.Itoa(len(long)))
			c.Header("Content-Type", c.GetHeader("X-Type"))
			c.Header("ETag", c.GetHeader("X-Tag"))
			c.Status(http.StatusPartialContent)
			_, _ = c.Writer.WriteString(long[:100])
			c.Writer.Flush()
			_, _ = c.Writer.WriteString(long[100:])
			return
		}
		deadline, ok := c.Request.Context().Deadline()
		require.True(t, ok && time.Until(deadline) <= 30*time.Second)
		c.String(http.StatusOK, "%s", c.Request.Context().Value(boundKey{}))
	})
	d.url = "http://" + d.serve(t, nil)
	return d
}

// serve has d listen, with TLS if that is configured, and returns its address.
// Bodies may take as long as they like.
func (d *door) serve(t *testing.T, secure *tls.Config) string {
	t.Helper()
	return d.serveFor(t, secure, 10*time.Minute)
}

// serveFor is serve with a bound on a body's time.
func (d *door) serveFor(t *testing.T, secure *tls.Config, bodyFor time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := gateway.NewServer(d, 30*time.Second)
	srv.ReadTimeout = bodyFor
	srv.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(gateway.Listener(l, secure))
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	return l.Addr().String()
}

func (d *door) token(t *testing.T, tenant string) string {
	t.Helper()
	tok, err := d.issuer.Mint(issuer.Claims{Tenant: "acme", Role: issuer.RoleEditor})
	if tenant != "acme" {
		tok, err = d.issuer.Mint(issuer.Claims{Tenant: "rival", Role: issuer.RoleEditor})
	}
	require.NoError(t, err)
	return tok
}

type answer struct {
	status int
	body   string
	header http.Header
}

func (d *door) get(t *testing.T, path string, adjust ...func(*http.Request)) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.url+path, nil)
	require.NoError(t, err)
	for _, f := range adjust {
		f(req)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answer{resp.StatusCode, string(body), resp.Header}
}

func with(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Add(name, value) }
}

func host(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }

func TestTenantIsTheTokens(t *testing.T) {
	t.Parallel()
	d := open(t, func(c *gateway.Config) { c.Naming.Domain = "db.example.com" })
	mine := with("Authorization", "Bearer "+d.token(t, "acme"))

	for name, f := range map[string]func(*http.Request){
		"nothing beside the token":  func(*http.Request) {},
		"agreeing header":           with("X-Tenant-ID", "acme"),
		"agreeing subdomain":        host("acme.db.example.com"),
		"with port and in capitals": host("ACME.db.example.com.:7500"),
		"the domain itself":         host("db.example.com"),
		"another domain":            host("rival.example.com"),
	} {
		a := d.get(t, "/rest/v1/t", mine, f)
		require.Equal(t, 200, a.status, name)
		require.Equal(t, "acme", a.body, name)
	}
	for name, f := range map[string]func(*http.Request){
		"header":                 with("X-Tenant-ID", "rival"),
		"empty header":           with("X-Tenant-ID", ""),
		"list in the header":     with("X-Tenant-ID", "acme,rival"),
		"two headers":            func(r *http.Request) { r.Header["X-Tenant-Id"] = []string{"acme", "rival"} },
		"two agreeing headers":   func(r *http.Request) { r.Header["X-Tenant-Id"] = []string{"acme", "acme"} },
		"header in capitals":     with("X-Tenant-ID", "ACME"),
		"subdomain":              host("rival.db.example.com"),
		"subdomain of subdomain": host("acme.rival.db.example.com"),
		"rival's subdomain, own header": func(r *http.Request) {
			r.Host = "rival.db.example.com"
			r.Header.Set("X-Tenant-ID", "acme")
		},
	} {
		a := d.get(t, "/rest/v1/t", mine, f)
		require.Equal(t, 403, a.status, name)
		require.Contains(t, a.body, `"tenant_mismatch"`, name)
	}
	require.Contains(t, d.log.String(), "refused cross-tenant attempt")
	require.Contains(t, d.log.String(), "claimed=rival")
	require.Contains(t, d.metrics(), `freehold_http_requests_refused_total{reason="tenant_mismatch"} 9`)
}

func TestTokenIsNeeded(t *testing.T) {
	t.Parallel()
	d := open(t)
	tok := d.token(t, "acme")
	for name, f := range map[string]func(*http.Request){
		"none":         func(*http.Request) {},
		"other scheme": with("Authorization", "Basic "+tok),
		"bare":         with("Authorization", tok),
		"empty":        with("Authorization", "Bearer "),
		"two headers": func(r *http.Request) {
			r.Header["Authorization"] = []string{"Bearer " + tok, "Bearer " + d.token(t, "rival")}
		},
		"in another header": with("X-Api-Key", tok),
		"garbage":           with("Authorization", "Bearer a.b.c"),
		"too long":          with("Authorization", "Bearer "+strings.Repeat("a", 9000)),
	} {
		a := d.get(t, "/rest/v1/t", f)
		require.Equal(t, 401, a.status, name)
		require.NotEmpty(t, a.header.Get("WWW-Authenticate"), name)
		require.Contains(t, a.body, `"code":"PGRST30`, name)
	}
	require.Equal(t, 401, d.get(t, "/rest/v1/t?token="+tok).status, "a token in the URL ends up in logs")
	require.Equal(t, 200, d.get(t, "/rest/v1/t", with("Authorization", "bEARER "+tok)).status)
}

func TestRateLimitIsPerTenant(t *testing.T) {
	t.Parallel()
	d := open(t, func(c *gateway.Config) {
		c.Limits = limit.New(limit.Options{Defaults: access.Limits{Rate: 0.01, Burst: 3}})
	})
	acme, rival := with("Authorization", "Bearer "+d.token(t, "acme")), with("Authorization", "Bearer "+d.token(t, "rival"))
	for left := 2; left >= 0; left-- {
		a := d.get(t, "/rest/v1/t", acme)
		require.Equal(t, 200, a.status)
		require.Equal(t, `"tenant";q=3;w=300`, a.header.Get("RateLimit-Policy"))
		require.Contains(t, a.header.Get("RateLimit"), fmt.Sprintf(`"tenant";r=%d;`, left))
	}
	a := d.get(t, "/rest/v1/t", acme)
	require.Equal(t, 429, a.status)
	require.Contains(t, a.body, `"rate_limited"`)
	require.NotEmpty(t, a.header.Get("Retry-After"))
	require.Contains(t, a.header.Get("RateLimit"), `"tenant";r=0;`)
	require.Equal(t, 200, d.get(t, "/rest/v1/t", rival).status)
}

func TestBodyIsBounded(t *testing.T) {
	t.Parallel()
	d := open(t)
	post := func(body io.Reader) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.url+"/rest/v1/t", body)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+d.token(t, "acme"))
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		return resp.StatusCode
	}
	require.Equal(t, 200, post(strings.NewReader(strings.Repeat("x", 1000))))
	require.Equal(t, 413, post(strings.NewReader(strings.Repeat("x", 1001))))
	require.Equal(t, 413, post(io.MultiReader(strings.NewReader(strings.Repeat("x", 2000)))), "chunked")
}

// raw sends texts as they are, each after the answer to the one before, and returns the status lines of all that is answered until the connection ends.
func (d *door) raw(t *testing.T, texts ...string) (statuses []string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(d.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	r := bufio.NewReader(conn)
	for {
		if len(texts) > 0 {
			_, err = io.WriteString(conn, texts[0])
			require.NoError(t, err)
			texts = texts[1:]
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return statuses
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		statuses = append(statuses, resp.Status)
		if resp.Close {
			return statuses
		}
	}
}

func TestAmbiguousHTTPIsRefused(t *testing.T) {
	t.Parallel()
	d := open(t)
	auth := "Authorization: Bearer " + d.token(t, "acme") + "\r\n"
	const smuggled = "GET /rest/v1/t HTTP/1.1\r\nHost: h\r\n\r\n"
	for name, text := range map[string]string{
		"absolute target":     "GET http://rival.db.example.com/rest/v1/t HTTP/1.1\r\nHost: acme.db.example.com\r\n" + auth + "Connection: close\r\n\r\n",
		"two lengths":         "POST /rest/v1/t HTTP/1.1\r\nHost: h\r\n" + auth + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"two hosts":           "GET /rest/v1/t HTTP/1.1\r\nHost: h\r\nHost: g\r\n" + auth + "\r\n",
		"no host":             "GET /rest/v1/t HTTP/1.1\r\n" + auth + "\r\n",
		"unknown encoding":    "POST /rest/v1/t HTTP/1.1\r\nHost: h\r\n" + auth + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
		"space before colon":  "POST /rest/v1/t HTTP/1.1\r\nHost: h\r\n" + auth + "Content-Length : 1\r\n\r\na",
		"negative length":     "POST /rest/v1/t HTTP/1.1\r\nHost: h\r\n" + auth + "Content-Length: -1\r\n\r\n",
		"signed length":       "POST /rest/v1/t HTTP/1.1\r\nHost: h\r\n" + auth + "Content-Length: +1\r\n\r\na",
		"bare LF":             "GET /rest/v1/t HTTP/1.1\nHost: h\n" + auth + "Connection: close\n\n",
		"bare LF in a header": "GET /rest/v1/t HTTP/1.1\r\nHost: h\r\n" + auth + "X: a\nTransfer-Encoding: chunked\r\n\r\n",
		"stray CR":            "GET /rest/v1/t HTTP/1.1\r\nHost: h\r\n" + auth + "X: a\rY: b\r\n\r\n",
		"folded line":         "GET /rest/v1/t HTTP/1.1\r\nHost: h\r\n" + auth + "X: a\r\n b\r\n\r\n",
		"headers beyond size": "GET /rest/v1/t HTTP/1.1\r\nHost: h\r\n" + auth + "X: " + strings.Repeat("x", 30_000) + "\r\n\r\n",
	} {
		got := d.raw(t, text)
		require.Len(t, got, 1, name)
		require.Regexp(t, "^(4..|501)", got[0], name)
	}
	// Both lengths: the chunked one holds, and what comes behind on the same connection is never served.
	got := d.raw(t, "POST /rest/v1/t HTTP/1.1\r\nHost: h\r\n"+auth+"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+smuggled)
	require.Len(t, got, 1)
}

// What is refused in a head is fine in a body, on every request of a
// connection, however the bytes arrive.
func TestHeadsEndWhereBodiesBegin(t *testing.T) {
	t.Parallel()
	d := open(t)
	request := "POST /rest/v1/t HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + d.token(t, "acme") + "\r\nContent-Length: 13\r\n\r\n[\n {}, \r{}\n ]"
	last := strings.Replace(request, "Host: h", "Host: h\r\nConnection: close", 1)
	for _, size := range []int{1, 7, 1000, 1 << 20} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(d.url, "http://"))
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		r := bufio.NewReader(conn)
		for _, text := range []string{request, request + request, last} { // the second two are sent ahead
			for rest := text; rest != ""; rest = rest[min(size, len(rest)):] {
				_, err = io.WriteString(conn, rest[:min(size, len(rest))])
				require.NoError(t, err)
			}
			for range strings.Count(text, "POST") {
				resp, err := http.ReadResponse(r, nil)
				require.NoError(t, err, size)
				body, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.Equal(t, "acme", string(body))
			}
		}
		require.NoError(t, conn.Close())
	}
	// A later request of a kept connection is looked at like the first.
	require.Equal(t, []string{"200 OK", "400 Bad Request"}, d.raw(t, request, strings.Replace(last, "\r\n", "\n", 1)))
}

// A client that reads no answer before it has sent all of a far too large body
// is told so all the same.
func TestFarTooLargeBody(t *testing.T) {
	t.Parallel()
	d := open(t)
	const size = 100 << 20
	for name, head := range map[string]string{
		"length":         "Content-Length: 104857600\r\nAuthorization: Bearer " + d.token(t, "acme"),
		"chunked":        "Transfer-Encoding: chunked\r\nAuthorization: Bearer " + d.token(t, "acme"),
		"without token":  "Content-Length: 104857600",
		"before sending": "Content-Length: 104857600\r\nExpect: 100-continue",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(d.url, "http://"))
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		_, err = io.WriteString(conn, "POST /rest/v1/t HTTP/1.1\r\nHost: h\r\n"+head+"\r\n\r\n")
		require.NoError(t, err)
		block := make([]byte, 1<<20)
		for sent := 0; sent < size && name != "before sending"; sent += len(block) {
			if name == "chunked" {
				_, err = fmt.Fprintf(conn, "%x\r\n%s\r\n", len(block), block)
			} else {
				_, err = conn.Write(block)
			}
			require.NoError(t, err, name)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err, name)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err, name)
		require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode, name)
		require.Contains(t, string(body), "body_too_large", name)
		require.True(t, resp.Close, name)
		require.NoError(t, conn.Close())
	}
}

func TestPanicIsOpaque(t *testing.T) {
	t.Parallel()
	d := open(t)
	auth := with("Authorization", "Bearer "+d.token(t, "acme"))
	a := d.get(t, "/rest/v1/panic", auth)
	require.Equal(t, 500, a.status)
	require.NotContains(t, a.body, "secret")
	require.Contains(t, d.log.String(), "secret of the house")

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.url+"/rest/v1/half", nil)
	require.NoError(t, err)
	auth(req)
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	require.Error(t, err, "half an answer must not look like a whole one")
	require.Contains(t, d.metrics(), "freehold_http_requests_under_way 0\n")
}

// A request that failed is one line of the log: whose it was, and why.
func TestFailuresAreLogged(t *testing.T) {
	t.Parallel()
	d := open(t, func(c *gateway.Config) { c.Traces = true })
	a := d.get(t, "/rest/v1/broken", with("Authorization", "Bearer "+d.token(t, "acme")), with("X-Request-Id", "abc-1"))
	require.Equal(t, 500, a.status)
	require.NotContains(t, a.body, "secret")
	require.Eventually(t, func() bool { return strings.Contains(d.log.String(), "msg=request") }, 30*time.Second, time.Millisecond)
	var line string
	for l := range strings.SplitSeq(d.log.String(), "\n") {
		if strings.Contains(l, "msg=request") {
			line = l
		}
	}
	for _, part := range []string{"level=ERROR", "request_id=abc-1", "tenant=acme", "status=500", "code=internal", `err="shard: secret of the house"`, "error_id=", "client=127.0.0.1"} {
		require.Contains(t, line, part)
	}
	require.Equal(t, 299, d.get(t, "/rest/v1/odd", with("Authorization", "Bearer "+d.token(t, "acme"))).status)
	require.Contains(t, d.metrics(), `status="2xx"`, "what SQL makes up is no label either")
}

// A request is a span, continued from the client's and with the tenant on it.
func TestTraces(t *testing.T) { //nolint:paralleltest // the tracer is the process's
	spans := tracetest.NewSpanRecorder()
	was, wasPropagator := otel.GetTracerProvider(), otel.GetTextMapPropagator()
	otel.SetTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(spans)))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	t.Cleanup(func() { otel.SetTracerProvider(was); otel.SetTextMapPropagator(wasPropagator) })
	d := open(t, func(c *gateway.Config) { c.Traces = true })
	auth := with("Authorization", "Bearer "+d.token(t, "acme"))
	d.get(t, "/rest/v1/t", auth, with("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
	d.get(t, "/rest/v1/broken", auth, with("traceparent", "hostile\xff"))
	require.Eventually(t, func() bool { return len(spans.Ended()) == 2 }, 30*time.Second, time.Millisecond)
	good, bad := spans.Ended()[0], spans.Ended()[1]
	require.Equal(t, "0af7651916cd43dd8448eb211c80319c", good.SpanContext().TraceID().String())
	require.Equal(t, "b7ad6b7169203331", good.Parent().SpanID().String())
	require.Equal(t, "GET /rest/v1/:table", good.Name())
	require.Contains(t, good.Attributes(), attribute.String("freehold.tenant", "acme"))
	require.Contains(t, good.Attributes(), attribute.Int("http.response.status_code", 200))
	require.False(t, bad.Parent().IsValid())
	require.Equal(t, codes.Error, bad.Status().Code)

	// By default a stranger's trace is linked to, and not gone on with.
	d = open(t)
	d.get(t, "/rest/v1/t", with("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
	require.Eventually(t, func() bool { return len(spans.Ended()) == 3 }, time.Minute, time.Millisecond)
	own := spans.Ended()[2]
	require.False(t, own.Parent().IsValid())
	require.NotEqual(t, good.SpanContext().TraceID(), own.SpanContext().TraceID())
	require.Len(t, own.Links(), 1)
	require.Equal(t, "0af7651916cd43dd8448eb211c80319c", own.Links()[0].SpanContext.TraceID().String())
}

func TestProbes(t *testing.T) {
	t.Parallel()
	d := open(t)
	d.ready = errors.New("no keys")
	require.Equal(t, 200, d.get(t, "/healthz").status)
	a := d.get(t, "/readyz")
	require.Equal(t, 503, a.status)
	require.Equal(t, "not ready\n", a.body, "why is not for everybody")
	d.ready = nil
	require.Equal(t, 200, d.get(t, "/readyz").status)
	d.Leave()
	require.Equal(t, 503, d.get(t, "/readyz").status)
	require.Equal(t, 200, d.get(t, "/healthz").status)
	require.Equal(t, 200, d.get(t, "/rest/v1/t", with("Authorization", "Bearer "+d.token(t, "acme"))).status, "still served")
	d.Part()
	require.Equal(t, 200, d.get(t, "/rest/v1/t", with("Authorization", "Bearer "+d.token(t, "acme"))).status, "and so is the last one")
}

func TestErrorsHaveOneShapePerPath(t *testing.T) {
	t.Parallel()
	d := open(t)
	a := d.get(t, "/nothing/here")
	require.Equal(t, 404, a.status)
	require.Equal(t, "application/problem+json", a.header.Get("Content-Type"))
	a = d.get(t, "/rest/v1/t/u")
	require.Equal(t, 404, a.status)
	require.Contains(t, a.header.Get("Content-Type"), "application/json")
	require.NotContains(t, d.metrics(), "nothing", "what a client makes up is no label")
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	require.NotEqual(t, "abc-1", open(t).get(t, "/healthz", with("X-Request-Id", "abc-1")).header.Get("X-Request-Id"), "anybody's")
	d := open(t, func(c *gateway.Config) { c.Traces = true })
	require.Equal(t, "abc-1", d.get(t, "/healthz", with("X-Request-Id", "abc-1")).header.Get("X-Request-Id"))
	made := d.get(t, "/healthz", with("X-Request-Id", `a"b`)).header.Get("X-Request-Id")
	require.NotEmpty(t, made)
	require.NotContains(t, made, `"`)
	require.NotEqual(t, made, d.get(t, "/healthz").header.Get("X-Request-Id"))
}
