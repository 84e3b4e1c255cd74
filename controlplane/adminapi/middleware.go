package adminapi

import (
	"context"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/internal/problem"
)

// requestIDPattern is what a caller may name a request: it ends up in logs and in the audit log.
var requestIDPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

const keyRequestID = "freehold.request_id"

// identify gives every request an ID, the caller's if it is a sound one.
func (a *API) identify(c *gin.Context) {
	id := c.GetHeader(api.HeaderRequestID)
	if !requestIDPattern.MatchString(id) {
		id = uuid.Must(uuid.NewV7()).String()
	}
	c.Set(keyRequestID, id)
	c.Header(api.HeaderRequestID, id)
	c.Next()
}

// recover turns a panic into an opaque 500 and a log line with its stack.
func (a *API) recover(c *gin.Context) {
	defer func() {
		if v := recover(); v != nil {
			if v == http.ErrAbortHandler { //nolint:errorlint // the sentinel itself, by net/http's contract
				panic(v)
			}
			a.Log.ErrorContext(c.Request.Context(), "panic in a handler", "panic", v, "route", c.FullPath(),
				"request_id", c.GetString(keyRequestID), "stack", string(debug.Stack()))
			if !c.Writer.Written() {
				a.refuse(c, problem.Internal())
			}
			c.Abort()
		}
	}()
	c.Next()
}

// refuse sends a problem under the request's ID and ends the request.
func (a *API) refuse(c *gin.Context, p *problem.Problem) {
	copied := *p
	copied.RequestID = c.GetString(keyRequestID)
	problem.Write(c.Writer, &copied)
	c.Abort()
}

// fail translates err, logs what the caller does not get to see, and answers.
// It returns the problem sent.
func (a *API) fail(c *gin.Context, err error) *problem.Problem {
	ctx := c.Request.Context()
	p := translate(err)
	if p.Status >= http.StatusInternalServerError && ctx.Err() == nil {
		a.Log.LogAttrs(ctx, slog.LevelError, "request failed", slog.String("route", c.FullPath()),
			slog.String("code", p.Code), slog.String("request_id", c.GetString(keyRequestID)), slog.Any("error", err))
	}
	switch p.Status {
	case http.StatusUnauthorized:
		c.Header("WWW-Authenticate", `Bearer realm="freehold"`)
	case http.StatusTooManyRequests:
		c.Header("Retry-After", strconv.Itoa(strangerWait))
	case http.StatusServiceUnavailable:
		c.Header("Retry-After", "1")
	}
	a.refuse(c, p)
	return p
}

// detached is a context for what must be done although the caller may have left.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanUpFor)
}

// clip bounds hostile text that ends up in an answer, a log or the audit log.
func clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "�") + "…"
	}
	return strings.ToValidUTF8(s, "�")
}
