// Package problem is the error format of every HTTP answer that is not in
// PostgREST's own shape: application/problem+json, RFC 9457.
//
// Import law: problem imports no other package of this module.
package problem

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
)

// ContentType of a problem document.
const ContentType = "application/problem+json"

// maxBody bounds what Parse reads of an answer.
const maxBody = 1 << 20

// Problem is one error as a client reads it. It is an error itself, so that a
// client can return what Parse made of an answer. It holds nothing internal:
// what the log keeps goes to the log.
type Problem struct {
	// Type is a URI that names the kind of problem; empty means about:blank.
	Type string `json:"type,omitempty"`
	// Title is the same for every problem of the kind; Write fills in the status text when empty.
	Title string `json:"title"`
	// Status is the HTTP status; Write takes 500 for zero.
	Status int `json:"status"`
	// Code is the stable word a program decides on, e.g. tenant_mismatch.
	Code string `json:"code,omitempty"`
	// Detail says what happened this time, Hint what to do about it.
	Detail string `json:"detail,omitempty"`
	Hint   string `json:"hint,omitempty"`
	// Instance is the path asked for; RequestID finds the request in the log.
	Instance  string `json:"instance,omitempty"`
	RequestID string `json:"request_id,omitempty"`
	// Errors lists single faults of a request, e.g. one per field.
	Errors []Fault `json:"errors,omitempty"`
}

// Fault is one fault among several in a request.
type Fault struct {
	// Field is where: a JSON pointer or a parameter's name.
	Field  string `json:"field,omitempty"`
	Detail string `json:"detail"`
}

// Error makes a sentence of it: detail (else title), faults, then the hint.
func (p *Problem) Error() string {
	var b strings.Builder
	if b.WriteString(p.Detail); p.Detail == "" {
		b.WriteString(p.Title)
	}
	for _, f := range p.Errors {
		fmt.Fprintf(&b, "; %s: %s", f.Field, f.Detail)
	}
	if p.Hint != "" {
		fmt.Fprintf(&b, " (%s)", p.Hint)
	}
	return b.String()
}

// Is lets errors.Is match on the code: errors.Is(err, &problem.Problem{Code: "not_found"}).
func (p *Problem) Is(target error) bool {
	t, ok := target.(*Problem)
	return ok && t.Code != "" && t.Code == p.Code
}

// Code is the code of the problem wrapped in err, or "".
func Code(err error) string {
	var p *Problem
	if errors.As(err, &p) {
		return p.Code
	}
	return ""
}

// Write answers with p. It must come before any other write of the answer.
func Write(w http.ResponseWriter, p Problem) {
	if p.Status == 0 {
		p.Status = http.StatusInternalServerError
	}
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	body, err := json.Marshal(p)
	if err != nil { // strings and ints cannot fail
		panic(err)
	}
	h := w.Header()
	h.Set("Content-Type", ContentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Del("Content-Length")
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n')) // the client may be gone; nobody is left to tell
}

// Parse turns a refusing answer (status 400 and above) into a *Problem and
// returns nil for any other. An answer that is no problem document (a proxy's
// page, say) becomes one that carries its status and the beginning of its
// text. The body is read but not closed.
func Parse(resp *http.Response) error {
	if resp.StatusCode < 400 {
		return nil
	}
	p := &Problem{Status: resp.StatusCode, Title: http.StatusText(resp.StatusCode), RequestID: resp.Header.Get("X-Request-Id")}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		p.Detail = "answer broke off: " + err.Error()
		return p
	}
	if mt, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); mt == ContentType || mt == "application/json" {
		if q := *p; json.Unmarshal(body, &q) == nil {
			q.Status = resp.StatusCode // the wire, not the document, decides
			return &q
		}
	}
	p.Detail = fmt.Sprintf("HTTP %d: %s", resp.StatusCode, clip(strings.TrimSpace(string(body)), 300))
	return p
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
