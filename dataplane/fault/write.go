package fault

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
)

// restPrefix is where clients expect PostgREST's shape; everywhere else it is problem+json.
const restPrefix = "/rest/v1"

// Write answers a request with err and ends its handler chain. Under /rest/v1
// the body has PostgREST's shape, elsewhere it is application/problem+json. The
// fault, with its cause, is left in c.Errors for who logs the request. When an
// answer has begun already, that is all Write does.
func Write(c *gin.Context, err error) {
	f := From(err)
	// Who leaves ends the request's work, which then fails in one way or another.
	if f.Status >= http.StatusInternalServerError && f.ID == "" && errors.Is(c.Request.Context().Err(), context.Canceled) {
		f = New(StatusClientClosedRequest, "canceled", "The request was canceled").WithCause(err)
	}
	c.Abort()
	_ = c.Error(f)
	if c.Writer.Written() {
		return
	}
	h := c.Writer.Header()
	for name, values := range f.Header {
		h[name] = values
	}
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((f.RetryAfter+time.Second-1)/time.Second), 10))
	}
	if f.Status == http.StatusUnauthorized && h.Get("WWW-Authenticate") == "" {
		h.Set("WWW-Authenticate", "Bearer")
	}
	contentType, shape := "application/json; charset=utf-8", any(f)
	if path := c.Request.URL.Path; path != restPrefix && !strings.HasPrefix(path, restPrefix+"/") {
		contentType, shape = "application/problem+json", problemOf(f, path)
	} else if !strings.ContainsFunc(f.Code, func(r rune) bool { return r <= ' ' || r > '~' }) { // SQL may have chosen it
		h.Set("Proxy-Status", "PostgREST; error="+f.Code)
	}
	body, err := plainJSON(shape)
	if err != nil { // strings and an int
		panic("fault: " + err.Error())
	}
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	c.Writer.WriteHeader(f.Status)
	_, _ = c.Writer.Write(body) // the one who would read of an error is gone
}

// problemDocument is f as RFC 9457 wants it, with the code and the hint beside.
type problemDocument struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Code      string `json:"code"`
	Detail    string `json:"detail"`
	Hint      string `json:"hint,omitempty"`
	Instance  string `json:"instance"`
	RequestID string `json:"request_id,omitempty"`
}

func problemOf(f *Fault, path string) problemDocument {
	detail := f.Message
	if f.Details != "" {
		detail += ": " + f.Details
	}
	return problemDocument{
		Type: "urn:freehold:problem:" + f.Code, Title: http.StatusText(f.Status), Status: f.Status,
		Code: f.Code, Detail: detail, Hint: f.Hint, Instance: path, RequestID: f.ID,
	}
}
