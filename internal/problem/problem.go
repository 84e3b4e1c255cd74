// Package problem is the one shape in which Freehold's APIs say what went
// wrong: RFC 9457 problem+json with a stable code and a hint.
//
// What a person reads (Detail, Hint) is written for that person; what the log
// keeps is another text. An unknown error becomes [Internal], which says
// nothing but the ID to look for in the log.
package problem

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
)

// ContentType of every problem.
const ContentType = "application/problem+json"

// Problem is one refusal or failure, as a value and as a document. Code is
// stable and what programs decide on; Status, Title and Detail may be reworded.
type Problem struct {
	// Type is a URN made of Code, so that a type names exactly one code.
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Code names the kind of problem: lower case words joined by '_'.
	Code string `json:"code"`
	// Hint says what to do next.
	Hint string `json:"hint,omitempty"`
	// RequestID is the ID under which the log has this request.
	RequestID string `json:"request_id,omitempty"`
	// Errors points at the places of the request that are wrong.
	Errors []Place `json:"errors,omitempty"`
}

// Place is one wrong place of a request.
type Place struct {
	// Pointer is a JSON Pointer (RFC 6901) as a URI fragment into the body, or empty.
	Pointer string `json:"pointer,omitempty"`
	// Parameter is the name of a query parameter, path parameter or header, or empty.
	Parameter string `json:"parameter,omitempty"`
	Detail    string `json:"detail"`
}

// New makes a problem. The title is the status' standard text.
func New(status int, code, detail, hint string) *Problem {
	return &Problem{
		Type: "urn:freehold:problem:" + code, Title: http.StatusText(status),
		Status: status, Code: code, Detail: detail, Hint: hint,
	}
}

// Internal is all that a stranger learns about an error nobody foresaw.
func Internal() *Problem {
	return New(http.StatusInternalServerError, "internal",
		"something failed that should not have",
		"try again; if it stays, look for the request ID in the control plane's log")
}

// At adds a wrong place of the body and returns p.
func (p *Problem) At(pointer, detail string) *Problem {
	p.Errors = append(p.Errors, Place{Pointer: "#" + pointer, Detail: detail})
	return p
}

// Param adds a wrong parameter or header and returns p.
func (p *Problem) Param(name, detail string) *Problem {
	p.Errors = append(p.Errors, Place{Parameter: name, Detail: detail})
	return p
}

// Error is the detail, and the code where there is none.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return p.Code
	}
	return p.Detail
}

// Write sends p as the answer. Errors of the connection are not reported: the
// one who would read of them is gone.
func Write(w http.ResponseWriter, p *Problem) {
	body, err := json.Marshal(p)
	if err != nil { // a Problem has only strings and ints
		panic(fmt.Sprintf("problem: %v", err))
	}
	h := w.Header()
	h.Set("Content-Type", ContentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.Status)
	_, _ = w.Write(body)
}

// maxBody bounds what Read takes from a stranger.
const maxBody = 1 << 20

// Read makes a Problem of an answer with an error status. An answer that is no
// problem+json (a proxy's page, say) becomes one with the code "http_<status>".
func Read(resp *http.Response) *Problem {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err == nil && (mediaType == ContentType || mediaType == "application/json") {
		var p Problem
		if json.Unmarshal(body, &p) == nil && p.Code != "" {
			p.Status = resp.StatusCode
			return &p
		}
	}
	return New(resp.StatusCode, fmt.Sprintf("http_%d", resp.StatusCode),
		fmt.Sprintf("the server answered %s", resp.Status),
		"check that the URL is Freehold's and that nothing in between answers for it")
}
