package signin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Device has the person sign in on another machine: show is given the page to
// go to, and the code to enter there.
func (p *Provider) Device(ctx context.Context, show func(page, code string)) (Tokens, error) {
	if p.device == "" {
		return Tokens{}, errors.New("the issuer gives no codes for other machines; sign in with a browser")
	}
	form := url.Values{"client_id": {p.ClientID}, "scope": {strings.Join(p.Scopes, " ")}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.device, strings.NewReader(form.Encode()))
	if err != nil {
		return Tokens{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var begun struct {
		DeviceCode string  `json:"device_code"`
		UserCode   string  `json:"user_code"`
		Page       string  `json:"verification_uri"`
		ExpiresIn  float64 `json:"expires_in"`
		Interval   float64 `json:"interval"`
	}
	if err := p.do(req, &begun); err != nil {
		return Tokens{}, err
	}
	if begun.DeviceCode == "" || begun.UserCode == "" || trustworthy(begun.Page) != nil {
		return Tokens{}, errors.New("the issuer gave no code to sign in with")
	}
	ctx, cancel := context.WithTimeout(ctx, min(max(time.Duration(begun.ExpiresIn*float64(time.Second)), time.Minute), 3*signInFor))
	defer cancel()
	show(clip(begun.Page), clip(begun.UserCode))
	every := 5 * time.Second // RFC 8628 §3.2
	if begun.Interval > 0 {
		every = min(time.Duration(begun.Interval*float64(time.Second)), time.Minute)
	}
	for {
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return Tokens{}, fmt.Errorf("nobody signed in: %w", ctx.Err())
		}
		t, _, err := p.exchange(ctx, url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {begun.DeviceCode}})
		var refused *Error
		switch {
		case errors.As(err, &refused) && refused.Code == "authorization_pending":
		case errors.As(err, &refused) && refused.Code == "slow_down":
			every += 5 * time.Second
		default:
			return t, err
		}
	}
}
