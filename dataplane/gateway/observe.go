package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/freehold-db/freehold/dataplane/fault"
	"github.com/freehold-db/freehold/dataplane/gateway/limit"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/telemetry"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	// One in sampleEvery good requests is logged; slow and refused-by-us ones always are.
	sampleEvery = 1000
	slow        = time.Second
	// crossingsPerSecond bounds the log lines somebody can cause by trying; the counter has them all.
	crossingsPerSecond = 10
)

// observer measures requests. Metrics carry no tenant (see internal/telemetry);
// spans and log lines do.
type observer struct {
	log       *slog.Logger
	proxies   proxies
	traces    bool // every client's
	duration  *prometheus.HistogramVec
	underWay  atomic.Int64
	refused   *prometheus.CounterVec
	tracer    trace.Tracer // nil when nothing records
	seen      atomic.Uint64
	crossings *rate.Limiter
	// count is told of every request that was bound to a tenant; nil: nobody is.
	count func(tenant shardmap.TenantID, took time.Duration, status int)
}

func newObserver(reg prometheus.Registerer, log *slog.Logger, trusted proxies, traces bool) *observer {
	o := &observer{
		log: log, proxies: trusted, traces: traces, crossings: rate.NewLimiter(crossingsPerSecond, crossingsPerSecond),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "freehold_http_request_duration_seconds", Help: "Time from a request's head to the end of its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"route", "method", "status"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freehold_http_requests_refused_total", Help: "Requests turned away at the door, by reason.",
		}, []string{"reason"}),
	}
	reg.MustRegister(o.duration, o.refused, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "freehold_http_requests_under_way", Help: "Requests being served now.",
	}, func() float64 { return float64(o.underWay.Load()) }))
	if telemetry.Tracing() {
		o.tracer = otel.Tracer("github.com/freehold-db/freehold/dataplane/gateway")
	}
	return o
}

// observe is the outermost handler.
func (o *observer) observe(c *gin.Context) {
	start := time.Now()
	counts := o.proxies.settle(c.Request) || o.traces
	id := requestID(c.Request, counts)
	c.Header("X-Request-Id", id)
	o.underWay.Add(1)
	var span trace.Span
	if o.tracer != nil {
		span = o.begin(c, counts)
	}
	defer func() {
		cut := o.recovered(c, recover())
		o.underWay.Add(-1)
		o.record(c, id, time.Since(start), span)
		if cut {
			panic(http.ErrAbortHandler)
		}
	}()
	c.Next()
}

// begin starts the request's span. It continues the client's trace where that
// counts, and is linked to it otherwise: one can still be found by the other,
// and a stranger decides neither what is recorded nor into whose trace it goes.
func (o *observer) begin(c *gin.Context, counts bool) trace.Span {
	ctx := c.Request.Context()
	remote := otel.GetTextMapPropagator().Extract(ctx, propagation.HeaderCarrier(c.Request.Header))
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer)}
	if counts {
		ctx = remote
	} else if theirs := trace.SpanContextFromContext(remote); theirs.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: theirs}))
	}
	ctx, span := o.tracer.Start(ctx, method(c)+" "+route(c), options...)
	c.Request = c.Request.WithContext(ctx)
	return span
}

// recovered turns a panic into an opaque 500. When the answer has begun the
// connection must be cut instead, so that half of it cannot pass for all of it.
func (o *observer) recovered(c *gin.Context, p any) (cut bool) {
	if p == nil {
		return false
	}
	if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) { // that one is meant
		o.log.ErrorContext(c.Request.Context(), "panic", "route", route(c), "panic", p, "stack", string(debug.Stack()))
		if !c.Writer.Written() {
			fault.Write(c, errors.New("panic"))
			return false
		}
	}
	return true
}

func (o *observer) record(c *gin.Context, requestID string, took time.Duration, span trace.Span) {
	status, rt, m := c.Writer.Status(), route(c), method(c)
	o.duration.WithLabelValues(rt, m, statusLabel(status)).Observe(took.Seconds())
	if id := identity(c); id != nil && o.count != nil {
		o.count(id.Tenant, took, status)
	}
	if span != nil {
		span.SetAttributes(attribute.String("http.route", rt), attribute.String("http.request.method", m),
			attribute.Int("http.response.status_code", status), attribute.String("freehold.request_id", requestID))
		if id := identity(c); id != nil {
			span.SetAttributes(attribute.String("freehold.tenant", string(id.Tenant)))
		}
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
	f := faultOf(c)
	// A line for each request that is too much would make it even more.
	shed := f != nil && f.Code == string(limit.Overloaded)
	if (shed || status < http.StatusInternalServerError && took < slow) && o.seen.Add(1)%sampleEvery != 0 {
		return
	}
	var tenant string
	if id := identity(c); id != nil {
		tenant = string(id.Tenant)
	}
	level, attrs := slog.LevelInfo, []slog.Attr{slog.String("request_id", requestID), slog.String("method", m), slog.String("route", rt),
		slog.Int("status", status), slog.Duration("took", took), slog.Int("bytes", c.Writer.Size()), slog.String("tenant", tenant),
		slog.String("client", clientText(c.Request))}
	if f != nil {
		attrs = append(attrs, slog.String("code", f.Code))
		if status >= http.StatusInternalServerError {
			level = slog.LevelWarn
			attrs = append(attrs, slog.Any("err", f.Unwrap()))
		}
		if f.ID != "" { // nobody foresaw it
			level = slog.LevelError
			attrs = append(attrs, slog.String("error_id", f.ID))
		}
	}
	o.log.LogAttrs(c.Request.Context(), level, "request", attrs...)
}

// faultOf is what a request was answered with, if that was a fault.
func faultOf(c *gin.Context) *fault.Fault {
	last := c.Errors.Last()
	if last == nil {
		return nil
	}
	var f *fault.Fault
	_ = errors.As(last.Err, &f)
	return f
}

// statusLabel is a status as a metric's label. SQL can make any number a status
// (`RAISE SQLSTATE 'PT299'`): those without a name go by their class.
func statusLabel(status int) string {
	if http.StatusText(status) == "" && status != fault.StatusClientClosedRequest {
		return strconv.Itoa(status/100) + "xx"
	}
	return strconv.Itoa(status)
}

// refusal logs what goes to the audit log, too.
func (o *observer) refusal(ctx context.Context, e access.Event) {
	if !o.crossings.Allow() {
		return
	}
	message := "refused credential"
	if e.Action == access.ActionCrossTenant {
		message = "refused cross-tenant attempt"
	}
	e = e.Clip()
	o.log.LogAttrs(ctx, slog.LevelWarn, message, slog.String("action", e.Action), slog.String("tenant", string(e.Tenant)),
		slog.String("claimed", e.Claimed), slog.String("subject", e.Subject), slog.String("reason", e.Reason),
		slog.String("remote", e.Remote), slog.String("request_id", e.RequestID))
}

// route is the pattern that matched: what a client makes up is no label.
func route(c *gin.Context) string {
	if r := c.FullPath(); r != "" {
		return r
	}
	return "unmatched"
}

func method(c *gin.Context) string {
	switch m := c.Request.Method; m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "OTHER"
}
