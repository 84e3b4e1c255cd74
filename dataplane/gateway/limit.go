package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/freehold-db/freehold/dataplane/fault"
	"github.com/freehold-db/freehold/dataplane/gateway/limit"
	"github.com/freehold-db/freehold/dataplane/intake"
	"github.com/freehold-db/freehold/dataplane/timing"
	"github.com/freehold-db/freehold/internal/access"
)

// turn is a request's part in what its tenant may have. It stands before the
// answer's writer, because a place is given back when an answer begins: how
// fast a client reads it is no business of others.
type turn struct {
	limit.Pass
	gin.ResponseWriter
	limits *limit.Limiter
	times  *timing.Times // nil: not to be told
}

// begin gives the place back and tells how long it took, before the first byte.
func (t *turn) begin() {
	t.Leave()
	if t.times != nil && !t.Written() {
		t.times.Mark(timing.Response)
		t.Header().Set("Server-Timing", t.times.Header())
	}
}

// WriteHeaderNow implements [gin.ResponseWriter].
func (t *turn) WriteHeaderNow() {
	t.begin()
	t.ResponseWriter.WriteHeaderNow()
}

type turnKey struct{}

// Write implements [http.ResponseWriter].
func (t *turn) Write(p []byte) (int, error) {
	t.begin()
	t.limits.HoldAnswer(&t.Pass, len(p))
	return t.ResponseWriter.Write(p)
}

// WriteString implements [gin.ResponseWriter].
func (t *turn) WriteString(s string) (int, error) {
	t.begin()
	t.limits.HoldAnswer(&t.Pass, len(s))
	return t.ResponseWriter.WriteString(s)
}

// Limits is what holds for the tenant of a request, whose context or one made
// of it this is; zero where neither tenant, plan nor node says anything.
func Limits(ctx context.Context) access.Limits {
	if t, _ := ctx.Value(turnKey{}).(*turn); t != nil {
		return t.Limits
	}
	return access.Limits{}
}

// limit refuses what is beyond a tenant's limits and what the node cannot
// serve, and tells every answer what is left
// (draft-ietf-httpapi-ratelimit-headers). A request has its body with it when
// its turn comes.
func (g *Gateway) limit(c *gin.Context) {
	t, _ := c.Request.Context().Value(turnKey{}).(*turn)
	err := g.cfg.Limits.Admit(&t.Pass)
	if t.Policy != nil {
		h := c.Writer.Header()
		h["Ratelimit-Policy"] = t.Policy
		left := strconv.AppendInt(append(make([]byte, 0, 64), `"tenant";r=`...), int64(t.Left), 10)
		h["Ratelimit"] = []string{string(strconv.AppendInt(append(left, ";t="...), int64(t.Reset), 10))}
	}
	if err == nil {
		defer g.cfg.Limits.Release(&t.Pass)
		err = g.takeBody(c, t)
	}
	if err == nil {
		err = g.cfg.Limits.Enter(c.Request.Context(), &t.Pass)
	}
	if err != nil {
		f := limitFault(err)
		g.watch.refused.WithLabelValues(f.Code).Inc()
		fault.Write(c, f)
		return
	}
	defer t.Leave()
	t.times.Mark(timing.Queue)
	t.ResponseWriter = c.Writer
	c.Writer = t
	c.Next()
}

// takeBody bounds a request's body, and takes it in where its method has one.
// How long it may come is bounded by the server.
func (g *Gateway) takeBody(c *gin.Context, t *turn) error {
	r := c.Request
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	most := g.cfg.MaxBody
	if own := t.Limits.MaxBody; own > 0 {
		most = min(own, max(g.cfg.MaxBody, bodyCeiling))
	}
	if r.ContentLength > most {
		if r.ProtoMajor == 1 {
			c.Header("Connection", "close")
		}
		return &http.MaxBytesError{Limit: most}
	}
	r.Body = http.MaxBytesReader(c.Writer, r.Body, most)
	if r.Method != http.MethodPost && r.Method != http.MethodPut && r.Method != http.MethodPatch {
		return nil // nobody reads it
	}
	err := intake.Take(r, func(bytes int) error { return g.cfg.Limits.Hold(&t.Pass, bytes) })
	var refused *limit.Refused
	var tooLarge *http.MaxBytesError
	switch gone := r.Context().Err(); {
	case err == nil || errors.As(err, &refused) || errors.As(err, &tooLarge):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded): // which looks to net/http as if the client had gone
		return fault.New(http.StatusRequestTimeout, "body_too_slow", "The request's body did not come in time").
			WithHint("Nothing was executed: send it faster, or in several requests.").WithCause(err)
	case gone != nil:
		return fmt.Errorf("read the body: %w", errors.Join(gone, err))
	}
	return fault.New(http.StatusBadRequest, "PGRST102", "The body could not be read").WithCause(err) // cut off, or badly chunked
}

// limitFault words a refusal.
func limitFault(err error) *fault.Fault {
	var refused *limit.Refused
	if !errors.As(err, &refused) {
		return fault.From(err)
	}
	var f *fault.Fault
	switch refused.Reason {
	case limit.RateLimited:
		f = fault.New(http.StatusTooManyRequests, string(refused.Reason), "The tenant's request rate is used up")
	case limit.TooManyConcurrent:
		f = fault.New(http.StatusTooManyRequests, string(refused.Reason), "The tenant has as many requests under way as it may")
	default:
		f = fault.New(http.StatusServiceUnavailable, string(refused.Reason), "This node has more requests than it can serve")
	}
	f.RetryAfter = refused.RetryAfter
	return f.WithHint("Nothing was executed: wait as long as Retry-After says, then try again.")
}
