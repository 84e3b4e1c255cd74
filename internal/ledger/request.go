package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// maxAnswer bounds an answer that is read.
const maxAnswer = 8 << 20

type request struct {
	method         string
	path           string
	body           any
	representation bool
}

// Failure is a request that got no good answer.
type Failure struct {
	At     time.Time `json:"at"`
	Tenant string    `json:"tenant"`
	Node   string    `json:"node,omitempty"`
	Method string    `json:"method"`
	Path   string    `json:"path"`
	// Status is 0 when no answer came.
	Status int    `json:"status,omitempty"`
	Code   string `json:"code,omitempty"`
	// Text is the answer's body, or the error.
	Text string `json:"text"`
	// Unknown tells that nobody could say whether a write was done.
	Unknown bool `json:"unknown,omitempty"`
	// WrongAnswer tells that the answer was good in form and false in content.
	WrongAnswer bool `json:"wrong_answer,omitempty"`
}

// Error makes a line of it.
func (f *Failure) Error() string {
	return fmt.Sprintf("%s %s of %s at %s: %d %s", f.Method, f.Path, f.Tenant, f.Node, f.Status, f.Text)
}

// call sends a request and decodes its answer into out, if that is not nil.
// Its error is a *Failure.
func (c *Client) call(ctx context.Context, b *book, r request, out any) error {
	var body []byte
	if r.body != nil {
		var err error
		if body, err = json.Marshal(r.body); err != nil {
			return err
		}
	}
	var last error
	first := c.node()
	for i := range c.cfg.Nodes {
		node := c.cfg.Nodes[(first+i)%len(c.cfg.Nodes)]
		resp, err := c.send(ctx, b, node, r, body)
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" { // it never left
			b.turnedAway.Add(1)
			last = err
			continue
		}
		return b.read(node, r, resp, err, out)
	}
	return b.failure("", r, 0, "no node takes connections: "+last.Error(), false)
}

func (c *Client) send(ctx context.Context, b *book, node string, r request, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, node+r.path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+b.tenant.Token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.method != http.MethodGet {
		req.Header.Set("Prefer", "return=minimal")
		if r.representation {
			req.Header.Set("Prefer", "return=representation")
		}
	}
	return c.http.Do(req)
}

func (b *book) read(node string, r request, resp *http.Response, err error, out any) error {
	if err != nil {
		return b.failure(node, r, 0, err.Error(), r.method != http.MethodGet)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end or given up
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode >= http.StatusBadRequest {
		return b.failure(node, r, resp.StatusCode, string(text), false)
	}
	// A good status is an acknowledgement, even if the rest of the answer is lost.
	if err != nil && r.method == http.MethodGet {
		return b.failure(node, r, resp.StatusCode, "answer broke off: "+err.Error(), false)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		f := b.failure(node, r, resp.StatusCode, "not the JSON asked for: "+string(text), false)
		f.WrongAnswer = true
		return f
	}
	return nil
}

func (b *book) failure(node string, r request, status int, text string, unknown bool) *Failure {
	f := &Failure{At: time.Now(), Tenant: string(b.tenant.ID), Node: node, Method: r.method, Path: r.path, Status: status, Text: clip(text), Unknown: unknown}
	var p struct {
		Code string `json:"code"`
	}
	if json.Unmarshal([]byte(text), &p) == nil {
		f.Code = p.Code
	}
	if f.Code == "outcome_unknown" {
		f.Unknown = true
	}
	return f
}

func clip(s string) string {
	if len(s) > 500 {
		return s[:500] + "…"
	}
	return s
}
