// Package client speaks the control plane's admin API: typed calls, typed
// errors, retries that can do no harm.
//
// A change carries an idempotency key, so that it may be sent again after a
// lost connection without being done twice. Reads and keyed changes are sent
// again, with growing waits, when the control plane could not be reached or
// said that it can't answer now; nothing else is.
//
// Import law: of this module, client imports shardmap, internal/problem and controlplane/adminapi/api only.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/internal/problem"
)

// ErrUnreachable: no control plane answered at the URL. If the call was a
// change, it is unknown whether it took effect; the same key finds out.
var ErrUnreachable = errors.New("control plane cannot be reached")

// Error is the control plane's refusal. Code is stable and what callers decide on.
type Error struct{ *problem.Problem }

// Unwrap gives the problem itself.
func (e *Error) Unwrap() error { return e.Problem }

// IsCode tells whether err is the control plane's refusal with this code.
func IsCode(err error, code string) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}

// Client talks to one control plane. It is safe for concurrent use.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
}

const (
	dialFor   = 3 * time.Second
	answerFor = 150 * time.Second // above the server's own bound
	maxAnswer = 64 << 20
	tries     = 4
)

// Option changes how a client connects.
type Option func(*http.Transport)

// WithTLS says whom the client believes and which certificate it shows; without it the system's roots are believed.
func WithTLS(cfg *tls.Config) Option {
	return func(t *http.Transport) { t.TLSClientConfig = cfg }
}

// New makes a client of the control plane at base (http://host:port, or
// https://), with a bearer token. It refuses a base that is no such URL.
func New(base, token string, options ...Option) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("%q is not a URL of a control plane: want http://HOST:PORT", base)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialFor, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   dialFor,
		ResponseHeaderTimeout: answerFor,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   8,
		ForceAttemptHTTP2:     true,
	}
	for _, o := range options {
		o(transport)
	}
	return &Client{base: u, token: token, http: &http.Client{
		Transport: transport,
		// A token goes where it was meant to go.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// URL is the control plane's address.
func (c *Client) URL() string { return c.base.String() }

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Change says why a change is made and under which key. Zero: no reason, a fresh key.
type Change struct {
	// Reason goes into the audit log.
	Reason string
	// Key makes the change safe to ask for again, also from another process.
	Key string
	// Version is the one that the document must still have; nil: whichever.
	Version *int64
}

// get reads what is at path.
func get[T any](ctx context.Context, c *Client, path string, query url.Values) (out T, err error) {
	err = c.call(ctx, http.MethodGet, path, query, nil, nil, true, &out)
	return out, err
}

// change sends a mutation under a key and reads the answer.
func change[T any](ctx context.Context, c *Client, method, path string, in any, ch Change) (out T, err error) {
	h := http.Header{}
	if ch.Key == "" {
		ch.Key = uuid.Must(uuid.NewV7()).String()
	}
	h.Set(api.HeaderIdempotencyKey, ch.Key)
	if ch.Reason != "" {
		h.Set(api.HeaderReason, ch.Reason)
	}
	if ch.Version != nil {
		h.Set(api.HeaderIfMatch, strconv.Quote(strconv.FormatInt(*ch.Version, 10)))
	}
	err = c.call(ctx, method, path, nil, in, h, true, &out)
	return out, err
}

// call sends a request, again if that is safe and may help, and decodes the answer.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in any, h http.Header, again bool, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	attempt := func() (struct{}, error) {
		resp, err := c.send(ctx, method, path, query, body, h)
		if err == nil {
			defer resp.Body.Close() //nolint:errcheck // read to its end or given up
			err = read(resp, out)
		}
		if err != nil && (!again || !worthAnother(err)) {
			return struct{}{}, backoff.Permanent(err)
		}
		return struct{}{}, err
	}
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 100*time.Millisecond, time.Second
	_, err := backoff.Retry(ctx, attempt, backoff.WithBackOff(wait), backoff.WithMaxTries(tries))
	var permanent *backoff.PermanentError
	if errors.As(err, &permanent) {
		return permanent.Unwrap()
	}
	return err
}

func (c *Client) send(ctx context.Context, method, path string, query url.Values, body []byte, h http.Header) (*http.Response, error) {
	u := *c.base
	u.Path += path
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range h {
		req.Header[k] = v
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("User-Agent", "tenant-ops")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w at %s: %w", ErrUnreachable, c.base.Redacted(), unwrapURL(err))
	}
	return resp, nil
}

// unwrapURL drops method and URL, which our own text has.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func read(resp *http.Response, out any) error {
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return &Error{problem.Read(resp)}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%w: the answer broke off: %w", ErrUnreachable, err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("answer of %s is not what the admin API answers: %w", resp.Request.URL.Redacted(), err)
	}
	return nil
}

func worthAnother(err error) bool {
	if errors.Is(err, ErrUnreachable) {
		return true
	}
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return e.Code == "request_under_way"
}
