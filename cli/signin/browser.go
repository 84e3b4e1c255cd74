package signin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Browser has the person sign in in a browser, which open is given the address
// for. The issuer sends the browser back to a port of this machine, with a code
// that is worth nothing without what only this process knows.
func (p *Provider) Browser(ctx context.Context, open func(address string) error) (Tokens, error) {
	if p.authorize == "" {
		return Tokens{}, errors.New("the issuer has no page to sign in at; try --device")
	}
	ctx, cancel := context.WithTimeout(ctx, signInFor)
	defer cancel()
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return Tokens{}, fmt.Errorf("listen for the browser's return: %w", err)
	}
	redirect := "http://" + l.Addr().String() + "/callback"
	state, verifier, nonce := random(), random(), random()
	returned := make(chan result, 1)
	server := &http.Server{Handler: p.callback(state, returned), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l) // until it is shut down
	}()
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
		<-served
	}()
	address, err := p.address(redirect, state, verifier, nonce)
	if err != nil {
		return Tokens{}, err
	}
	if err := open(address); err != nil {
		return Tokens{}, err
	}
	var back result
	select {
	case back = <-returned:
	case <-ctx.Done():
		return Tokens{}, fmt.Errorf("nobody signed in: %w", ctx.Err())
	}
	if back.err != nil {
		return Tokens{}, back.err
	}
	t, idToken, err := p.exchange(ctx, url.Values{"grant_type": {"authorization_code"}, "code": {back.code}, "redirect_uri": {redirect}, "code_verifier": {verifier}})
	if err != nil {
		return t, err
	}
	if got, ok := claim(idToken, "nonce").(string); idToken != "" && (!ok || got != nonce) {
		return Tokens{}, errors.New("the issuer's ID token was made for another sign-in")
	}
	return t, nil
}

func (p *Provider) address(redirect, state, verifier, nonce string) (string, error) {
	u, err := url.Parse(p.authorize)
	if err != nil {
		return "", err
	}
	challenge := sha256.Sum256([]byte(verifier))
	q := u.Query()
	for name, value := range map[string]string{
		"response_type": "code", "client_id": p.ClientID, "redirect_uri": redirect, "scope": strings.Join(p.Scopes, " "), "state": state, "nonce": nonce,
		"code_challenge": base64.RawURLEncoding.EncodeToString(challenge[:]), "code_challenge_method": "S256",
	} {
		q.Set(name, value)
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

type result struct {
	code string
	err  error
}

// callback takes the one return that belongs to this sign-in.
func (p *Provider) callback(state string, returned chan<- result) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(state)) != 1 {
			http.Error(w, "This is not the sign-in that was begun.", http.StatusBadRequest)
			return
		}
		var back result
		switch {
		case q.Has("iss") && q.Get("iss") != p.URL: // RFC 9207
			back.err = fmt.Errorf("the answer is of issuer %q, not of %s", clip(q.Get("iss")), p.URL)
		case q.Get("error") != "":
			back.err = &Error{clip(q.Get("error")), clip(q.Get("error_description"))}
		case q.Get("code") == "":
			back.err = errors.New("the issuer sent no code")
		default:
			back.code = q.Get("code")
		}
		select {
		case returned <- back:
		default: // it came twice
		}
		if back.err != nil {
			http.Error(w, "Signing in failed; the terminal says why.", http.StatusBadRequest)
			return
		}
		_, _ = fmt.Fprintln(w, "You are signed in. Close this page and go back to the terminal.")
	})
	return mux
}
