package signin_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/cli/signin"
	"github.com/freehold-db/freehold/internal/issuer"
)

const password = "correct horse"

func start(t *testing.T) (*issuer.Server, *signin.Provider) {
	t.Helper()
	dir := t.TempDir()
	s, err := issuer.Start(t.Context(), dir, "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop(context.Background())) })
	require.NoError(t, issuer.SetPerson(dir, issuer.Person{Name: "alice", Groups: []string{"support"}}, password))
	p, err := signin.Discover(t.Context(), signin.Issuer{Name: "dev", URL: s.URL(), ClientID: issuer.ClientID, Scopes: []string{"openid"}}, nil)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return s, p
}

// fill fills the form in as a browser would, and follows where it leads.
func fill(t *testing.T, address, name, secret string, more url.Values) (status int, page string) {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	form := u.Query()
	form.Set("name", name)
	form.Set("password", secret)
	for k, v := range more {
		form[k] = v
	}
	resp, err := http.PostForm(u.Scheme+"://"+u.Host+u.Path, form)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // read to its end
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}

func TestBrowser(t *testing.T) {
	t.Parallel()
	_, p := start(t)
	tokens, err := p.Browser(t.Context(), func(address string) error {
		go func() {
			u, _ := url.Parse(address)
			q := u.Query()
			back := q.Get("redirect_uri")
			if status, _ := fill(t, address, "alice", "wrong", nil); status != http.StatusForbidden {
				t.Errorf("a wrong password: %d", status)
			}
			if status, _ := fill(t, address, "bob", password, nil); status != http.StatusForbidden {
				t.Errorf("a stranger: %d", status)
			}
			// What did not begin here is not taken.
			resp, err := http.Get(back + "?code=stolen&state=other") //nolint:noctx // loopback, in a test
			if err != nil || resp.Body.Close() != nil || resp.StatusCode != http.StatusBadRequest {
				t.Errorf("another's state: %v %v", resp, err)
			}
			if status, page := fill(t, address, "alice", password, nil); status != http.StatusOK || !strings.Contains(page, "signed in") {
				t.Errorf("%d %s", status, page)
			}
		}()
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(tokens.Bearer, "."))
	require.Greater(t, time.Until(tokens.Expires), time.Minute)

	// A refresh token is good once.
	renewed, err := p.Renew(t.Context(), tokens)
	require.NoError(t, err)
	require.NotEqual(t, tokens.Refresh, renewed.Refresh)
	_, err = p.Renew(t.Context(), tokens)
	var refused *signin.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "invalid_grant", refused.Code)
}

// Without what only the process knows that began it, a code is worth nothing; and none is sent elsewhere.
func TestACodeAloneIsWorthNothing(t *testing.T) {
	t.Parallel()
	s, _ := start(t)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ask := func(redirect, challenge string) *http.Response {
		form := url.Values{"response_type": {"code"}, "client_id": {issuer.ClientID}, "redirect_uri": {redirect}, "state": {"s"},
			"code_challenge": {challenge}, "code_challenge_method": {"S256"}, "name": {"alice"}, "password": {password}}
		resp, err := client.PostForm(s.URL()+"/authorize", form)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp
	}
	challenge := strings.Repeat("A", 43)
	for _, redirect := range []string{"https://evil.example/callback", "http://evil.example/callback", "http://127.0.0.1.evil.example/", "//evil.example", "javascript:alert(1)", ""} {
		require.Equal(t, http.StatusBadRequest, ask(redirect, challenge).StatusCode, redirect)
	}
	require.Equal(t, http.StatusBadRequest, ask("http://127.0.0.1:1/callback", "").StatusCode, "no challenge")
	resp := ask("http://127.0.0.1:1/callback", challenge)
	require.Equal(t, http.StatusSeeOther, resp.StatusCode)
	back, err := resp.Location()
	require.NoError(t, err)
	for range 2 { // not with a wrong verifier, and not a second time
		out, err := http.PostForm(s.URL()+"/token", url.Values{"grant_type": {"authorization_code"}, "client_id": {issuer.ClientID},
			"redirect_uri": {"http://127.0.0.1:1/callback"}, "code": {back.Query().Get("code")}, "code_verifier": {"guessed"}})
		require.NoError(t, err)
		require.NoError(t, out.Body.Close())
		require.Equal(t, http.StatusBadRequest, out.StatusCode)
	}
}

func TestDevice(t *testing.T) {
	t.Parallel()
	_, p := start(t)
	tokens, err := p.Device(t.Context(), func(page, code string) {
		go func() {
			if status, _ := fill(t, page, "alice", password, url.Values{"user_code": {"BBBB-BBBB"}}); status != http.StatusForbidden {
				t.Errorf("a code that is none: %d", status)
			}
			if status, _ := fill(t, page, "alice", password, url.Values{"user_code": {code}}); status != http.StatusOK {
				t.Errorf("%d", status)
			}
		}()
	})
	require.NoError(t, err)
	require.NotEmpty(t, tokens.Bearer)
}

func TestIssuersThatAreNotBelieved(t *testing.T) {
	t.Parallel()
	liar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"issuer":"https://id.example","token_endpoint":"https://id.example/token"}`))
	}))
	defer liar.Close()
	for _, address := range []string{liar.URL, "http://id.example", "ftp://id.example", "https://user:pw@id.example"} {
		_, err := signin.Discover(t.Context(), signin.Issuer{URL: address, ClientID: "x"}, nil)
		require.Error(t, err, address)
	}
}

func TestLoginsAreTheirOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("HOME", dir)
	store, err := signin.OpenStore()
	require.NoError(t, err)
	_, err = store.Get("https://a")
	require.ErrorIs(t, err, signin.ErrNone)
	stale := signin.Login{Tokens: signin.Tokens{Bearer: "old", Refresh: "r", Expires: time.Now()}}
	require.NoError(t, store.Put("https://a", stale))
	path := filepath.Join(dir, "tenant-ops", "logins.json")
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	// Of many who need it fresh at once, one renews it.
	var renewals atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			l, err := store.Fresh("https://a", func(signin.Login) (signin.Tokens, error) {
				renewals.Add(1)
				return signin.Tokens{Bearer: "new", Refresh: "r2", Expires: time.Now().Add(time.Hour)}, nil
			})
			if err != nil || l.Bearer != "new" {
				t.Errorf("%v %v", l, err)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 1, renewals.Load())

	require.NoError(t, store.Put("https://a", stale))
	_, err = store.Fresh("https://a", func(l signin.Login) (signin.Tokens, error) { return l.Tokens, errors.New("away") })
	require.ErrorContains(t, err, "cannot be renewed")
	require.NoError(t, os.Chmod(path, 0o640))
	_, err = store.Get("https://a")
	require.ErrorContains(t, err, "open to other users")
	require.NoError(t, os.Chmod(path, 0o600))
	require.NoError(t, store.Delete("https://a"))
	require.ErrorIs(t, store.Delete("https://a"), signin.ErrNone)
}
