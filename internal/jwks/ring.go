// Package jwks keeps the public keys of token issuers: it fetches them, keeps
// them fresh, and goes on with the known ones while an issuer is away. Whose
// tokens are good for what, and which of their claims say so, is its users' to decide.
//
// Import law: of this module, jwks imports nothing.
package jwks

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/cenkalti/backoff/v5"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
)

const (
	fetchFor     = 5 * time.Second
	refreshEvery = 5 * time.Minute  // how long a withdrawn key may go on at most
	unknownEvery = 10 * time.Second // at most one fetch in this time because of unknown key IDs
	firstFor     = 5 * time.Second  // how long a request waits for the first keys of a node that just started
	maxDocument  = 1 << 20
)

// ErrNoKeys: the issuer's keys were not fetched yet, so no token of it can be judged.
var ErrNoKeys = errors.New("token issuer's keys are not known yet")

// Ring holds the public keys of one issuer and keeps them fresh. When the
// issuer cannot be reached the known keys go on. It is safe for concurrent use.
type Ring struct {
	issuer  string
	url     string // empty: discovered from the issuer
	client  func(*url.URL) (*http.Client, error)
	log     *slog.Logger
	current atomic.Pointer[Set]
	first   chan struct{} // closed when keys were fetched for the first time
	once    sync.Once
	flight  singleflight.Group
	unknown *rate.Limiter
	// lazy keys are fetched when they are asked for, and not by Run: at the
	// earliest when they are due, in Unix nanoseconds.
	lazy bool
	due  atomic.Int64
}

// Set is one state of the issuer's keys; a token verified with another one is verified again.
type Set struct {
	raw  []byte
	find keyfunc.Keyfunc
}

// New names the issuer and where its JWKS is; with an empty jwksURL the
// issuer's discovery document says where. Nothing is fetched before [Ring.Run].
// secure says by which roots the issuer is believed; nil: the system's.
func New(issuer, jwksURL string, secure *tls.Config, log *slog.Logger) *Ring {
	client := NewClient(nil, secure)
	return newRing(issuer, jwksURL, func(*url.URL) (*http.Client, error) { return client, nil }, log)
}

// NewLazy is New for keys that are fetched when they are asked for, and not by
// Run. client makes the requests, or refuses to, by where they go.
func NewLazy(issuer, jwksURL string, client func(*url.URL) (*http.Client, error), log *slog.Logger) *Ring {
	k := newRing(issuer, jwksURL, client, log)
	k.lazy = true
	return k
}

func newRing(issuer, jwksURL string, client func(*url.URL) (*http.Client, error), log *slog.Logger) *Ring {
	return &Ring{issuer: issuer, url: jwksURL, client: client, log: log, first: make(chan struct{}),
		unknown: rate.NewLimiter(rate.Every(unknownEvery), 1)}
}

// Known tells whether keys were ever fetched, so that tokens can be verified.
func (k *Ring) Known() bool { return k.current.Load() != nil }

// Run fetches the keys until it has them, then keeps them fresh until ctx
// ends. Failures are waited out with growing, jittered pauses.
func (k *Ring) Run(ctx context.Context) {
	defer func() {
		if c, err := k.client(nil); err == nil {
			c.CloseIdleConnections()
		}
	}()
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 200*time.Millisecond, 10*time.Second
	for {
		wait := refreshEvery - rand.N(refreshEvery/10)
		if err := k.Refresh(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			wait = pause.NextBackOff()
			k.log.Warn("token issuer's keys cannot be fetched", "issuer", k.issuer, "known", k.Known(), "again_in", wait.Round(time.Millisecond), "err", err)
		} else {
			pause.Reset()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// Refresh fetches the keys now, once for all who ask meanwhile. On an error the known keys stay.
func (k *Ring) Refresh(ctx context.Context) error {
	fetched := k.flight.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchFor)
		defer cancel()
		err := k.fetch(ctx)
		k.due.Store(time.Now().Add(next(err)).UnixNano())
		return nil, err
	})
	select {
	case r := <-fetched:
		return r.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// next is when lazy keys may be fetched again.
func next(err error) time.Duration {
	if err != nil {
		return unknownEvery
	}
	return refreshEvery - rand.N(refreshEvery/10)
}

// Kick begins to fetch lazy keys that are due, and waits for nothing.
func (k *Ring) Kick(ctx context.Context, now time.Time) {
	if due := k.due.Load(); k.lazy && now.UnixNano() >= due && k.due.CompareAndSwap(due, now.Add(unknownEvery).UnixNano()) {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		_ = k.Refresh(ctx)
	}
}

// Outdate has lazy keys fetched by the next Kick.
func (k *Ring) Outdate() { k.due.Store(1) }

// Current is the set that is known now; nil: none is.
func (k *Ring) Current() *Set { return k.current.Load() }

// Key finds the key that the token's header names.
func (s *Set) Key(ctx context.Context, t *jwt.Token) (any, error) { return s.find.KeyfuncCtx(ctx)(t) }

func (k *Ring) fetch(ctx context.Context) error {
	where := k.url
	if where == "" {
		doc, err := k.get(ctx, strings.TrimSuffix(k.issuer, "/")+"/.well-known/openid-configuration")
		if err != nil {
			return err
		}
		var d struct {
			Issuer  string `json:"issuer"`
			JWKSURI string `json:"jwks_uri"`
		}
		if err := json.Unmarshal(doc, &d); err != nil {
			return fmt.Errorf("discovery document: %w", err)
		}
		if d.Issuer != k.issuer || d.JWKSURI == "" {
			return fmt.Errorf("discovery document is of issuer %q, not %q, or names no jwks_uri", d.Issuer, k.issuer)
		}
		where = d.JWKSURI
	}
	raw, err := k.get(ctx, where)
	if err != nil {
		return err
	}
	if s := k.current.Load(); s != nil && bytes.Equal(s.raw, raw) {
		return nil
	}
	find, keys, left, err := usable(ctx, raw)
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	if keys == 0 {
		// An empty set would lock everybody out; a broken issuer must not.
		return fmt.Errorf("%s has no key that can verify a token", where)
	}
	k.current.Store(&Set{raw: raw, find: find})
	k.once.Do(func() { close(k.first) })
	k.log.Info("token issuer's keys are known", "issuer", k.issuer, "url", where, "keys", keys, "left_out", left)
	return nil
}

func (k *Ring) get(ctx context.Context, from string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	client, err := k.client(req.URL)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", from, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxDocument))
}

// await spares clients that a node which has just started turns them away:
// its first keys are a moment off, unless the issuer is. Lazy keys are fetched
// here; after a failure all are turned away at once until the next try.
func (k *Ring) await(ctx context.Context) error {
	if k.Known() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, firstFor)
	defer cancel()
	if k.lazy {
		if time.Now().UnixNano() < k.due.Load() {
			return ErrNoKeys
		}
		if err := k.Refresh(ctx); err != nil {
			k.log.Warn("keys of a tenant's issuer cannot be fetched", "issuer", k.issuer, "err", err)
			return fmt.Errorf("%w: %w", ErrNoKeys, err)
		}
		return nil
	}
	select {
	case <-k.first:
		return nil
	case <-ctx.Done():
		return ErrNoKeys
	}
}

// has tells whether the set has a key of that ID.
func (s *Set) has(ctx context.Context, kid string) bool {
	_, err := s.find.Storage().KeyRead(ctx, kid)
	return err == nil
}

// For returns the set to verify a token of that key ID with. An unknown ID
// is worth a fetch (the issuer may have rotated), but not one per request:
// whoever sends made-up IDs must not make us hammer the issuer.
func (k *Ring) For(ctx context.Context, kid string) (*Set, error) {
	if err := k.await(ctx); err != nil {
		return nil, err
	}
	s := k.current.Load()
	if !s.has(ctx, kid) && k.unknown.Allow() {
		if err := k.Refresh(ctx); err != nil {
			k.log.Warn("a token has an unknown key ID and the issuer's keys cannot be fetched", "issuer", k.issuer, "err", err)
		}
		s = k.current.Load()
	}
	return s, nil
}
