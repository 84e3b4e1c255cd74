package gateway

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/freehold-db/freehold/dataplane/fault"
	"github.com/freehold-db/freehold/shardmap"
)

// buckets bounds the tenants whose rate is remembered at a node. One forgotten
// under that pressure starts with a full bucket again.
const buckets = 50_000

// limiter is a token bucket per tenant; nil limits nothing.
type limiter struct {
	limit   rate.Limit
	burst   int
	policy  string
	tenants *lru.Cache[shardmap.TenantID, *rate.Limiter]
}

func newLimiter(perSecond float64, burst int) (*limiter, error) {
	if perSecond <= 0 {
		return nil, nil //nolint:nilnil // no limit asked for
	}
	if burst <= 0 {
		burst = max(1, int(math.Ceil(perSecond)))
	}
	tenants, err := lru.New[shardmap.TenantID, *rate.Limiter](buckets)
	if err != nil {
		return nil, err
	}
	window := int(math.Ceil(float64(burst) / perSecond))
	return &limiter{
		limit: rate.Limit(perSecond), burst: burst, tenants: tenants,
		policy: fmt.Sprintf(`"tenant";q=%d;w=%d`, burst, window),
	}, nil
}

// take asks for one request now. left is what remains; wait, when refused, how long until one is there.
func (l *limiter) take(tenant shardmap.TenantID, now time.Time) (ok bool, left int, wait time.Duration) {
	bucket, found := l.tenants.Get(tenant)
	if !found {
		fresh := rate.NewLimiter(l.limit, l.burst)
		if raced, there, _ := l.tenants.PeekOrAdd(tenant, fresh); there {
			fresh = raced
		}
		bucket = fresh
	}
	ok = bucket.AllowN(now, 1)
	tokens := bucket.TokensAt(now)
	if !ok {
		wait = time.Duration((1 - tokens) / float64(l.limit) * float64(time.Second))
	}
	return ok, max(0, int(tokens)), wait
}

// limit refuses what is beyond a tenant's rate at this node, and tells every
// answer what is left (draft-ietf-httpapi-ratelimit-headers).
func (g *Gateway) limit(c *gin.Context) {
	if g.limits == nil {
		return
	}
	ok, left, wait := g.limits.take(identity(c).Tenant, time.Now())
	reset := math.Ceil(wait.Seconds())
	if ok {
		reset = math.Ceil(float64(g.limits.burst-left) / float64(g.limits.limit))
	}
	c.Header("RateLimit-Policy", g.limits.policy)
	c.Header("RateLimit", `"tenant";r=`+strconv.Itoa(left)+`;t=`+strconv.Itoa(int(reset)))
	if !ok {
		g.watch.refused.WithLabelValues("rate_limited").Inc()
		f := fault.New(http.StatusTooManyRequests, "rate_limited", "The tenant's request rate at this node is used up").
			WithHint("Nothing was executed: wait as long as Retry-After says, then try again.")
		f.RetryAfter = max(wait, time.Second)
		fault.Write(c, f)
	}
}
