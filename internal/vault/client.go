// Package vault keeps a fleet's secrets in HashiCorp Vault: logins in a KV
// engine (secret.Store), tenants' keys in a transit engine (secret.Keys),
// certificates from a PKI engine. See docs/decisions/0022-vault.md.
//
// A client needs Vault neither to be opened nor to be kept: while Vault is
// sealed or can't be reached every call is secret.ErrUnavailable, at once for
// most, and the first call after that works again.
//
// Import law: of this module, vault imports internal packages only.
package vault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/freehold-db/freehold/internal/secret"
)

const (
	attempts   = 3                     // of a call that may be made again
	firstPause = 40 * time.Millisecond // between two of them, doubled, with jitter
)

// Client speaks to Vault. It is safe for concurrent use.
type Client struct {
	cfg  Config
	bare *api.Client // without a token
	log  *slog.Logger

	session atomic.Pointer[session]
	logins  chan struct{} // held by the one who logs in
	fresh   chan struct{} // tells the keeper of a new session
	away    breaker

	life context.Context
	end  context.CancelFunc
	side sync.WaitGroup
}

var (
	_ secret.Store = (*Client)(nil)
	_ secret.Keys  = (*Client)(nil)
)

// Open makes a client and begins to keep it logged in. It fails on files that
// can't be read, never because Vault is away.
func Open(cfg Config, log *slog.Logger) (*Client, error) {
	cfg.Defaults()
	transport, err := cfg.transport()
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	// Not api.DefaultConfig: what counts is in our configuration, not in VAULT_* variables.
	bare, err := api.NewClient(&api.Config{Address: cfg.Address, HttpClient: &http.Client{Transport: transport, CheckRedirect: noRedirects},
		Timeout: cfg.Timeout, DisableRedirects: true})
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	bare.ClearToken()
	bare.ClearNamespace()
	if cfg.Namespace != "" {
		bare.SetNamespace(cfg.Namespace)
	}
	bare.SetMaxRetries(0)
	c := &Client{cfg: cfg, bare: bare, log: log.With("vault", cfg.Address), logins: make(chan struct{}, 1), fresh: make(chan struct{}, 1)}
	if _, _, err := cfg.login(); err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	c.life, c.end = context.WithCancel(context.Background())
	c.side.Go(c.keep)
	return c, nil
}

// Close gives the token back, within a request's time, and ends the client.
func (c *Client) Close() {
	c.end()
	c.side.Wait()
	if s := c.session.Load(); s != nil && s.bound() {
		ctx, cancel := context.WithTimeout(context.Background(), c.cfg.Timeout)
		defer cancel()
		_ = s.api.Auth().Token().RevokeSelfWithContext(ctx, "")
	}
	if t, ok := c.bare.CloneConfig().HttpClient.Transport.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}

func noRedirects(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func (c *Config) transport() (*http.Transport, error) {
	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: c.Timeout}).DialContext,
		TLSHandshakeTimeout: c.Timeout, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName},
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate", c.CAFile)
		}
	}
	return t, nil
}

// do makes a call as who is logged in. A token that is refused is replaced
// once. What Vault can't answer now is asked again a few times, if again says
// that a second time does no harm, or if it did not get there.
func (c *Client) do(ctx context.Context, again bool, call func(context.Context, *api.Client) error) error {
	if !c.away.pass() {
		return fmt.Errorf("%w: Vault did not answer a moment ago", secret.ErrUnavailable)
	}
	pause := firstPause
	for attempt := 1; ; attempt++ {
		err := c.once(ctx, call)
		if err == nil || !errors.Is(err, secret.ErrUnavailable) {
			c.answered()
			return err
		}
		if ctx.Err() != nil { // the caller's end says nothing about Vault
			c.away.release()
			return err
		}
		if attempt == attempts || sealed(err) || !again && !unsent(err) {
			if c.away.note(false) {
				c.log.Warn("Vault is away; who has a lease goes on", "error", err)
			}
			return err
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
		}
		pause *= 2
	}
}

func (c *Client) answered() {
	if c.away.note(true) {
		c.log.Info("Vault is back")
	}
}

func (c *Client) once(ctx context.Context, call func(context.Context, *api.Client) error) error {
	s, err := c.login(ctx, nil)
	if err != nil {
		return err
	}
	err = translate(call(ctx, s.api))
	if errors.Is(err, secret.ErrDenied) && s.old() {
		if s, err = c.login(ctx, s); err != nil {
			return err
		}
		err = translate(call(ctx, s.api))
	}
	return err
}

// translate gives Vault's errors the contract's words.
func translate(err error) error {
	var answer *api.ResponseError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &answer):
		return fmt.Errorf("%w: Vault cannot be asked: %w", secret.ErrUnavailable, err)
	case answer.StatusCode == http.StatusForbidden:
		return fmt.Errorf("%w: %w", secret.ErrDenied, brief(answer))
	case answer.StatusCode == http.StatusNotFound && len(answer.Errors) == 0:
		return secret.ErrNotFound
	case answer.StatusCode == http.StatusBadRequest:
		return brief(answer)
	default: // sealed, standby, limits; and 404 with words: no such engine, which is no word about a secret
		return fmt.Errorf("%w: %w", secret.ErrUnavailable, brief(answer))
	}
}

// refusal is what Vault said, without the lines around it.
type refusal struct {
	status int
	said   string
}

func (r *refusal) Error() string { return fmt.Sprintf("Vault says %d: %s", r.status, r.said) }

func brief(answer *api.ResponseError) error {
	said := strings.Join(strings.Fields(strings.Join(answer.Errors, "; ")), " ")
	if said == "" {
		said = http.StatusText(answer.StatusCode)
	}
	return &refusal{answer.StatusCode, said}
}

// says tells whether Vault refused a request as wrong, with these words: it
// has no codes for what was wrong.
func says(err error, words string) bool {
	var r *refusal
	return errors.As(err, &r) && r.status == http.StatusBadRequest && strings.Contains(r.said, words)
}

func sealed(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.status == http.StatusServiceUnavailable
}

// unsent tells whether a request failed before anything was sent.
func unsent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
