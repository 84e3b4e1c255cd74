package gateway

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/freehold-db/freehold/dataplane/fault"
	"github.com/freehold-db/freehold/dataplane/gateway/limit"
	"github.com/freehold-db/freehold/internal/access"
)

// measuredBody is the largest body with which the time of a request still says
// how busy the node is: a longer one takes as long as its client sends.
const measuredBody = 64 << 10

// turn is a request's part in what its tenant may have. It stands before the
// answer's writer, because a place is given back when an answer begins: how
// fast a client reads it is no business of others.
type turn struct {
	limit.Pass
	gin.ResponseWriter
}

type turnKey struct{}

// Write implements [http.ResponseWriter].
func (t *turn) Write(p []byte) (int, error) {
	t.Leave()
	return t.ResponseWriter.Write(p)
}

// WriteString implements [gin.ResponseWriter].
func (t *turn) WriteString(s string) (int, error) {
	t.Leave()
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
// (draft-ietf-httpapi-ratelimit-headers).
func (g *Gateway) limit(c *gin.Context) {
	r := c.Request
	t, _ := r.Context().Value(turnKey{}).(*turn)
	if r.Body != nil && r.Body != http.NoBody {
		most := g.cfg.MaxBody
		if own := t.Limits.MaxBody; own > 0 {
			most = min(own, max(g.cfg.MaxBody, bodyCeiling))
		}
		if r.ContentLength > most {
			if r.ProtoMajor == 1 {
				c.Header("Connection", "close")
			}
			fault.Write(c, &http.MaxBytesError{Limit: most})
			return
		}
		r.Body = http.MaxBytesReader(c.Writer, r.Body, most)
	}
	err := g.cfg.Limits.Enter(r.Context(), &t.Pass, r.ContentLength >= 0 && r.ContentLength <= measuredBody)
	if t.Policy != nil {
		h := c.Writer.Header()
		h["Ratelimit-Policy"] = t.Policy
		h["Ratelimit"] = []string{`"tenant";r=` + strconv.Itoa(t.Left) + `;t=` + strconv.Itoa(t.Reset)}
	}
	if err != nil {
		f := limitFault(err)
		g.watch.refused.WithLabelValues(f.Code).Inc()
		fault.Write(c, f)
		return
	}
	defer t.Leave()
	t.ResponseWriter = c.Writer
	c.Writer = t
	c.Next()
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
