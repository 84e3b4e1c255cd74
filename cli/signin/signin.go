// Package signin has a person sign in at an OpenID Connect issuer, from a
// terminal: in the browser (authorization code with PKCE, on a listener on the
// loopback interface, RFC 8252), or with a code on another machine (device
// authorization, RFC 8628). It keeps what came of it, and refreshes it.
//
// Import law: of this module, signin imports nothing.
package signin

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Issuer is where somebody signs in, and as which client.
type Issuer struct {
	Name     string   `json:"name"`
	URL      string   `json:"url"`
	ClientID string   `json:"client_id"`
	Scopes   []string `json:"scopes"`
	// UseIDToken: the ID token is what the control plane takes; else the access token.
	UseIDToken bool `json:"use_id_token"`
}

// Tokens are what the issuer gave.
type Tokens struct {
	// Bearer is what the control plane takes.
	Bearer  string    `json:"bearer"`
	Refresh string    `json:"refresh,omitempty"` // empty: it can't be refreshed
	Expires time.Time `json:"expires"`
}

// Error is the issuer's refusal.
type Error struct{ Code, Description string }

// Error has the issuer's own words.
func (e *Error) Error() string {
	if e.Description == "" {
		return "the issuer refused it: " + e.Code
	}
	return "the issuer refused it: " + e.Code + " (" + e.Description + ")"
}

const (
	answerFor = 15 * time.Second
	// signInFor is how long a person has.
	signInFor   = 5 * time.Minute
	maxAnswer   = 1 << 20
	leastLife   = time.Second
	maxSaidText = 200
)

// Provider is an issuer whose endpoints are known.
type Provider struct {
	Issuer
	http      *http.Client
	authorize string
	token     string
	device    string
}

// Discover reads where an issuer's endpoints are. secure says by which roots
// it is believed; nil: the system's. Plain http will do on the loopback interface only.
func Discover(ctx context.Context, issuer Issuer, secure *tls.Config) (*Provider, error) {
	p := &Provider{Issuer: issuer, http: &http.Client{Timeout: answerFor,
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: secure, ForceAttemptHTTP2: true, ResponseHeaderTimeout: answerFor},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	if err := trustworthy(issuer.URL); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(issuer.URL, "/")+"/.well-known/openid-configuration", nil)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Issuer string `json:"issuer"`
		Auth   string `json:"authorization_endpoint"`
		Token  string `json:"token_endpoint"`
		Device string `json:"device_authorization_endpoint"`
	}
	if err := p.do(req, &doc); err != nil {
		return nil, fmt.Errorf("issuer %s: %w", issuer.URL, err)
	}
	if doc.Issuer != issuer.URL {
		return nil, fmt.Errorf("issuer %s says that it is %q", issuer.URL, clip(doc.Issuer))
	}
	for _, endpoint := range []string{doc.Auth, doc.Token, doc.Device} {
		if endpoint != "" {
			if err := trustworthy(endpoint); err != nil {
				return nil, err
			}
		}
	}
	if doc.Token == "" {
		return nil, fmt.Errorf("issuer %s names no token endpoint: nobody can sign in there", issuer.URL)
	}
	p.authorize, p.token, p.device = doc.Auth, doc.Token, doc.Device
	return p, nil
}

// Close ends idle connections.
func (p *Provider) Close() { p.http.CloseIdleConnections() }

// trustworthy refuses addresses where anybody on the way could listen.
func trustworthy(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil {
		return fmt.Errorf("%q is no URL", clip(s))
	}
	if u.Scheme == "https" {
		return nil
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("%s is not https: tokens would be readable on the way", u.Redacted())
}

// Renew gets new tokens for those that have a refresh token.
func (p *Provider) Renew(ctx context.Context, t Tokens) (Tokens, error) {
	fresh, _, err := p.exchange(ctx, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {t.Refresh}})
	if err == nil && fresh.Refresh == "" {
		fresh.Refresh = t.Refresh // it goes on
	}
	return fresh, err
}

// exchange asks the token endpoint. idToken is the ID token, if there is one.
func (p *Provider) exchange(ctx context.Context, form url.Values) (t Tokens, idToken string, err error) {
	form.Set("client_id", p.ClientID)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.token, strings.NewReader(form.Encode()))
	if err != nil {
		return t, "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var out struct {
		AccessToken  string  `json:"access_token"`
		IDToken      string  `json:"id_token"`
		RefreshToken string  `json:"refresh_token"`
		ExpiresIn    float64 `json:"expires_in"`
	}
	if err := p.do(req, &out); err != nil {
		return t, "", err
	}
	t = Tokens{Bearer: out.AccessToken, Refresh: out.RefreshToken, Expires: time.Now().Add(time.Duration(out.ExpiresIn * float64(time.Second)))}
	if p.UseIDToken {
		t.Bearer = out.IDToken
	}
	if exp, ok := claim(t.Bearer, "exp").(float64); ok {
		t.Expires = time.Unix(int64(exp), 0)
	}
	if t.Bearer == "" || time.Until(t.Expires) < leastLife {
		return t, "", errors.New("the issuer gave no token that is valid now")
	}
	return t, out.IDToken, nil
}

// do sends a request and reads its JSON answer.
func (p *Provider) do(req *http.Request, out any) error {
	req.Header.Set("Accept", "application/json")
	resp, err := p.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) { // whose text has the URL, and who knows what in it
			err = u.Err
		}
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end or given up
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		var refusal struct {
			Error       string `json:"error"`
			Description string `json:"error_description"`
		}
		if json.Unmarshal(body, &refusal) == nil && refusal.Error != "" {
			return &Error{clip(refusal.Error), clip(refusal.Description)}
		}
		return fmt.Errorf("the issuer answered %s", resp.Status)
	}
	if err := json.Unmarshal(body, out); err != nil {
		return errors.New("the issuer's answer is not JSON")
	}
	return nil
}

// claim reads one claim of a token that came from the issuer itself; whether it is good is the control plane's to judge.
func claim(token, name string) any {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil
	}
	var claims map[string]any
	if json.Unmarshal(payload, &claims) != nil {
		return nil
	}
	return claims[name]
}

// random is a text that nobody guesses.
func random() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// clip bounds what an issuer says before it gets to a terminal.
func clip(s string) string {
	r := []rune(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s))
	return string(r[:min(len(r), maxSaidText)])
}
