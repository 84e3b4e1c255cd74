// Package bearer decides who a bearer token speaks for: it keeps the issuer's
// public keys, verifies tokens against them, and remembers what it verified.
// It knows nothing of HTTP answers.
//
// Import law: of this module, bearer imports shardmap and internal/access only.
package bearer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/cenkalti/backoff/v5"
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

// Keys holds the public keys of one issuer and keeps them fresh. When the
// issuer cannot be reached the known keys go on. It is safe for concurrent use.
type Keys struct {
	issuer  string
	url     string // empty: discovered from the issuer
	client  *http.Client
	log     *slog.Logger
	current atomic.Pointer[keySet]
	first   chan struct{} // closed when keys were fetched for the first time
	known   sync.Once
	flight  singleflight.Group
	unknown *rate.Limiter
}

// keySet is one state of the issuer's keys; a token verified with another one is verified again.
type keySet struct {
	raw  []byte
	find keyfunc.Keyfunc
}

// NewKeys names the issuer and where its JWKS is; with an empty jwksURL the
// issuer's discovery document says where. Nothing is fetched before [Keys.Run].
func NewKeys(issuer, jwksURL string, log *slog.Logger) *Keys {
	return &Keys{
		issuer: issuer, url: jwksURL, log: log, first: make(chan struct{}),
		client: &http.Client{
			Timeout: fetchFor,
			// A redirect would let whoever answers once choose who answers ever after.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		unknown: rate.NewLimiter(rate.Every(unknownEvery), 1),
	}
}

// Known tells whether keys were ever fetched, so that tokens can be verified.
func (k *Keys) Known() bool { return k.current.Load() != nil }

// Run fetches the keys until it has them, then keeps them fresh until ctx
// ends. Failures are waited out with growing, jittered pauses.
func (k *Keys) Run(ctx context.Context) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 200*time.Millisecond, 10*time.Second
	for {
		wait := refreshEvery - rand.N(refreshEvery/10)
		if err := k.Refresh(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			wait = pause.NextBackOff()
			k.log.Warn("token issuer's keys cannot be fetched", "known", k.Known(), "again_in", wait.Round(time.Millisecond), "err", err)
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
func (k *Keys) Refresh(ctx context.Context) error {
	fetched := k.flight.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchFor)
		defer cancel()
		return nil, k.fetch(ctx)
	})
	select {
	case r := <-fetched:
		return r.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (k *Keys) fetch(ctx context.Context) error {
	url := k.url
	if url == "" {
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
		url = d.JWKSURI
	}
	raw, err := k.get(ctx, url)
	if err != nil {
		return err
	}
	if s := k.current.Load(); s != nil && bytes.Equal(s.raw, raw) {
		return nil
	}
	find, err := keyfunc.NewJWKSetJSON(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	keys, err := find.Storage().KeyReadAll(ctx)
	if err != nil || len(keys) == 0 {
		// An empty set would lock everybody out; a broken issuer must not.
		return errors.Join(fmt.Errorf("%s has no key", url), err)
	}
	k.current.Store(&keySet{raw: raw, find: find})
	k.known.Do(func() { close(k.first) })
	k.log.Info("token issuer's keys are known", "url", url, "keys", len(keys))
	return nil
}

func (k *Keys) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", url, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxDocument))
}

// await spares clients that a node which has just started turns them away:
// its first keys are a moment off, unless the issuer is.
func (k *Keys) await(ctx context.Context) error {
	if k.Known() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, firstFor)
	defer cancel()
	select {
	case <-k.first:
		return nil
	case <-ctx.Done():
		return ErrNoKeys
	}
}

// has tells whether the set has a key of that ID.
func (s *keySet) has(ctx context.Context, kid string) bool {
	_, err := s.find.Storage().KeyRead(ctx, kid)
	return err == nil
}

// setFor returns the set to verify a token of that key ID with. An unknown ID
// is worth a fetch (the issuer may have rotated), but not one per request:
// whoever sends made-up IDs must not make us hammer the issuer.
func (k *Keys) setFor(ctx context.Context, kid string) (*keySet, error) {
	if err := k.await(ctx); err != nil {
		return nil, err
	}
	s := k.current.Load()
	if !s.has(ctx, kid) && k.unknown.Allow() {
		if err := k.Refresh(ctx); err != nil {
			k.log.Warn("a token has an unknown key ID and the issuer's keys cannot be fetched", "err", err)
		}
		s = k.current.Load()
	}
	return s, nil
}
