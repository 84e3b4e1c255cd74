package vault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/freehold-db/freehold/internal/secret"
)

const (
	// youngFor is how old a token must be before a refusal makes us log in
	// again: whoever is denied something asks Vault for it once a second, not
	// with a login each.
	youngFor     = time.Second
	firstRetry   = 100 * time.Millisecond // between two logins of the keeper, doubled, with jitter
	longestRetry = 5 * time.Second
)

// session is one login.
type session struct {
	api    *api.Client // with its token
	secret *api.Secret
	began  time.Time
}

func (s *session) old() bool { return time.Since(s.began) > youngFor }

// bound tells whether Vault keeps the token, so that it can be renewed and revoked.
func (s *session) bound() bool { return s.secret.Auth != nil && s.secret.Auth.Accessor != "" }

// login returns the session, or a new one if there is none but refused.
// ErrUnavailable, or ErrDenied when Vault does not know what is shown.
func (c *Client) login(ctx context.Context, refused *session) (*session, error) {
	if s := c.session.Load(); s != nil && s != refused {
		return s, nil
	}
	select {
	case c.logins <- struct{}{}:
		defer func() { <-c.logins }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: log in: %w", secret.ErrUnavailable, ctx.Err())
	}
	if s := c.session.Load(); s != nil && s != refused { // another was faster
		return s, nil
	}
	path, shown, err := c.cfg.login()
	if err != nil {
		return nil, fmt.Errorf("%w: log in: %w", secret.ErrUnavailable, err)
	}
	began := time.Now() // not later than Vault's own clock says
	answer, err := c.bare.Logical().WriteWithContext(ctx, path, shown)
	if err = translate(err); err != nil {
		if says(err, "") { // "invalid role or secret ID" is a bad request to Vault
			err = fmt.Errorf("%w: %w", secret.ErrDenied, err)
		}
		return nil, fmt.Errorf("log in: %w", err)
	}
	if answer == nil || answer.Auth == nil || answer.Auth.ClientToken == "" {
		return nil, fmt.Errorf("%w: log in: Vault gave no token", secret.ErrUnavailable)
	}
	with, err := c.bare.CloneWithHeaders()
	if err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	with.SetToken(answer.Auth.ClientToken)
	s := &session{api: with, secret: answer, began: began}
	c.session.Store(s)
	c.answered()
	select {
	case c.fresh <- struct{}{}:
	default:
	}
	return s, nil
}

// keep has a session renewed before it ends, and logs in again when it can't
// be: at the end of its longest life, or after Vault was away. It also is who
// finds out, without any call, that Vault is back.
func (c *Client) keep() {
	var ended *session
	for pause := firstRetry; c.life.Err() == nil; {
		s, err := c.login(c.life, ended)
		if err != nil {
			if pause == firstRetry && c.life.Err() == nil {
				c.log.Warn("cannot log in at Vault, trying on", "error", err)
			}
			select {
			case <-time.After(pause/2 + rand.N(pause/2)):
			case <-c.fresh: // a call was faster
			case <-c.life.Done():
			}
			pause = min(2*pause, longestRetry)
			continue
		}
		if ended != nil || pause != firstRetry {
			c.log.Info("logged in at Vault", "ttl", time.Duration(s.secret.Auth.LeaseDuration)*time.Second)
		}
		pause = firstRetry
		c.watch(s)
		ended = s
		if !s.old() { // a token that lives for no time must not have us log in without end
			select {
			case <-time.After(youngFor/2 + rand.N(youngFor)):
			case <-c.life.Done():
			}
		}
	}
}

// watch renews a session until it can't be renewed any more or another took its place.
func (c *Client) watch(s *session) {
	watcher, err := s.api.NewLifetimeWatcher(&api.LifetimeWatcherInput{Secret: s.secret})
	if err != nil {
		c.log.Error("the token at Vault is not renewed", "error", err)
		select { // until a call finds it ended
		case <-c.fresh:
		case <-c.life.Done():
		}
		return
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		watcher.Start()
	}()
	defer func() {
		watcher.Stop()
		<-stopped
	}()
	for {
		select {
		case err := <-watcher.DoneCh():
			if err != nil {
				c.log.Info("the token at Vault is not renewed any more, logging in anew", "error", err)
			}
			return
		case <-watcher.RenewCh():
		case <-c.fresh:
			if c.session.Load() != s {
				return
			}
		case <-c.life.Done():
			return
		}
	}
}
