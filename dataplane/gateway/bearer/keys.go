// Package bearer decides who a bearer token or an API key speaks for: it keeps
// issuers' public keys, verifies tokens against them, and remembers what it
// verified. It knows nothing of HTTP answers.
//
// An issuer of the fleet speaks for the tenants that its tokens claim. A
// tenant's own issuer, and its API keys, speak for that tenant and no other.
//
// Import law: of this module, bearer imports shardmap and internal/access only.
package bearer

import (
	"bytes"
	"context"
	"encoding/json"
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

// keyring holds the public keys of one issuer and keeps them fresh. When the
// issuer cannot be reached the known keys go on. It is safe for concurrent use.
type keyring struct {
	issuer  string
	url     string // empty: discovered from the issuer
	client  func(*url.URL) (*http.Client, error)
	log     *slog.Logger
	current atomic.Pointer[keySet]
	first   chan struct{} // closed when keys were fetched for the first time
	once    sync.Once
	flight  singleflight.Group
	unknown *rate.Limiter
	// lazy keys are fetched when they are asked for, and not by Run: at the
	// earliest when they are due, in Unix nanoseconds.
	lazy bool
	due  atomic.Int64
}

// keySet is one state of the issuer's keys; a token verified with another one is verified again.
type keySet struct {
	raw  []byte
	find keyfunc.Keyfunc
}

// newFleetKeys names the issuer and where its JWKS is; with an empty jwksURL the
// issuer's discovery document says where. Nothing is fetched before [keyring.run].
func newFleetKeys(issuer, jwksURL string, log *slog.Logger) *keyring {
	client := newClient(nil)
	return newKeys(issuer, jwksURL, func(*url.URL) (*http.Client, error) { return client, nil }, log)
}

func newKeys(issuer, jwksURL string, client func(*url.URL) (*http.Client, error), log *slog.Logger) *keyring {
	return &keyring{issuer: issuer, url: jwksURL, client: client, log: log, first: make(chan struct{}),
		unknown: rate.NewLimiter(rate.Every(unknownEvery), 1)}
}

// known tells whether keys were ever fetched, so that tokens can be verified.
func (k *keyring) known() bool { return k.current.Load() != nil }

// run fetches the keys until it has them, then keeps them fresh until ctx
// ends. Failures are waited out with growing, jittered pauses.
func (k *keyring) run(ctx context.Context) {
	defer func() {
		if c, err := k.client(nil); err == nil {
			c.CloseIdleConnections()
		}
	}()
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 200*time.Millisecond, 10*time.Second
	for {
		wait := refreshEvery - rand.N(refreshEvery/10)
		if err := k.refresh(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			wait = pause.NextBackOff()
			k.log.Warn("token issuer's keys cannot be fetched", "issuer", k.issuer, "known", k.known(), "again_in", wait.Round(time.Millisecond), "err", err)
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

// refresh fetches the keys now, once for all who ask meanwhile. On an error the known keys stay.
func (k *keyring) refresh(ctx context.Context) error {
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

// kick begins to fetch lazy keys that are due, and waits for nothing.
func (k *keyring) kick(ctx context.Context, now time.Time) {
	if due := k.due.Load(); k.lazy && now.UnixNano() >= due && k.due.CompareAndSwap(due, now.Add(unknownEvery).UnixNano()) {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		_ = k.refresh(ctx)
	}
}

func (k *keyring) fetch(ctx context.Context) error {
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
	k.current.Store(&keySet{raw: raw, find: find})
	k.once.Do(func() { close(k.first) })
	k.log.Info("token issuer's keys are known", "issuer", k.issuer, "url", where, "keys", keys, "left_out", left)
	return nil
}

func (k *keyring) get(ctx context.Context, from string) ([]byte, error) {
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
func (k *keyring) await(ctx context.Context) error {
	if k.known() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, firstFor)
	defer cancel()
	if k.lazy {
		if time.Now().UnixNano() < k.due.Load() {
			return ErrNoKeys
		}
		if err := k.refresh(ctx); err != nil {
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
func (s *keySet) has(ctx context.Context, kid string) bool {
	_, err := s.find.Storage().KeyRead(ctx, kid)
	return err == nil
}

// setFor returns the set to verify a token of that key ID with. An unknown ID
// is worth a fetch (the issuer may have rotated), but not one per request:
// whoever sends made-up IDs must not make us hammer the issuer.
func (k *keyring) setFor(ctx context.Context, kid string) (*keySet, error) {
	if err := k.await(ctx); err != nil {
		return nil, err
	}
	s := k.current.Load()
	if !s.has(ctx, kid) && k.unknown.Allow() {
		if err := k.refresh(ctx); err != nil {
			k.log.Warn("a token has an unknown key ID and the issuer's keys cannot be fetched", "issuer", k.issuer, "err", err)
		}
		s = k.current.Load()
	}
	return s, nil
}
